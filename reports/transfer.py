"""Transfer: the error of a model, a row, on images that one step on another model, a column, made."""

import pandas as pd

from reports.audit import listed, where
from reports.cells import CELL, aggregate, ordered, starting
from reports.layout import Table, pivot, seeds_named
from reports.models import styles
from reports.room import noted, shown
from reports.section import Run, Section

PREFIX = "transfer/"
HOLES = "Nothing where the weights of one of the two were not at hand, or one was not attacked, when this was measured."
SHOWN = {"L2": 2.0, "Linf": 0.2}  # the radius that is shown, or else the middle one


def section(run: Run) -> Section:
    """The matrices; nothing where no transfer was measured."""
    found = matrices(run.records)
    data, part = found if len(found) else None, shown(found)
    return Section("transfer", "Transfer between the models", noted(tables(part), part, found), data)


def matrices(records: pd.DataFrame) -> pd.DataFrame:
    """Errors by attacked model and source, the model itself among them, where any transfer was measured."""
    own = records[records["attack"] == "single-step/margin"]
    others = records[starting(records["attack"], PREFIX)]
    sources = [own["model"], others["attack"].str.removeprefix(PREFIX)]
    errors = pd.concat([own, others]).assign(source=pd.concat(sources))
    errors = errors[(errors["measure"] == "attacked_error") & errors["norm"].isin(SHOWN)]
    foreign = (errors["source"] != errors["model"]).groupby([errors["dataset"], errors["labels"]]).transform("any")
    return ordered(errors[foreign], [*CELL, "source", "norm", "eps", "seed"])


def tables(errors: pd.DataFrame) -> list[Table]:
    """For each data set, label count and norm the matrix at one eps; its diagonal is one step on the model itself."""
    result = []
    for (dataset, labels, norm), cell in errors.groupby(["dataset", "labels", "norm"]):
        radii = sorted(cell["eps"].unique())
        eps = SHOWN[str(norm)] if SHOWN[str(norm)] in radii else radii[len(radii) // 2]
        at = cell[cell["eps"] == eps]
        found = aggregate(at.assign(attack=at["source"])).rename(columns={"attack": "source"})
        models = list(styles([*found["model"], *found["source"]]))
        wide = pivot(found, ["model"], "source").reindex(index=models, columns=models)
        frame = wide.rename_axis(columns=None).reset_index(names="attacked, by steps on")
        caption = (
            f"Error in % of the row's model on images that one step on the column's made: {norm}, eps {eps:g}, margin, "
            "true labels, not clipped, same seed on both sides; the diagonal is the white box. "
            f"{seeds_named(found)}. {listed(cell['n'])} test images."
        )
        title = f"Transfer, {where(dataset, labels)}, {norm}"
        holes = (HOLES,) if wide.isna().any(axis=None) else ()
        result.append(Table(f"transfer-{dataset}-{labels}-{norm}", title, frame, caption, holes))
    return result
