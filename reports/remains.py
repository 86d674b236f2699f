"""How much of the robustness that one step measures remains: under the margin, in float64, under many steps."""

import pandas as pd

from reports.audit import where
from reports.cells import CELL, aggregate
from reports.layout import Table, pivot
from reports.models import styles
from reports.section import Run, Section

ROWS = {
    "single-step": "one step, cross-entropy, float32",
    "single-step/margin": "one step, margin",
    "single-step/float64": "one step, float64",
    "pgd": "many steps",
    "worst": "worst of all attacks, image by image",
}
SHOWN = ("Linf", "L2")


def section(run: Run) -> Section:
    """The tables; nothing where no audit has been made."""
    shown = family(run.records)
    data = shown if len(shown) else None
    return Section("remains", "What remains of robustness", tuple(tables(run.records)), data)


def family(records: pd.DataFrame) -> pd.DataFrame:
    """Errors of the attacks shown, at every radius; of two budgets of many steps the smaller: it was run everywhere."""
    base = records["attack"].where(records["attack"].isin(ROWS), records["attack"].str.split("-").str[0])
    found = records.assign(attack=base)[(records["measure"] == "attacked_error") & base.isin(ROWS)]
    found = found[found["norm"].isin(SHOWN)]
    found = found[found["eps"] < found.groupby("norm")["eps"].transform("max")]  # there nothing remains, by design
    keys = [*CELL, "seed", "attack", "norm", "eps"]
    return found.sort_values("value").drop_duplicates(keys)


def tables(records: pd.DataFrame) -> list[Table]:
    """For each data set and label count: rows norm, eps and attack, columns models, error in %."""
    result = []
    for (dataset, labels), cell in family(records).groupby(["dataset", "labels"]):
        found = aggregate(cell)
        wide = pivot(found, ["norm", "eps", "attack"], "model")
        radii = found[["norm", "eps"]].drop_duplicates().sort_values(["norm", "eps"])
        rows = [(norm, eps, attack) for norm, eps in radii.itertuples(index=False) for attack in ROWS]
        wide = wide.reindex(index=pd.MultiIndex.from_tuples(rows, names=["norm", "eps", "attack"]))
        frame = wide[list(styles(wide.columns))].rename_axis(columns=None).reset_index()
        frame = frame.assign(eps=frame["eps"].map("{:g}".format), attack=frame["attack"].map(ROWS))
        images = ", ".join(f"{n:,}" for n in sorted(cell["n"].unique()))
        caption = (
            f"Error in % on {images} test images, true labels, not clipped; mean ± standard deviation over seeds (ddof "
            "1), n in brackets where it is not the same in all. Where rows of one eps agree, one step measures what is "
            "there; where the lower ones are far higher, what looked like robustness was a gradient that one step "
            "could not use."
        )
        title = f"What remains of robustness, {where(dataset, labels)}"
        result.append(Table(f"remains-{dataset}-{labels}", title, frame, caption))
    return result
