"""Transfer: the error of a model, a row, on images that one step on another model, a column, made."""

import pandas as pd

from reports.audit import where
from reports.cells import aggregate
from reports.layout import Table, pivot
from reports.models import styles

PREFIX = "transfer/"
SHOWN = {"L2": 2.0, "Linf": 0.2}  # the radius that is shown, or else the middle one


def tables(records: pd.DataFrame) -> list[Table]:
    """For each data set, label count and norm: the matrix at one eps; its diagonal is one step on the model itself."""
    own = records[records["attack"] == "single-step/margin"]
    own = own.assign(source=own["model"])
    others = records[records["attack"].str.startswith(PREFIX)]
    others = others.assign(source=others["attack"].str.removeprefix(PREFIX))
    errors = pd.concat([own, others])[lambda frame: frame["measure"] == "attacked_error"]
    result = []
    for (dataset, labels, norm), cell in errors[errors["norm"].isin(SHOWN)].groupby(["dataset", "labels", "norm"]):
        if cell["source"].nunique() < 2:
            continue
        radii = sorted(cell["eps"].unique())
        eps = SHOWN[str(norm)] if SHOWN[str(norm)] in radii else radii[len(radii) // 2]
        shown = cell[cell["eps"] == eps]
        found = pd.concat(
            [aggregate(one.assign(attack="fgm")).assign(source=source) for source, one in shown.groupby("source")]
        )
        models = list(styles([*found["model"], *found["source"]]))
        wide = pivot(found, ["model"], "source").reindex(index=models, columns=models)
        frame = wide.rename_axis(columns=None).reset_index(names="attacked, by steps on")
        caption = (
            f"Error in % of the row's model on images that one step on the column's made: {norm}, eps {eps:g}, margin, "
            "true labels, not clipped, same seed on both sides; the diagonal is the white box. Mean ± standard "
            "deviation over seeds (ddof 1), number of seeds in brackets."
        )
        result.append(Table(f"Transfer, {where(dataset, labels)}, {norm}", frame, caption))
    return result
