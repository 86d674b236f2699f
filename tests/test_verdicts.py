"""Each verdict of an audit, and the marks of one step, on figures made up by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from attacks import BALLS
from reports import audit as verdicts
from reports.checks import CHECKS, check_figures


def verdict(records: pd.DataFrame) -> dict[str, str]:
    return verdicts.table(records, check_figures(records)).set_index("check")["verdict"].to_dict()


SOUND = {
    "fgm": (0.2, 0.55, 0.7),
    "pgd-40x2": (0.3, 0.6, 0.95),
    "pgd-100x3": (math.nan, 0.605, math.nan),
    "single-step": (0.2, 0.57, 0.7),
    "single-step/margin": (0.205, 0.57, 0.7),
    "single-step/float64": (0.2, 0.57, 0.7),
    "noise-uniform-10": (0.1, 0.1, 0.4),
    "transfer/ladder": (0.15, 0.2, 0.6),
    "worst-1000": (0.305, 0.61, 0.96),
    "hsj-10": (0.1, 0.3, 0.8),
}
BREAKS = {
    "one step is enough": {"single-step": (0.2, 0.5, 0.7), "single-step/float64": (0.2, 0.5, 0.7)},
    "one step grows with eps": {"fgm": (0.2, 0.19, 0.7)},
    "error grows with eps": {"pgd-40x2": (0.7, 0.6, 0.95), "worst-1000": (0.7, 0.6, 0.95)},
    "large eps leaves a guess": {"pgd-40x2": (0.3, 0.6, 0.89), "worst-1000": (0.3, 0.6, 0.89)},
    "many steps beat one": {"single-step": (0.32, 0.57, 0.7)},
    "more steps change nothing": {"pgd-100x3": (math.nan, 0.62, math.nan)},
    "float32 is enough": {"single-step/float64": (0.2, 0.58, 0.7)},
    "cross-entropy is enough": {"single-step": (0.04, 0.57, 0.7), "single-step/float64": (0.04, 0.57, 0.7)},
    "gradients beat noise": {"noise-uniform-10": (0.31, 0.1, 0.4)},
    "white box beats transfer": {"transfer/ladder": (0.15, 0.605, 0.6)},
    "many steps beat the rest": {"worst-1000": (0.33, 0.61, 0.96)},
    "white box beats black box": {"hsj-10": (0.4, 0.3, 0.8)},
    "softmax not saturated": {"saturated_share": 0.02},
    "gradients not zero": {"zero_gradient_share": 0.02},
    "gradients finite": {"nonfinite_gradient_share": 0.001},
    "steps of full length": {"short_share": 0.02},
    "deterministic": {"nondeterminism": 1e-6},
    "outputs are logits": {"probability_share": 0.5},
}
SHARES = {
    "probability_share": "audit",
    "saturated_share": "audit",
    "nondeterminism": "audit",
    "zero_gradient_share": "single-step",
    "nonfinite_gradient_share": "single-step",
    "short_share": "fgm",
}


SHARES_SAY = (
    "outputs are logits",
    "deterministic",
    "softmax not saturated",
    "gradients not zero",
    "gradients finite",
)


def records(changes: dict[str, object]) -> pd.DataFrame:
    """A checkpoint's audit by hand, L-infinity alone, with some figures in the place of sound ones."""
    rows = [
        ("attacked_error", attack, "Linf", eps, value)
        for attack, values in (SOUND | {k: v for k, v in changes.items() if k not in SHARES}).items()
        for eps, value in zip((0.1, 0.3, 1.0), values, strict=True)
    ]
    rows += [("white_box_error", "hsj-10", "Linf", eps, value) for eps, value in ((0.1, 0.3), (0.3, 0.6), (1.0, 1.0))]
    rows += [("clean_error", "fgm", "Linf", eps, 0.05) for eps in (0.1, 0.3, 1.0)]
    rows += [(name, attack, "", math.nan, changes.get(name, 0.0)) for name, attack in SHARES.items()]
    frame = pd.DataFrame(rows, columns=["measure", "attack", "norm", "eps", "value"])
    return frame.assign(dataset="mnist", model="vat", labels=50, seed=1, epoch=9, n=1000, subset="")


def test_sound_figures_pass_every_check() -> None:
    assert set(verdict(records({})).values()) == {"pass"}
    assert set(BREAKS) == {check.name for check in CHECKS}


@pytest.mark.parametrize("check", BREAKS)
def test_each_check_fails_on_its_own_figure_alone(check: str) -> None:
    said = verdict(records(BREAKS[check]))
    assert [name for name, of in said.items() if of != "pass"] == [check]
    figures = check_figures(records(BREAKS[check]))
    marked = {key[3]: reasons for key, reasons in verdicts.marks(figures).items()}
    of_model = check in {*SHARES_SAY, "steps of full length"}
    of_one_step = next(each for each in CHECKS if each.name == check).doubts == "one step"
    of_many = {key[3]: reasons for key, reasons in verdicts.marks(figures, "many steps").items()}
    affected = {key: [check] for key in verdicts.BALL} if of_model else {"Linf": [check]}
    assert marked == (affected if of_one_step else {})
    assert of_many == ({} if of_one_step else affected)


@pytest.mark.parametrize(
    ("curve", "verdict_", "marked"),
    [
        ((0.2, 0.55, 0.7), "pass", False),
        ((0.04, 0.55, 0.7), "fail", True),  # below the clean error of 0.05
        ((0.2, 0.194, 0.7), "fail", True),
        ((0.2, 0.196, 0.7), "pass", False),
        ((0.2, 0.55, 0.5), "fail", False),  # beyond the eps that is shown
    ],
)
def test_one_step_is_doubted_where_its_curve_falls_below_an_eps_that_is_shown(curve, verdict_, marked) -> None:
    rows = records({"fgm": curve})
    assert verdict(rows)["one step grows with eps"] == verdict_
    mark = {("mnist", "vat", 50, "Linf"): ["one step grows with eps"]}
    shown = {"L1-spread": 500.0, "Linf": 0.3}  # what is shown of another norm says nothing of this one
    assert verdicts.marks(check_figures(rows), shown_to=shown) == (mark if marked else {})
    assert verdicts.marks(check_figures(rows)) == (mark if verdict_ == "fail" else {})  # where all eps are shown
    assert verdicts.marks(check_figures(rows), "many steps") == {}


def test_marks_of_the_two_l1_steps_are_apart_and_of_their_ball_on_both() -> None:
    rows = records({"fgm": (0.2, 0.1, 0.7)})
    spread = rows.assign(norm=rows["norm"].where(rows["attack"] != "fgm", "L1-spread"))
    assert {key[3] for key in verdicts.marks(check_figures(spread))} == {"L1-spread"}
    ball = records(BREAKS["gradients beat noise"])
    ball["norm"] = ball["norm"].replace("Linf", "L1")
    assert {key[3] for key in verdicts.marks(check_figures(ball))} == {"L1-spread", "L1-pixel"}


def test_the_figure_names_where_it_stands() -> None:
    rows = records(BREAKS["many steps beat one"])
    row = verdicts.table(rows, check_figures(rows)).set_index("check").loc["many steps beat one"]
    assert (row["norm"], row["eps"]) == ("Linf", 0.1)
    assert row["figure"] == pytest.approx(0.02)


def test_the_worst_seed_speaks_for_a_model() -> None:
    two = pd.concat([records({}), records(BREAKS["gradients not zero"]).assign(seed=2)])
    table, checks = verdicts.tables(two, check_figures(two))
    shown = table.frame.set_index("check")["vat"]
    assert shown["gradients not zero"] == "FAIL 2.00"
    assert shown["many steps beat one"].startswith("pass ")
    assert "worst seed of 2" in table.caption
    assert list(checks.frame["check"]) == list(table.frame["check"])
    more = pd.concat([two, records({}).assign(model="ladder")])
    assert "worst seed of 1 to 2: 2 of vat, 1 of ladder. " in verdicts.tables(more, check_figures(more))[0].caption
    unaudited = two[two["attack"] == "fgm"]
    assert verdicts.tables(unaudited, check_figures(unaudited)) == []


def test_balls_are_norms() -> None:
    assert {name: np.linalg.norm([3, 4], order) for name, order in BALLS.items()} == {"L1": 7, "L2": 5, "Linf": 4}
