"""Test error and smoothness by epoch: Figure 3 of the VAL paper, Figures 2 and 8 of the VAT paper."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.canvas import fit_scale, panels
from reports.cells import CELL, band, ordered
from reports.layout import means_of
from reports.models import Style, legend, styles
from reports.room import noted, shown
from reports.section import Picture, Run, Section

TEXT = (
    "Test error and, where it was measured, the virtual adversarial cost at eps {eps}: the divergence between the "
    "outputs at an image and at the nearby image that changes them most; lower is smoother. A line is the mean over "
    "seeds, its band goes from the lowest to the highest seed; a seed that diverged is in neither."
)
MEASURES = {
    "test_error": ("test error (%)", 100.0),
    "train_error": ("training error (%)", 100.0),
    "smoothness": ("virtual adversarial cost, eps {eps}", 1.0),
    "train_smoothness": ("cost on training images, eps {eps}", 1.0),
}
EPS = 5.0  # VAL paper, Figure 3: of runs whose provenance does not say


def section(run: Run) -> Section:
    """The figure, or that there is no history."""
    data = table(run.history)
    heading = "Test error and smoothness by epoch"
    if not len(data):
        return Section("smoothness", heading, ("No history has been recorded, hence no figure.",))
    training = run.provenance.get("training")
    said = training.get("smoothness_eps", [EPS]) if isinstance(training, Mapping) else [EPS]
    eps = " or ".join(f"{value:.1f}" for value in said)
    drawn, part = partial(figure, eps=eps.replace(".0", "")), shown(data)
    picture = Picture(part, drawn, f"{TEXT.format(eps=eps)} {means_of(part['n'])}".strip())
    return Section("smoothness", heading, noted([picture], part, data), data)


def table(history: pd.DataFrame) -> pd.DataFrame:
    """What the figure draws: mean, lowest, highest, n and diverged for each cell, measure and epoch.

    A seed that is not finite at some epoch is left out of its whole curve and counted in `diverged`, so
    that a curve is a mean over the same seeds throughout.
    """
    history = history[history["measure"].isin(MEASURES)]
    bad = history[~np.isfinite(history["value"])][[*CELL, "seed"]].drop_duplicates().assign(bad=1.0)
    marked = history.merge(bad, how="left", on=[*CELL, "seed"])
    groups = marked.assign(value=marked["value"].where(marked["bad"].isna())).groupby([*CELL, "measure", "epoch"])
    values = band(groups["value"])
    return ordered(values.assign(diverged=groups["bad"].count()).reset_index(), [*CELL, "measure", "epoch"])


def figure(curves: pd.DataFrame, eps: str = "5") -> Figure:
    """Rows label counts, columns measures, a line a model: mean over seeds, the band lowest to highest."""
    measures = [m for m in MEASURES if m in set(curves["measure"])]
    looks = styles(curves["model"])
    rows = list(curves.groupby(["dataset", "labels"]))
    canvas, axes = panels((len(rows), len(measures)), (3.9, 2.6), "all", "col")
    for row, ((dataset, labels), cell) in zip(axes, rows, strict=True):
        for axis, measure in zip(row, measures, strict=True):
            name, scale = MEASURES[measure]
            axis.set(title=f"{dataset}, {labels} labels", ylabel=name.format(eps=eps))
            axis.tick_params(labelbottom=True, labelleft=True)
            axis.text(0.02, 0.03, _diverged(cell), transform=axis.transAxes, fontsize=7, color="#555555")
            for i, (model, look) in enumerate(looks.items()):
                _curve(axis, cell[(cell["measure"] == measure) & (cell["model"] == model)], look, scale, i)
    for axis, measure in zip(axes[0], measures, strict=True):
        drawn = curves[curves["measure"] == measure][["lowest", "highest"]]
        fit_scale(axis, "y", drawn.to_numpy() * MEASURES[measure][1])
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    canvas.legend(handles=legend(looks), loc="outside right upper", frameon=False, handlelength=3.5)
    return canvas


def _curve(axis: Axes, curve: pd.DataFrame, look: Style, scale: float, order: int) -> None:
    curve = curve[curve["n"] > 0]
    every = max(1, len(curve) // 6)
    axis.plot(
        curve["epoch"],
        curve["mean"] * scale,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.3,
        markevery=(order % every, every),
    )
    if (curve["n"] > 1).any():
        band = (curve["lowest"] * scale, curve["highest"] * scale)
        axis.fill_between(curve["epoch"], *band, color=look.colour, alpha=0.12, linewidth=0)


def _diverged(curves: pd.DataFrame) -> str:
    """A line for each model of which seeds diverged."""
    counts = curves.groupby("model")["diverged"].max()
    return "\n".join(f"{model}: {counts[model]} diverged" for model in styles(counts.index) if counts[model])
