"""How much of what one step leaves standing falls to many: each model under L-infinity, attack by attack."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from reports.audit import budget, where
from reports.canvas import fit_scale, panels
from reports.cells import CELL, band, ordered
from reports.layout import means_of
from reports.models import styles
from reports.remains import shown_attacks
from reports.room import noted, shown
from reports.section import Picture, Run, Section

TEXT = (
    "Error under L-infinity attacks on the audit's images, true labels, not clipped: one step by cross-entropy in "
    "float32 (the paper's loss), by margin, in float64, then many steps (the smaller budget of two), and the worst "
    "case over all attacks of the audit, image by image; noise, uniform or Gaussian, for comparison. Mean over seeds, "
    "bars from the lowest to the highest. The gap between one step and many is robustness that was not there."
)
LABELS = {
    "single-step": "one step, cross-entropy, float32",
    "single-step/margin": "one step, margin",
    "single-step/float64": "one step, float64",
    "pgd": "many steps",
    "worst": "worst case, image by image",
    "noise": "noise",
}
LOOKS: dict[str, tuple[str, str, Any]] = {  # grey, marker, line: colours are the models'
    "single-step": ("#777777", "o", "-"),
    "single-step/margin": ("#777777", "^", "--"),
    "single-step/float64": ("#aaaaaa", "x", ":"),
    "pgd": ("#000000", "s", "-"),
    "worst": ("#000000", "v", ":"),
    "noise": ("#aaaaaa", ".", "-."),
}


def section(run: Run) -> Section:
    """The figure; nothing where no audit has been made."""
    data, heading = table(run.records), "One step and many: what the L-infinity figures are worth"
    if data.empty:
        return Section("one-and-many", heading, ())
    part = shown(data)
    return Section(
        "one-and-many",
        heading,
        noted([Picture(part, figure, f"{TEXT} {means_of(part['n'])} {budget(run.records, 'Linf')}")], part, data),
        data,
    )


def table(records: pd.DataFrame) -> pd.DataFrame:
    """Mean, lowest and highest error over seeds and n, by attack and eps, under L-infinity."""
    found = shown_attacks(records)
    found = found[(found["norm"] == "Linf") & np.isfinite(found["value"])]
    groups = found.groupby([*CELL, "attack", "eps"])["value"]
    errors = band(groups).reset_index()
    return ordered(errors, [*CELL, "attack", "eps"])


def figure(errors: pd.DataFrame) -> Figure:
    """Rows label counts, columns models, a line an attack."""
    models = list(styles(errors["model"]))
    rows = list(errors.groupby(["dataset", "labels"]))
    width = max(1.45, 3 / len(models))
    columns = max(1, min(3, int(width * len(models) / 2.4)))  # of the legend: inches that its longest label takes
    above = 0.2 * -(-len(LOOKS) // columns)  # inches that the legend takes
    canvas, axes = panels((len(rows), len(models)), (width, 1.8 + above / len(rows)), "all", "all")
    for row, ((dataset, labels), cell) in zip(axes, rows, strict=True):
        for axis, model in zip(row, models, strict=True):
            axis.set_title(model)
            axis.tick_params(labelbottom=True)
            if model not in set(cell["model"]):
                axis.text(0.5, 0.5, "not audited", transform=axis.transAxes, ha="center", va="center", color="#777777")
            for attack, (colour, marker, line) in LOOKS.items():
                own = cell[(cell["model"] == model) & (cell["attack"] == attack)]
                spread = 100 * np.vstack([own["mean"] - own["lowest"], own["highest"] - own["mean"]])
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
                axis.errorbar(own["eps"], 100 * own["mean"], yerr=spread, linewidth=1.2, elinewidth=0.8, **look)
        row[0].set_ylabel(f"{where(dataset, labels)}\nerror (%)")
    axes[0, 0].set_ylim(-2, 102)
    fit_scale(axes[0, 0], "x", errors["eps"].to_numpy())
    axes[0, 0].xaxis.set_major_locator(FixedLocator(sorted(errors["eps"].unique())))  # the few there are
    for axis in axes[-1]:
        axis.set_xlabel("eps")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=4, label=LABELS[attack])
        for attack, (colour, marker, line) in LOOKS.items()
    ]
    canvas.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
    return canvas
