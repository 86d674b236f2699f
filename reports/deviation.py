"""How noisy the regulariser's gradient is while a model trains: Figure 7a of the VAT paper."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.canvas import panels
from reports.cells import CELL, band, ordered, starting
from reports.layout import means_of
from reports.room import noted, shown
from reports.section import Picture, Run, Section

PREFIX = "gradient_deviation/"
LINES = {0: ":", 1: "-"}  # of any other K: OTHER
OTHER = "--"
TEXT = (
    "Normalised SD norm of the gradient of the regulariser (VAT paper, equation 21) with random perturbations (K = 0, "
    "RPT) and after one power iteration (K = 1, VAT), both on the weights of the model that trains, over 50 mini-"
    "batches with their perturbations. A line is the mean over seeds, its band goes from the lowest to the highest."
)


def section(run: Run) -> Section:
    """The figure; nothing where it was not measured."""
    data, heading = table(run.history), "Deviation of the regulariser's gradient by epoch"
    if not len(data):
        return Section("deviation", heading, ())
    part = shown(data)
    return Section(
        "deviation", heading, noted([Picture(part, figure, f"{TEXT} {means_of(part['n'])}")], part, data), data
    )


def table(history: pd.DataFrame) -> pd.DataFrame:
    """CELL, power_iterations, epoch, mean, lowest, highest, n over the seeds that are finite.

    ValueError for a measure that is of no number of power iterations.
    """
    own = history[starting(history["measure"], PREFIX)]
    iterations = own["measure"].str.removeprefix(PREFIX)
    if len(wrong := own[~iterations.str.fullmatch("[0-9]{1,9}")]):
        raise ValueError(f"history: unknown measure {wrong['measure'].iloc[0]!r}: expected {PREFIX}0, {PREFIX}1, ...")
    own = own.assign(power_iterations=iterations.astype("int64"))
    groups = own[own["value"].abs() < float("inf")].groupby([*CELL, "power_iterations", "epoch"])["value"]
    values = band(groups).reset_index()
    return ordered(values, [*CELL, "power_iterations", "epoch"])


def figure(curves: pd.DataFrame) -> Figure:
    """A panel a cell, a line a K."""
    cells = list(curves.groupby(CELL, sort=False))
    canvas, axes = panels((1, len(cells)), (3.4, 2.6), "none", "all")
    for axis, ((dataset, model, labels), cell) in zip(axes[0], cells, strict=True):
        axis.set(title=f"{model}, {dataset}, {labels} labels", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.tick_params(labelleft=True)
        for iterations, curve in cell.groupby("power_iterations"):
            line = LINES.get(int(str(iterations)), OTHER)
            axis.plot(curve["epoch"], curve["mean"], f"o{line}", color="#000000", label=f"K = {iterations}")
            axis.fill_between(
                curve["epoch"], curve["lowest"], curve["highest"], color="#000000", alpha=0.12, linewidth=0
            )
        axis.legend(frameon=False)
    axes[0, 0].set_ylabel("normalised SD norm")
    axes[0, 0].set_ylim(bottom=0)
    return canvas
