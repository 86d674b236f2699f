"""What the audit checks: figures of every checkpoint's records, each with the limit that it must not exceed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from reports.cells import CELL, PAPER_EPS, starting
from reports.layout import number

CHANCE = 0.9  # error of a guess among ten classes
CHECKPOINT = [*CELL, "seed"]
AT = [*CHECKPOINT, "norm", "eps"]
Figures = Callable[[pd.DataFrame], pd.DataFrame]
"""Records -> the columns of `AT`, and a value: what a check looks at, of every checkpoint."""


@dataclass(frozen=True)
class Check:
    """Figures of a checkpoint's records that must not exceed a limit.

    A failure puts in doubt what one step found, or what many steps found: all of it in its norm, or, of a check that is
    `local`, what was found beyond the eps `since` which it failed.
    """

    name: str
    says: str
    limit: float
    figures: Figures
    percent: bool = True
    doubts: Literal["one step", "many steps"] = "one step"
    local: bool = False

    def text(self, figure: float) -> str:
        """The figure as a reader wants it."""
        return number(100 * figure, 2) if self.percent else f"{figure:.2g}"


def measured(measure: str, attack: str) -> Figures:
    """A measure under an attack."""
    return lambda records: records.loc[(records["measure"] == measure) & (records["attack"] == attack), [*AT, "value"]]


def at_radii(rows: pd.DataFrame, how: str) -> pd.DataFrame:
    """One of several values at a norm and eps, the "min" or the "max"."""
    return rows.groupby(AT, as_index=False).agg(value=("value", how))


def family(prefix: str, measure: str = "attacked_error") -> Figures:
    """The largest error under attacks of a name or family."""

    def errors(records: pd.DataFrame) -> pd.DataFrame:
        of = records["attack"].eq(prefix) | starting(records["attack"], (prefix + "-", prefix + "/"))
        return at_radii(records[(records["measure"] == measure) & of], "max")

    return errors


def ascents(records: pd.DataFrame) -> pd.DataFrame:
    """Errors under projected gradient ascent, of each effort."""
    return records[(records["measure"] == "attacked_error") & starting(records["attack"], "pgd-")]


def usual(records: pd.DataFrame) -> pd.DataFrame:
    """Error of projected gradient ascent as it was run at every radius (the smaller of two budgets)."""
    return at_radii(ascents(records), "min")


def more(records: pd.DataFrame) -> pd.DataFrame:
    """Error under the larger budget of two; none where there was but one."""
    rows = ascents(records)
    return at_radii(rows[rows.duplicated(AT, keep=False)], "max")


def excess(one: Figures, other: Figures) -> Figures:
    """By how much the first error exceeds the second, at the same norm and eps."""

    def difference(records: pd.DataFrame) -> pd.DataFrame:
        both = one(records).merge(other(records), on=AT, suffixes=("", "_other"))
        return both.assign(value=both["value"] - both["value_other"])[[*AT, "value"]]

    return difference


def falls(of: Figures) -> Figures:
    """The fall of an error from one radius, `since`, to the next."""

    def fall(records: pd.DataFrame) -> pd.DataFrame:
        curve = of(records).sort_values(AT)
        curves = curve.groupby([*CHECKPOINT, "norm"])
        return curve.assign(value=-curves["value"].diff(), since=curves["eps"].shift())

    return fall


def one_step_curve(records: pd.DataFrame) -> pd.DataFrame:
    """The error under one step of the fast gradient method, as the paper has it, from eps 0."""
    of = records[records["attack"] == "fgm"]
    clean = of[of["measure"] == "clean_error"].drop_duplicates([*CHECKPOINT, "norm"]).assign(eps=0.0)
    return pd.concat([clean, of[of["measure"] == "attacked_error"]])[[*AT, "value"]]


def short_of_chance(records: pd.DataFrame) -> pd.DataFrame:
    """What the iterated attack's error at the largest radius lacks to that of a guess."""
    curve = usual(records)
    last = curve[curve["eps"] == curve.groupby([*CHECKPOINT, "norm"])["eps"].transform("max")]
    return last.assign(value=CHANCE - last["value"])


def at_paper_eps(records: pd.DataFrame) -> pd.DataFrame:
    """The worst case over attacks at the paper's eps, in each norm whose ball had this radius."""
    found = family("worst")(records)
    return found[(found["eps"] - PAPER_EPS).abs() < 1e-9]


ONE_STEP = measured("attacked_error", "single-step")
CHECKS = (
    Check(
        "outputs are logits", "audited images answered with probabilities, %", 0, measured("probability_share", "audit")
    ),
    Check("deterministic", "logit between two passes", 0, measured("nondeterminism", "audit"), False),
    Check(
        "softmax not saturated", "audited images with a probability of 1, %", 0.01, measured("saturated_share", "audit")
    ),
    Check("gradients not zero", "audited images without, %", 0.01, measured("zero_gradient_share", "single-step")),
    Check("gradients finite", "audited images without, %", 0, measured("nonfinite_gradient_share", "single-step")),
    Check(
        "steps of full length",
        "perturbations of all test images shorter than eps, %",
        0.01,
        measured("short_share", "fgm"),
    ),
    Check(
        "float32 is enough",
        "one step: in float64 over float32",
        0.005,
        excess(measured("attacked_error", "single-step/float64"), ONE_STEP),
    ),
    Check(  # the two losses lead to different classes, hence differ by some points on any model
        "cross-entropy is enough",
        "one step: margin over cross-entropy",
        0.15,
        excess(measured("attacked_error", "single-step/margin"), ONE_STEP),
    ),
    Check("one step is enough", "worst case over one step, eps 0.3", 0.05, excess(at_paper_eps, ONE_STEP)),
    Check(
        "one step grows with eps",
        "largest fall to the next eps, all test images; marks no smaller eps",
        0.005,
        falls(one_step_curve),
        local=True,
    ),
    Check("many steps beat one", "one step over many", 0.005, excess(ONE_STEP, usual), doubts="many steps"),
    Check("error grows with eps", "largest fall to the next eps", 0.005, falls(usual), doubts="many steps"),
    Check("large eps leaves a guess", "below 90 % at the largest eps", 0, short_of_chance, doubts="many steps"),
    Check(
        "more steps change nothing",
        "more steps and restarts over the usual",
        0.01,
        excess(more, usual),
        doubts="many steps",
    ),
    Check("gradients beat noise", "noise over many steps", 0, excess(family("noise"), usual)),
    Check(
        "white box beats black box",
        "decision-based over white box, same images",
        0.025,
        excess(family("hsj"), family("hsj", "white_box_error")),
    ),
    Check("white box beats transfer", "other models' steps over many own", 0, excess(family("transfer"), usual)),
    Check(
        "many steps beat the rest",
        "worst case, image by image, over many steps",
        0.01,
        excess(family("worst"), usual),
        doubts="many steps",
    ),
)


def check_figures(records: pd.DataFrame) -> pd.DataFrame:
    """Each check's figures of the checkpoints that were audited: the columns of `AT`, value, check, failed, since."""
    audited = records.loc[records["attack"] == "audit", CHECKPOINT].drop_duplicates()
    own = records.merge(audited, on=CHECKPOINT)
    if own.empty:
        return own.assign(check="", failed=False, since=math.nan)
    found = []
    for check in CHECKS:
        figures = check.figures(own)
        found.append(figures.assign(check=check.name, failed=figures["value"] > check.limit + 1e-9))
    return pd.concat(found, ignore_index=True)
