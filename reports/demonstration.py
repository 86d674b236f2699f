"""How the output and the cost of points in the plane change while a model trains: Figure 1 of the VAT paper."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from reports.canvas import panels
from reports.cells import CELL, ordered, starting
from reports.section import Picture, Run, Section

PREFIX = "point/"
OUTPUTS = LinearSegmentedColormap.from_list("outputs", ["#E69F00", "#999999", "#004D7A"])
COSTS = LinearSegmentedColormap.from_list("costs", ["#DDDDDD", "#000000"])
SHOWN = {"p": (OUTPUTS, 1.0, "p(y = 1 | x)"), "cost": (COSTS, None, "cost (LDS)")}
TEXT = (
    "Every training point by what the model makes of it after so many epochs: above, its p(y = 1 | x), below, the "
    "virtual adversarial cost (LDS, VAT paper, equation 5). Large marks are the labelled points, squares and triangles "
    "their classes 0 and 1. One seed of each model is shown."
)


def section(run: Run) -> Section:
    """The figure; nothing where no points were recorded."""
    data, heading = table(run.history), "What happens to the points"
    blocks = (Picture(data, figure, TEXT),) if len(data) else ()
    return Section("demonstration", heading, blocks, data if len(data) else None)


def table(history: pd.DataFrame) -> pd.DataFrame:
    """CELL, epoch, point, input-0, input-1, label (-1: none), p, cost: of each model's first seed."""
    rows = history[starting(history["measure"], PREFIX)]
    rows = rows[rows["seed"] == rows.groupby(CELL)["seed"].transform("min")]
    named = rows["measure"].str.extract(r"^point/(\d+)/(.+)$")
    rows = rows.assign(point=named[0].astype("int64"), what=named[1])
    changes = rows["what"].isin(SHOWN)
    parts = zip((rows[changes], rows[~changes]), ([*CELL, "epoch", "point"], [*CELL, "point"]), strict=True)
    moving, still = (part.pivot(index=index, columns="what", values="value") for part, index in parts)
    found = moving.reset_index().merge(still.reset_index(), on=[*CELL, "point"])
    found = found.reindex(columns=[*CELL, "epoch", "point", "input-0", "input-1", "label", *SHOWN])
    return ordered(found.astype({"epoch": "int64"}), [*CELL, "epoch", "point"])


def figure(points: pd.DataFrame) -> Figure:
    """Two rows a model, p above cost; columns stages of training."""
    cells = list(points.groupby(CELL, sort=False))
    stages = sorted(points["epoch"].unique())
    canvas, axes = panels((2 * len(cells), len(stages)), (2.1, 1.35), "all", "all")
    most = points["cost"].max()
    for number, ((dataset, model, labels), cell) in enumerate(cells):
        for row, (what, (colours, high, name)) in zip(axes[2 * number :], SHOWN.items(), strict=False):
            for axis, stage in zip(row, stages, strict=True):
                drawn = _points(axis, cell[cell["epoch"] == stage], what, colours, high or most)
                axis.set_title(f"{model}, epoch {stage}")
            row[0].set_ylabel(f"{dataset}\n{labels} labels")
            canvas.colorbar(drawn, ax=list(row), label=name, aspect=12)
    return canvas


def _points(
    axis: Axes, points: pd.DataFrame, what: str, colours: LinearSegmentedColormap, high: float
) -> PathCollection:
    axis.set_aspect("equal")
    options: dict[str, Any] = {"cmap": colours, "vmin": 0.0, "vmax": high}
    drawn = axis.scatter(points["input-0"], points["input-1"], c=points[what], s=5, linewidths=0, **options)
    for label, marker in ((0, "s"), (1, "^")):
        own = points[points["label"] == label]
        axis.scatter(
            own["input-0"],
            own["input-1"],
            c=own[what],
            s=42,
            marker=marker,
            edgecolors="#000000",
            linewidths=1,
            **options,
        )
    return drawn
