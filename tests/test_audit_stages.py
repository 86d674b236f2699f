"""Each stage of the audit, on models and stub attacks whose figures are known by hand."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import Of

from attacks import Budget, audit
from attacks.audit import Audit, Ball
from attacks.nearest import Unsteady
from reports import audit as verdicts
from reports.checks import check_figures

STAGES = importlib.import_module("attacks.audit")  # in the package, `audit` is the function
GREY = torch.arange(8)[:, None] / 8  # eight images of one pixel, each known by its value
ONES = torch.ones(8, dtype=torch.int64)
Figures = dict[tuple[str, str, float], float]  # (measure, attack, eps), eps 0 where it is of none


def both(margin: Tensor) -> Tensor:
    """Logits of two classes that are a margin apart; class 0 where it is positive."""
    return torch.stack([margin / 2, -margin / 2], 1)


FLAT = Of(lambda x: torch.stack([(x.amax(1) > 5) + 0 * x.sum(1), 0 * x.sum(1) + 0.5], 1))
"""Class 1 in all of the ball and without a gradient: no attack breaks an image but one that marks it."""


def mark(x: Tensor, *images: int) -> Tensor:
    """x with those of the images of GREY broken for FLAT."""
    return torch.where(torch.isin(x, GREY[list(images)]), 10.0, x)


def small(radii: tuple[float, ...], ball: Ball = "Linf", **more: int) -> Budget:
    """One step of everything, unless it says else."""
    least = {
        "images": 8,
        "steps": 1,
        "restarts": 1,
        "more_steps": 2,
        "more_restarts": 1,
        "minimum_norm_steps": 1,
        "decision_images": 6,
        "decision_steps": 1,
        "noise_draws": 1,
    }
    return Budget(eps={ball: radii}, **least | more)


def figures(model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> Figures:
    rows = audit(model, x, y, budget)
    return {(row.measure, row.attack, 0.0 if math.isnan(row.eps) else row.eps): row.value for row in rows}


def test_an_audit_is_the_same_where_gradients_are_switched_off() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.rand(8, 12)
    wanted = figures(model, x, ONES, small((0.1, 0.3), "L2"))
    with torch.inference_mode():
        assert figures(model, x.clone(), ONES.clone(), small((0.1, 0.3), "L2")) == wanted
    assert any(attack == "single-step/float64" for _, attack, _ in wanted)


# ------------------------------------------------------------------------------------------------ stub attacks


def test_the_worst_case_counts_every_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attack breaks one image that no other breaks; the minimum-norm ones say at what distance."""

    def at(image: int, distance: float, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.where(x[:, 0] == GREY[image, 0], distance, math.inf).double()

    stubs: dict[str, Any] = {
        "step": lambda gradient, **_: 10.0 * torch.eye(8, 1, dtype=gradient.dtype),
        "pgd": lambda model, x, y, *, steps, **_: mark(x, 1 if steps == 1 else 2),
        "minimum_norm": lambda model, x, y, **_: at(3, 0.5, x),
        "decision_based": lambda model, x, y, **_: at(4, 0.25, x),
        "noise": lambda x, *, kind, **_: mark(x, 5 if kind == "uniform" else 6),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(STAGES, name, stub)
    found = figures(FLAT, GREY, ONES, small((1.0,)))
    errors = {key[1]: value for key, value in found.items() if key[0] == "attacked_error" and key[2] == 1}
    steps = "single-step", "single-step/margin", "single-step/float64"
    alone = dict.fromkeys([*steps, "pgd-1x1", "fmn-1", "noise-uniform-1", "noise-gaussian-1"], 1 / 8)
    assert errors == alone | {
        "pgd-2x1": 2 / 8,  # its own and that of pgd-1x1, which it goes on from
        "hsj-1": pytest.approx(1 / 6),  # of the first six
        "worst-8": 7 / 8,
    }
    least = [1, 1, 1, 0.5, 0.25, 1, 1, math.inf]  # of each image
    worst = {key[2]: value for key, value in found.items() if key[1] == "worst-8"}
    assert len(worst) == 12
    assert worst == {eps: sum(one <= eps for one in least) / 8 for eps in worst}
    assert found["white_box_error", "hsj-1", 1.0] == pytest.approx(4 / 6), "images 0 to 3"


@pytest.mark.parametrize(("white", "verdict"), [(3, "fail"), (4, "pass")])
def test_a_black_box_that_breaks_more_than_all_gradients_is_told(
    monkeypatch: pytest.MonkeyPatch, white: int, verdict: str
) -> None:
    """It breaks four of the first six images, gradients three or four of them and one that it has not seen."""
    monkeypatch.setattr(STAGES, "pgd", lambda model, x, y, **_: mark(x, *range(white), 7))
    blind = torch.tensor([0.5, 0.5, 0.5, 0.5, math.inf, math.inf]).double()
    monkeypatch.setattr(STAGES, "decision_based", lambda model, x, y, **_: (x, blind))
    rows = pd.DataFrame([vars(row) for row in audit(FLAT, GREY, ONES, small((1.0,)))])
    shares = rows[rows["attack"] == "hsj-1"].set_index("measure")["value"].to_dict()
    assert shares == pytest.approx({"white_box_error": white / 6, "attacked_error": 4 / 6})
    about = {"dataset": "digits", "model": "net", "labels": 50, "seed": 0, "epoch": 1, "subset": ""}
    rows = rows.assign(**about)
    said = verdicts.table(rows, check_figures(rows)).set_index("check").loc["white box beats black box"]
    assert said["verdict"] == verdict
    assert said["figure"] == pytest.approx((4 - white) / 6)


def test_a_decision_based_attack_that_gets_other_answers_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsteady(*given: Any, **_: Any) -> None:
        raise Unsteady("expected the same answers")

    monkeypatch.setattr(STAGES, "decision_based", unsteady)
    attacks = {finding.attack for finding in audit(FLAT, GREY, ONES, small((1.0,)))}
    assert not any(attack.startswith("hsj") for attack in attacks)
    assert any(attack.startswith("noise") for attack in attacks)


def test_ascent_starts_again_near_what_the_minimum_norm_attack_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(STAGES, "minimum_norm", lambda model, x, y, **_: (x + 0.25, torch.ones(len(x)).double()))
    monkeypatch.setattr(STAGES, "pgd", lambda model, x, y, *, near, **_: given.append(near - x) or x)
    audit(FLAT, GREY, ONES, small((1.0,)))
    assert len(given) == 2
    assert all((moved == 0.25).all() for moved in given)


def test_more_steps_go_to_what_stood_at_the_radius_that_breaks_about_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, five and eight images of eight break at 0.1, 0.2 and 0.4; more steps break one of the three left at 0.2."""
    calls = []

    def pgd(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, steps: int, restarts: int, **_: Any) -> Tensor:
        calls.append((eps, steps, restarts, (8 * x[:, 0]).int().tolist()))
        return mark(x, *range({0.1: 1, 0.2: 5, 0.4: 8}[eps])) if steps == 2 else mark(x, 5)

    monkeypatch.setattr(STAGES, "pgd", pgd)
    budget = small((0.1, 0.2, 0.4), steps=2, restarts=4, more_steps=7, more_restarts=5)
    found = figures(FLAT, GREY, ONES, budget)
    every = list(range(8))
    assert calls == [*((eps, 2, 4, every) for eps in (0.1, 0.2, 0.4)), (0.2, 7, 5, [5, 6, 7])]
    errors = {key[1:]: value for key, value in found.items() if key[1].startswith("pgd")}
    usual = {("pgd-2x4", 0.1): 1 / 8, ("pgd-2x4", 0.2): 5 / 8, ("pgd-2x4", 0.4): 1.0}
    assert errors == usual | {("pgd-7x5", 0.2): 6 / 8}


def test_noise_is_drawn_as_often_as_the_budget_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draw of seed k breaks image k; any of several draws counts."""
    monkeypatch.setattr(STAGES, "noise", lambda x, *, seed, **_: mark(x, seed))
    for draws in (1, 3):
        found = figures(FLAT, GREY, ONES, small((1.0,), noise_draws=draws))
        for kind in ("uniform", "gaussian"):
            assert found["attacked_error", f"noise-{kind}-{draws}", 1.0] == draws / 8


# ------------------------------------------------------------------------------------------------- real attacks


def test_a_step_in_float64_sees_where_float32_underflows() -> None:
    """Margin 200: the cross-entropy's gradient is exp(-200) = 1e-87 of the logits'. One step of 0.3 is past 1/2."""
    x, y = torch.full((4, 3), 0.75), torch.zeros(4, dtype=torch.int64)
    found = figures(Of(lambda x: both(800 * (x.mean(1) - 0.5))), x, y, small((0.3,), ball="Linf"))
    zero = {key[1]: value for key, value in found.items() if key[0] == "zero_gradient_share"}
    assert zero == {"single-step": 1, "single-step/margin": 0, "single-step/float64": 0}
    errors = {attack: found["attacked_error", attack, 0.3] for attack in zero}
    assert errors == {"single-step": 0, "single-step/margin": 1, "single-step/float64": 1}


GRADIENT = torch.tensor([6.0, 3.0, 2.0]) / 7


@pytest.mark.parametrize(
    "margin",
    [
        lambda x: 0.15 - ((0.5 - x) * GRADIENT).sum(1),
        lambda x: 0.11 - ((0.5 - x).clamp_max(0.12) * GRADIENT).sum(1),
    ],
    ids=["pixel", "spread"],
)
def test_a_single_step_in_l1_is_on_one_pixel_and_spread_whichever_breaks(margin: Callable[[Tensor], Tensor]) -> None:
    """Steps of 0.2 gain 6/7 of it on one pixel and 7/11 spread; where a pixel gains up to 0.12, 0.103 and 0.127."""
    x, y = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.int64)
    found = figures(Of(lambda x: both(margin(x))), x, y, small((0.2,), ball="L1"))
    for attack in ("single-step", "single-step/margin", "single-step/float64"):
        assert found["attacked_error", attack, 0.2] == 1


def test_answers_that_depend_on_the_company_in_the_batch_are_unsteady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less the batch's mean: 0.4375 of all, 0.125 and 0.75 of the halves. A decision-based attack might never end."""
    monkeypatch.setattr(STAGES, "decision_based", lambda model, x, y, **_: (x, x[:, 0].double()))
    x, y = torch.tensor([[0.0], [0.25], [0.5], [1.0]]), torch.tensor([1, 1, 0, 0])
    model = Of(lambda x: both(2 * (x - x.mean(0))[:, 0]))
    assert torch.equal(model(x), model(x)), "it answers the same question the same"
    found = figures(model, x, y, small((0.1,)))
    assert found["nondeterminism", "audit", 0] == 0.3125
    assert not any(attack.startswith("hsj") for _, attack, _ in found)


@pytest.mark.parametrize(("an_image", "difference"), [(1e-5, 0.0), (1e-2, 0.02)])
def test_rounding_that_depends_on_the_batch_is_not_unsteady(an_image: float, difference: float) -> None:
    """Logits, the largest 0.6, grow with the size of the batch: four images, then two and two."""
    x, y = torch.tensor([[0.0], [0.25], [0.5], [1.0]]), torch.tensor([1, 1, 0, 0])
    model = Of(lambda x: both(2 * x[:, 0] - 0.8) + an_image * len(x))
    assert Audit(model, x, y, small((0.1,))).unsteadiness().item() == pytest.approx(difference, rel=1e-4)
