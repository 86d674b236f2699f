"""The audit: sound models pass, a masked one is caught, an undefended one falls."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import zoo
from attacks import Budget, audit
from attacks.audit import Audit
from reports import audit as verdicts
from reports.checks import check_figures

DIGITS = zoo.load_dataset("digits")
SMALL = Budget(
    images=60,
    eps={"L1": (1.0, 5.0, 60.0), "L2": (0.3, 1.0, 8.0), "Linf": (0.05, 0.2, 1.0)},
    steps=20,
    more_steps=40,
    minimum_norm_steps=60,
    decision_images=8,
    decision_steps=6,
    noise_draws=3,
)


@pytest.fixture(scope="module")
def undefended() -> nn.Module:
    """A small net trained on digits with nothing but cross-entropy."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(DIGITS.images), DIGITS.labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


class Scaled(nn.Module):
    """The same decisions with logits times a factor."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.model(x)


class Noisy(Scaled):
    """Never twice the same answer."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + 0.1 * torch.randn(len(x), 10)


def found(model: nn.Module, budget: Budget = SMALL) -> pd.DataFrame:
    """An audit as a report gets it."""
    rows = [vars(finding) for finding in audit(model, DIGITS.test_images, DIGITS.test_labels, budget)]
    about = {"dataset": "digits", "model": "net", "labels": 50, "seed": 0, "epoch": 1, "subset": ""}
    return pd.DataFrame(rows).assign(**about)


def verdict(records: pd.DataFrame) -> dict[str, str]:
    return verdicts.table(records, check_figures(records)).set_index("check")["verdict"].to_dict()


@pytest.fixture(scope="module")
def of_undefended(undefended: nn.Module) -> pd.DataFrame:
    return found(undefended)


# ------------------------------------------------------------------------------------------------- real models


def test_an_undefended_model_falls_and_its_audit_holds(of_undefended: pd.DataFrame) -> None:
    errors = of_undefended[of_undefended["measure"] == "attacked_error"].set_index(["attack", "norm", "eps"])["value"]
    clean = of_undefended.loc[of_undefended["measure"] == "clean_error", "value"].item()
    assert clean < 0.1
    for ball, eps in (("L1", 5.0), ("L2", 1.0), ("Linf", 0.2)):
        assert errors["pgd-20x2" if ball == "Linf" else "pgd-40x4", ball, eps] > 0.6
        assert errors["noise-gaussian-3", ball, eps] < 0.3
    assert (errors.loc["worst-60"].groupby("norm").max() == 1).all()
    said = verdict(of_undefended)
    assert said.pop("steps of full length") == said.pop("one step grows with eps") == "not run"
    assert said.pop("white box beats transfer") == "not run"
    assert {name for name, of in said.items() if of != "pass"} <= {
        "many steps beat the rest",
        "more steps change nothing",
    }, "sixty images: an image is 1.7 points"


def test_a_masked_model_is_caught(undefended: nn.Module, of_undefended: pd.DataFrame) -> None:
    """Logits times 1e4: the same decisions, but one step of the cross-entropy sees nothing."""
    masked = found(Scaled(undefended, 1e4))
    said = verdict(masked)
    for check in ("softmax not saturated", "gradients not zero", "cross-entropy is enough"):
        assert said[check] == "fail"
    errors = [
        of[of["measure"] == "attacked_error"].set_index(["attack", "norm", "eps"])["value"]
        for of in (of_undefended, masked)
    ]
    blind = [of["single-step", "Linf", 0.2] for of in errors]
    assert blind[1] < blind[0] - 0.3, "it looks robust"
    many = [of["pgd-20x2", "Linf", 0.2] for of in errors]
    assert abs(many[1] - many[0]) < 0.05, "and is not"
    marks = verdicts.marks(check_figures(masked))
    assert all("gradients not zero" in marks["digits", "net", 50, norm] for norm in verdicts.BALL)


def test_an_answer_that_changes_is_seen(undefended: nn.Module) -> None:
    torch.manual_seed(0)
    few = Budget(images=20, eps={"Linf": (0.2, 1.0)}, steps=2, more_steps=3, minimum_norm_steps=2, decision_images=1)
    torch.manual_seed(3)
    before, of_noisy = torch.get_rng_state(), found(Noisy(undefended, 1), few)
    assert verdict(of_noisy)["deterministic"] == "fail"
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    pd.testing.assert_frame_equal(found(Noisy(undefended, 1), few), of_noisy)


def test_every_figure_is_there_and_the_same_on_every_call(undefended: nn.Module, of_undefended: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found(undefended), of_undefended)
    errors = of_undefended[of_undefended["measure"] == "attacked_error"]
    for attack in (
        "single-step",
        "single-step/margin",
        "single-step/float64",
        "noise-uniform-3",
        "noise-gaussian-3",
        "pgd-20x2",
        "fmn-60",
        "worst-60",
    ):
        for ball, radii in SMALL.eps.items():
            twice = {"fmn-60": ("fmn-120", "fmn-60", "fmn-60"), "pgd-20x2": ("pgd-40x4", "pgd-40x4", "pgd-20x2")}
            name = dict(zip(SMALL.eps, twice.get(attack, [attack] * 3), strict=True))[ball]
            own = errors[(errors["attack"] == name) & (errors["norm"] == ball)]
            assert set(radii) <= set(own["eps"]), (attack, ball)
    more = errors[errors["attack"].isin(["pgd-40x3", "pgd-80x6"])]
    assert more.set_index("norm")["attack"].to_dict() == {"L1": "pgd-80x6", "L2": "pgd-80x6", "Linf": "pgd-40x3"}
    assert len(more) == 3
    assert set(errors.loc[errors["attack"] == "hsj-6", "norm"]) == {"L2", "Linf"}
    assert (errors["n"] == np.where(errors["attack"] == "hsj-6", 8, 60)).all()


def test_the_worst_case_is_over_attacks_image_by_image(of_undefended: pd.DataFrame) -> None:
    """Within an eps: at least what any attack broke at it or at a smaller one."""
    errors = of_undefended[of_undefended["measure"] == "attacked_error"]
    errors = errors[~errors["attack"].str.startswith("hsj")]
    for _, ball in errors.groupby("norm"):
        wide = ball.pivot(index="eps", columns="attack", values="value").sort_index()
        worst, others = wide["worst-60"], wide.drop(columns="worst-60").max(axis=1)
        assert len(worst) == 3 + 12 - 1, "radii, and a curve that ends in the last of them"
        assert (worst >= others.fillna(0).cummax() - 1e-12).all()
        assert worst.is_monotonic_increasing


def test_what_an_attack_breaks_within_a_radius_it_breaks_within_a_larger_one() -> None:
    """By hand: images at distances 0 (wrong as it is), 1, 2 and 3 from a boundary that one attack finds at a time."""
    model = nn.Linear(1, 2, bias=False).eval()
    model.weight.data = torch.tensor([[-1.0], [1.0]])
    x, y = torch.tensor([[0.5], [0.1], [0.2], [0.3]]), torch.tensor([0, 1, 1, 1])
    of = Audit(model, x, y, Budget(images=4, eps={"L2": (0.15, 0.25, 0.5)}))
    assert of.worst("L2", 0.15).tolist() == [True, False, False, False]
    of.strike("one", "L2", 0.25, x - torch.tensor([[0.0], [0.2], [0.0], [0.0]]))
    assert of.worst("L2", 0.15).tolist() == [True, False, False, False]
    assert of.worst("L2", 0.25).tolist() == of.worst("L2", 0.5).tolist() == [True, True, False, False]
    of.strike("other", "L2", 0.15, x - torch.tensor([[0.0], [0.15], [0.15], [0.0]]))
    assert of.worst("L2", 0.15).tolist() == [True, True, False, False]
    of.strike("more", "L2", 0.5, x, fell=torch.tensor([False, False, True, False]))
    assert of.worst("L2", 0.5).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(64, 10), nn.Softmax(1)).eval(), "expected logits, got probabilities"),
        (nn.Linear(64, 10), "expected a model in evaluation mode"),
        (Scaled(nn.Linear(64, 10), math.nan), "expected finite logits, got values that are not on 60 of 60 images"),
        (nn.Linear(64, 1).eval(), "expected logits of shape (60, classes), got (60, 1)"),
    ],
    ids=["probabilities", "training", "nan", "one class"],
)
def test_what_cannot_be_audited_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is compared
        audit(model, DIGITS.test_images, DIGITS.test_labels, SMALL)
    assert message in str(caught.value)
