"""How much of the robustness that one step measures remains: under the margin, in float64, under many steps."""

from itertools import product

import pandas as pd

from reports.audit import budget, where
from reports.cells import CELL, aggregate, ordered
from reports.layout import Table, number, pivot
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
}
SHOWN = ("Linf", "L2")
NOTHING = 0.995  # an error in the worst case at which there is nothing to compare


def section(run: Run) -> Section:
    """The tables; nothing where no audit has been made."""
    found = family(run.records)
    heading = "What remains of robustness"
    if not len(found):
        return Section("remains", heading, ())
    part = shown(run.records, found)
    said = tuple(sentences(shown(found)))
    return Section("remains", heading, (*([said] if said else []), *noted(tables(part), part, found)), found)


def sentences(found: pd.DataFrame) -> list[str]:
    """Who is the most robust by one step, and who in the worst case, at each norm and eps."""
    lines = []
    for (dataset, labels, norm, eps), at in found.groupby(["dataset", "labels", "norm", "eps"]):
        one, worst = (
            at[at["attack"] == attack].groupby("model")["value"].mean() for attack in ("single-step", "worst")
        )
        if len(one) > 1 and at["n"].nunique() == 1:  # errors on other images are not compared
            first, last = str(one.idxmin()), str(worst.idxmin())
            beside = "" if first == last else f" ({first} {percent(worst, first)})"
            said = f"{last}, {percent(worst, last)}{beside}" if worst.min() < NOTHING else "no model is left"
            at_eps = f"{where(dataset, labels)}, {norm} {eps:g}"
            lines.append(
                f"{at_eps}: under one step {first} errs least, {percent(one, first)}; in the worst case {said}"
            )
    return lines


def percent(errors: "pd.Series[float]", model: str) -> str:
    """ "42.42 %"."""
    return f"{number(100 * errors[model], 2)} %"


def family(records: pd.DataFrame) -> pd.DataFrame:
    """Errors of the attacks shown, where many steps were taken; of two budgets of many steps the smaller one's."""
    base = records["attack"].where(records["attack"].isin(ROWS), records["attack"].str.split("-").str[0])
    found = records.assign(attack=base)[(records["measure"] == "attacked_error") & base.isin(ROWS)]
    found = found[found["norm"].isin(SHOWN) & found["value"].notna()]
    found = found[found["eps"] < found.groupby("norm")["eps"].transform("max")]  # there nothing remains, by design
    place = [*CELL, "seed", "norm", "eps"]
    radii = found.loc[found["attack"] == "pgd", place].drop_duplicates()
    least = found.sort_values("value").drop_duplicates([*place, "attack"])
    return ordered(least.merge(radii, on=place), [*CELL, "norm", "eps", "attack", "seed"])


def unattacked(records: pd.DataFrame, cell: pd.DataFrame) -> pd.DataFrame:
    """The error of a table's checkpoints on the same images without an attack, as one of eps 0."""
    clean = records[(records["attack"] == "audit") & (records["measure"] == "clean_error")]
    clean = clean.merge(cell[[*CELL, "seed"]].drop_duplicates(), on=[*CELL, "seed"])
    return clean.assign(attack=NO_ATTACK, measure="attacked_error", eps=0.0)


def tables(records: pd.DataFrame) -> list[Table]:
    """For each data set, label count and norm: rows eps and attack, the first without one, columns models; in %."""
    result = []
    for (dataset, labels, norm), cell in family(records).groupby(["dataset", "labels", "norm"]):
        rows = [(0.0, NO_ATTACK), *product(sorted(cell["eps"].unique()), ROWS)]
        found = aggregate(pd.concat([unattacked(records, cell), cell]))
        wide = pivot(found, ["eps", "attack"], "model")
        wide = wide.reindex(index=pd.MultiIndex.from_tuples(rows, names=["eps", "attack"]))
        frame = wide[list(styles(wide.columns))].rename_axis(columns=None).reset_index()
        frame = frame.assign(eps=frame["eps"].map("{:g}".format), attack=frame["attack"].replace(ROWS))
        own = records[(records["dataset"] == dataset) & (records["labels"] == labels)]
        caption = (
            "Error in %, true labels, not clipped; mean ± standard deviation over seeds (ddof 1), n in brackets where "
            "it is not the same in all. One step: by cross-entropy in float32, by margin, in float64; many steps: on "
            "margin and cross-entropy, the smaller budget of two; worst case: over all attacks of the audit, image by "
            "image, at this eps or a smaller one. Where the last rows of an eps are far above its first, what looked "
            f"like robustness was a gradient that one step could not use. {budget(own)}"
        )
        title = f"What remains of robustness, {where(dataset, labels)}, {norm}"
        result.append(Table(f"remains-{dataset}-{labels}-{norm}", title, frame, caption))
    return result
