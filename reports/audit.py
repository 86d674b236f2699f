"""The audit: when a robustness figure cannot be believed. Model by check, the verdict and the figure behind it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.cells import CELL, PAPER_EPS, ordered
from reports.layout import Table, number
from reports.models import styles
from reports.room import noted, shown
from reports.section import Run, Section

CHANCE = 0.9  # error of a guess among ten classes
BALL = {"L1-spread": "L1", "L1-pixel": "L1", "L2": "L2", "Linf": "Linf"}
"""Norm of the fast gradient method -> the ball it steps in."""


EFFORTS = {
    "pgd": "many steps {} (steps x restarts, the larger at the eps that breaks about half)",
    "fmn": "minimum norm {} steps",
    "hsj": "decision-based {} steps on the first {} images",
    "noise": "noise {} draws of each kind",
}
"""Of an attack's family: how hard it tried, on how many images."""


@dataclass(frozen=True)
class Check:
    """A figure of one checkpoint's records that must not exceed a limit; `worst` gives it and where it was found."""

    name: str
    says: str
    limit: float
    worst: Callable[[pd.DataFrame], tuple[float, str, float]]  # figure (NaN: not run), norm, eps
    percent: bool = True
    marks: bool = True  # a failure says that one step's figures are no robustness; else that many steps' are not yet

    def text(self, figure: float) -> str:
        """The figure as a reader wants it."""
        return number(100 * figure, 2) if self.percent else f"{figure:.2g}"


def largest(found: pd.DataFrame) -> tuple[float, str, float]:
    """The largest value, and where; NaN where there is none."""
    found = found[found["value"].notna()]
    if found.empty:
        return math.nan, "", math.nan
    at = int(found["value"].argmax())
    return float(found["value"].iloc[at]), str(found["norm"].iloc[at]), float(found["eps"].iloc[at])


def measured(measure: str, attack: str) -> Callable[[pd.DataFrame], tuple[float, str, float]]:
    """The largest value of a measure under an attack."""
    return lambda own: largest(own[(own["measure"] == measure) & (own["attack"] == attack)])


def errors(own: pd.DataFrame, prefix: str, measure: str = "attacked_error") -> pd.DataFrame:
    """The largest error under attacks of a name or family, by norm and eps."""
    of = own["attack"].eq(prefix) | own["attack"].str.startswith((prefix + "-", prefix + "/"))
    rows = own[(own["measure"] == measure) & of]
    return at_radii(rows, "max")


def at_radii(rows: pd.DataFrame, how: str) -> pd.DataFrame:
    """norm, eps, value: one of several values, the "min" or the "max"."""
    return rows.groupby(["norm", "eps"], as_index=False).agg(value=("value", how))


def usual(own: pd.DataFrame) -> pd.DataFrame:
    """Error of projected gradient ascent as it was run at every radius (the smaller of two budgets)."""
    rows = own[(own["measure"] == "attacked_error") & own["attack"].str.startswith("pgd-")]
    return at_radii(rows, "min")


def more(own: pd.DataFrame) -> pd.DataFrame:
    """Error under the larger budget of two; none where there was but one."""
    rows = own[(own["measure"] == "attacked_error") & own["attack"].str.startswith("pgd-")]
    twice = rows[rows.duplicated(["norm", "eps"], keep=False)]
    return at_radii(twice, "max")


def excess(
    one: Callable[[pd.DataFrame], pd.DataFrame], other: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[[pd.DataFrame], tuple[float, str, float]]:
    """By how much the first error exceeds the second at most, at the same norm and eps."""

    def worst(own: pd.DataFrame) -> tuple[float, str, float]:
        both = one(own).merge(other(own), on=["norm", "eps"], suffixes=("", "_other"))
        return largest(both.assign(value=both["value"] - both["value_other"]))

    return worst


def falls(own: pd.DataFrame) -> tuple[float, str, float]:
    """The largest fall of the iterated attack's error from one radius to the next."""
    curve = usual(own).sort_values(["norm", "eps"])
    return largest(curve.assign(value=-curve.groupby("norm")["value"].diff()))


def short_of_chance(own: pd.DataFrame) -> tuple[float, str, float]:
    """What the iterated attack's error at the largest radius lacks to that of a guess."""
    curve = usual(own)
    last = curve[curve["eps"] == curve.groupby("norm")["eps"].transform("max")]
    return largest(last.assign(value=CHANCE - last["value"]))


def family(prefix: str, measure: str = "attacked_error") -> Callable[[pd.DataFrame], pd.DataFrame]:
    """`errors` of a family of attacks."""
    return lambda own: errors(own, prefix, measure)


def at_paper_eps(own: pd.DataFrame) -> pd.DataFrame:
    """The worst case over attacks at the paper's eps, in each norm whose ball had this radius."""
    found = errors(own, "worst")
    return found[(found["eps"] - PAPER_EPS).abs() < 1e-9]


def exactly(attack: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The error under one attack alone."""
    return lambda own: own[(own["measure"] == "attacked_error") & (own["attack"] == attack)][["norm", "eps", "value"]]


CHECKS = (
    Check("outputs are logits", "images answered with probabilities, %", 0, measured("probability_share", "audit")),
    Check("deterministic", "logit between two passes", 0, measured("nondeterminism", "audit"), False),
    Check("softmax not saturated", "images with a probability of 1, %", 0.01, measured("saturated_share", "audit")),
    Check("gradients not zero", "images without, %", 0.01, measured("zero_gradient_share", "single-step")),
    Check("gradients finite", "images without, %", 0, measured("nonfinite_gradient_share", "single-step")),
    Check("steps of full length", "perturbations shorter than eps, %", 0.01, measured("short_share", "fgm")),
    Check(
        "float32 is enough",
        "one step: in float64 over float32",
        0.005,
        excess(exactly("single-step/float64"), exactly("single-step")),
    ),
    Check(  # the two losses lead to different classes, hence differ by some points on any model
        "cross-entropy is enough",
        "one step: margin over cross-entropy",
        0.15,
        excess(exactly("single-step/margin"), exactly("single-step")),
    ),
    Check(
        "one step is enough", "worst case over one step, eps 0.3", 0.05, excess(at_paper_eps, exactly("single-step"))
    ),
    Check("many steps beat one", "one step over many", 0.005, excess(exactly("single-step"), usual), marks=False),
    Check("error grows with eps", "largest fall to the next eps", 0.005, falls, marks=False),
    Check("large eps leaves a guess", "below 90 % at the largest eps", 0, short_of_chance, marks=False),
    Check(
        "more steps change nothing", "more steps and restarts over the usual", 0.01, excess(more, usual), marks=False
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
        marks=False,
    ),
)


def table(records: pd.DataFrame) -> pd.DataFrame:
    """dataset, model, labels, seed, check, figure, limit, verdict, norm, eps: of each checkpoint that was audited.

    A check that could not be made is "not run" and has no figure.
    """
    rows = []
    audited = records[records["attack"] == "audit"][[*CELL, "seed"]].drop_duplicates()
    for key, own in records.merge(audited, on=[*CELL, "seed"]).groupby([*CELL, "seed"]):
        for check in CHECKS:
            figure, norm, eps = check.worst(own)
            verdict = "not run" if math.isnan(figure) else "pass" if figure <= check.limit + 1e-9 else "fail"
            rows.append((*key, check.name, figure, check.limit, verdict, norm, eps))
    columns = [*CELL, "seed", "check", "figure", "limit", "verdict", "norm", "eps"]
    return ordered(pd.DataFrame(rows, columns=columns), [*CELL, "seed"])


def section(run: Run) -> Section:
    """The verdicts, or that no audit has been made."""
    audited = run.records[run.records["attack"] == "audit"]
    part = shown(run.records, audited)
    found = noted(tables(part), part, audited)
    heading = "Audit: can the figures be believed?"
    if not found:
        return Section("audit", heading, ("No audit has been made: `python -m benchmark attack` makes one.",))
    return Section("audit", heading, found, table(run.records))


def tables(records: pd.DataFrame) -> list[Table]:
    """For each data set and label count: rows checks, columns models, the verdict of the worst seed and its figure."""
    result = []
    for (dataset, labels), cell in table(records).groupby(["dataset", "labels"]):
        models = list(styles(cell["model"]))
        rows = [[check.name, *(said(cell, check, model) for model in models)] for check in CHECKS]
        own = records[(records["dataset"] == dataset) & (records["labels"] == labels)]
        name, frame = f"audit-{dataset}-{labels}", pd.DataFrame(rows, columns=["check", *models])
        result.append(Table(name, f"Audit, {where(dataset, labels)}", frame, caption(own), failures(cell)))
    return [*result, meanings()] if result else []


def meanings() -> Table:
    """What each check compares, and with what limit."""
    rows = [[check.name, check.text(check.limit), check.says] for check in CHECKS]
    frame = pd.DataFrame(rows, columns=["check", "at most", "its figure: points of error, unless it says else"])
    about = "A figure above its limit fails. Share of images in %, differences of errors in points."
    return Table("audit-checks", "What the audit checks", frame, about, folded=True)


def failures(cell: pd.DataFrame) -> tuple[str, ...]:
    """A note on where the worst seeds failed."""
    lines = []
    for check in CHECKS:
        failed = cell[(cell["check"] == check.name) & (cell["verdict"] == "fail")]
        for model in styles(failed["model"]):
            figure, norm, eps = largest(failed[failed["model"] == model].assign(value=failed["figure"]))
            lines += [f"{model}, {check.name}: {check.text(figure)} ({norm} {eps:g})"] if norm else []
    return (f"Failed where: {'; '.join(lines)}.",) if lines else ()


def caption(own: pd.DataFrame) -> str:
    """What was asked of which checkpoints, and with how much effort."""
    return (
        f"Verdict and figure of each model's worst seed of {own.loc[own['attack'] == 'audit', 'seed'].nunique()}. "
        f"Attacks know the true labels and do not clip (the decision-based one stays in [0, 1]). {budget(own)} Many "
        "steps: projected gradient ascent. An image that is wrong without an attack counts as wrong under all."
    )


def budget(records: pd.DataFrame) -> str:
    """The effort behind audits, as their attacks' names and numbers of images say; nothing where there is none."""
    images = records.loc[(records["attack"] == "audit") & (records["measure"] == "clean_error"), "n"]
    of = {family: records[records["attack"].str.startswith(f"{family}-")] for family in EFFORTS}
    said = [
        text.format(listed(of[family]["attack"].str.rpartition("-")[2]), listed(of[family]["n"]))
        for family, text in EFFORTS.items()
        if len(of[family])
    ]
    return f"Budget: {listed(images)} test images; {'; '.join(said)}." if len(images) else ""


def listed(values: "pd.Series[Any]") -> str:
    """Each value once: "40x2, 100x3", "1,000"."""
    texts = {value if isinstance(value, str) else f"{value:,}" for value in values}
    return ", ".join(sorted(texts, key=lambda text: (len(text), text)))


def where(dataset: object, labels: object) -> str:
    """ "mnist, 50 labels"; without the labels for a model that did not come with their number."""
    return f"{dataset}, {labels} labels" if labels else f"{dataset}"


def marks(records: pd.DataFrame) -> dict[tuple[str, str, int, str], list[str]]:
    """(dataset, model, labels, norm of the fast gradient method) -> the checks that say: this is no robustness.

    A check of the model marks every norm, one of attacks those whose ball it failed in, on some seed.
    """
    found: dict[tuple[str, str, int, str], list[str]] = {}
    audited = records[records["attack"] == "audit"][[*CELL, "seed"]].drop_duplicates()
    for (dataset, model, labels, _), own in records.merge(audited, on=[*CELL, "seed"]).groupby([*CELL, "seed"]):
        ball = own["norm"].map(BALL).fillna(own["norm"])
        for norm in BALL:
            part = own[ball.isin(["", BALL[norm]])]
            reasons = found.setdefault((str(dataset), str(model), int(str(labels)), norm), [])
            failed = [check.name for check in CHECKS if check.marks and check.worst(part)[0] > check.limit + 1e-9]
            reasons += [name for name in failed if name not in reasons]
    return {key: reasons for key, reasons in found.items() if reasons}


def said(cell: pd.DataFrame, check: Check, model: str) -> str:
    """ "FAIL 3.20" of a model's worst seed."""
    own = cell[(cell["check"] == check.name) & (cell["model"] == model)]
    figure, _, _ = largest(own.assign(value=own["figure"]))
    if math.isnan(figure):
        return "not run"
    return f"{'FAIL' if (own['verdict'] == 'fail').any() else 'pass'} {check.text(figure)}"
