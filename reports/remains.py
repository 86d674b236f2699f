"""How much of the robustness that one step measures remains: under the margin, in float64, under many steps."""

import math
from itertools import product
from typing import Literal

import pandas as pd

from reports.audit import budget, doubted, listed, marks, where
from reports.cells import CELL, aggregate, ordered
from reports.layout import Table, number, pivot, seeds_named
from reports.models import styles
from reports.room import noted, shown
from reports.section import Run, Section

NO_ATTACK = "none"
ROWS = {
    "single-step": "one step",
    "single-step/margin": "margin",
    "single-step/float64": "float64",
    "pgd": "many steps",
    "worst": "worst case",
    "noise": "noise",
}
SHOWN = {"Linf": ("Linf",), "L2": ("L2",), "L1": ("L1-pixel", "L1-spread")}
"""Balls, and the norms of the fast gradient method that one step in them goes by."""
DOUBTS: dict[Literal["one step", "many steps"], str] = {
    "one step": "† The audit failed: what is robust by one step may not be.",
    "many steps": "‡ The audit failed: more of them, or other attacks, may break more.",
}
NOTHING = 0.995  # an error in the worst case at which there is nothing to compare


def section(run: Run) -> Section:
    """The tables; nothing where no audit has been made."""
    found = shown_attacks(run.records)
    heading = "What remains of robustness"
    if not len(found):
        return Section("remains", heading, ())
    part = shown(run.records, found)
    said = tuple(sentences(shown(found)))
    blocks = noted([*tables(part, shown(run.checks, found)), *distances(part)], part, found)
    return Section("remains", heading, (*([said] if said else []), *blocks), found)


def sentences(found: pd.DataFrame) -> list[str]:
    """Who is the most robust by one step, and who in the worst case, at each norm and eps."""
    lines = []
    for (dataset, labels, norm, eps), at in found.groupby(["dataset", "labels", "norm", "eps"]):
        one, worst = (
            at[at["attack"] == attack].groupby("model")["value"].mean() for attack in ("single-step", "worst")
        )
        one, worst = one.align(worst, join="inner")  # records may lack either
        if len(one) > 1 and at["n"].nunique() == 1:  # errors on other images are not compared
            first, last = str(one.idxmin()), str(worst.idxmin())
            if math.isclose(worst[first], worst[last]):
                last = first
            beside = "" if first == last else f" ({first} {percent(worst, first)})"
            left = f"{last}, {percent(worst, last)}{beside}"
            said = left if worst.min() < NOTHING else f"no model errs on less than {percent(worst, last)}"
            at_eps = f"{where(dataset, labels)}, {norm} {eps:g}"
            lines.append(
                f"{at_eps}: under one step {first} errs least, {percent(one, first)}; in the worst case {said}"
            )
    return lines


def percent(errors: "pd.Series[float]", model: str) -> str:
    """ "42.42 %"."""
    return f"{number(100 * errors[model], 2)} %"


def shown_attacks(records: pd.DataFrame) -> pd.DataFrame:
    """Errors of the attacks shown, where many steps were taken; of two budgets of many steps the smaller one's, of two
    kinds of noise the larger error.
    """
    found = records[(records["measure"] == "attacked_error") & records["norm"].isin(SHOWN) & records["value"].notna()]
    base = {name: name if name in ROWS else name.split("-")[0] for name in found["attack"].unique()}
    found = found.assign(attack=found["attack"].map(base))
    found = found[found["attack"].isin(ROWS)]
    found = found[found["eps"] < found.groupby("norm")["eps"].transform("max")]  # there nothing remains, by design
    place = [*CELL, "seed", "norm", "eps"]
    radii = found.loc[found["attack"] == "pgd", place].drop_duplicates()
    rank = found["value"].where(found["attack"] != "noise", -found["value"])
    one = found.loc[rank.sort_values().index].drop_duplicates([*place, "attack"])
    return ordered(one.merge(radii, on=place), [*CELL, "norm", "eps", "attack", "seed"])


def unattacked(records: pd.DataFrame, cell: pd.DataFrame) -> pd.DataFrame:
    """The error of a table's checkpoints on the same images without an attack, as one of eps 0."""
    clean = records[(records["attack"] == "audit") & (records["measure"] == "clean_error")]
    clean = clean.merge(cell[[*CELL, "seed"]].drop_duplicates(), on=[*CELL, "seed"])
    return clean.assign(attack=NO_ATTACK, measure="attacked_error", eps=0.0)


def tables(records: pd.DataFrame, figures: pd.DataFrame) -> list[Table]:
    """For each data set, label count and norm: rows eps and attack, the first without one, columns models; in %.

    `figures`: `check_figures` of the records.
    """
    result = []
    found = shown_attacks(records)
    largest = found.groupby("norm")["eps"].max()
    limits = {norm: float(largest[ball]) for ball in largest.index for norm in SHOWN[ball]}
    doubts = {of: marks(figures, of, limits) for of in DOUBTS}
    for (dataset, labels, norm), cell in found.groupby(["dataset", "labels", "norm"]):
        rows = [(0.0, NO_ATTACK), *product(sorted(cell["eps"].unique()), ROWS)]
        errors = aggregate(pd.concat([unattacked(records, cell), cell]))
        wide = pivot(errors, ["eps", "attack"], "model")
        wide = wide.reindex(index=pd.MultiIndex.from_tuples(rows, names=["eps", "attack"]))
        frame = wide[list(styles(wide.columns))].rename_axis(columns=None).reset_index()
        frame = frame.assign(eps=frame["eps"].map("{:g}".format), attack=frame["attack"].replace(ROWS))
        notes: list[str] = []
        for of in DOUBTS:
            here = {
                (model, way): reasons
                for (data, model, count, way), reasons in doubts[of].items()
                if (data, count) == (dataset, labels) and model in wide and way in SHOWN[str(norm)]
            }
            for model in {model for model, _ in here}:
                affected = (frame["attack"] == of) & frame[model].notna()
                frame[model] = frame[model].where(~affected, frame[model] + f" {DOUBTS[of][0]}")
            notes += doubted(here, DOUBTS[of])
        own = records[(records["dataset"] == dataset) & (records["labels"] == labels)]
        caption = (
            f"Error in %, true labels, not clipped. {seeds_named(errors)}. One step: by cross-entropy in float32, by "
            "margin, in float64; many steps: on margin and cross-entropy, the smaller budget of two; worst case: over "
            "all attacks of the audit but transfer, image by image, at this eps or a smaller one; noise: uniform or "
            "Gaussian, what breaks more. "
            "Where many steps or the worst case of an eps are far above one step, what looked like robustness was a "
            f"gradient that one step could not use. {budget(own, str(norm))}"
        )
        title = f"What remains of robustness, {where(dataset, labels)}, {norm}"
        result.append(Table(f"remains-{dataset}-{labels}-{norm}", title, frame, caption, tuple(notes), keys=2))
    return result


def distances(records: pd.DataFrame) -> list[Table]:
    """For each data set and label count: rows norms, columns models, the median distance to another answer."""
    result = []
    found = records[records["measure"] == "median_distance"]
    for (dataset, labels), cell in found.groupby(["dataset", "labels"]):
        groups = cell.groupby(["norm", "model"])["value"]
        seeds = groups.agg(mean="mean", sd="std", n="size").reset_index().assign(diverged=0)
        with_n = seeds["n"].nunique() > 1
        rows = seeds[["mean", "sd", "n"]].itertuples(index=False, name=None)
        seeds["text"] = [spread(*row, with_n=with_n) for row in rows]
        wide = seeds.pivot(index="norm", columns="model", values="text")[list(styles(cell["model"]))]
        efforts = cell["attack"].str.removeprefix("fmn-").groupby(cell["norm"])
        effort = "; ".join(f"{norm}: {listed(of)} steps" for norm, of in efforts)
        caption = (
            "Median over images of the distance to the nearest image called something else that the minimum-norm "
            "attack found, in pixel values (a pixel goes from 0 to 1), not clipped; 0 for an image that is wrong as it "
            f"is. {seeds_named(seeds)}. {listed(cell['n'])} test images; {effort}."
        )
        name = f"distances-{dataset}-{labels}"
        frame = wide.rename_axis(columns=None).reset_index()
        result.append(Table(name, f"Distance to another answer, {where(dataset, labels)}", frame, caption))
    return result


def spread(mean: float, sd: float, n: int, *, with_n: bool) -> str:
    """ "0.123 ± 0.004 (3)", of one seed without the spread; "inf" where on some seed half of the images stood."""
    text = f"{number(mean, 3)} ± {number(sd, 3)}" if n > 1 else number(mean, 3)
    return (text if math.isfinite(mean) else "inf") + (f" ({n})" if with_n else "")
