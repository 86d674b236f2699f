"""Virtual adversarial examples of trained models: who is misled by whose (VAT paper, Figure 6), and how they look."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.canvas import fit_scale, panels
from reports.cells import CELL, band, ordered
from reports.layout import means_of
from reports.models import error_line, legend, styles
from reports.section import Picture, Run, Section

MEASURE, PREFIX = "misidentified", "virtual/"
PITCH = 1.3  # images from one row to the next: above each what it is taken for
TEXT = (
    "Error of every model on virtual adversarial examples that one of them made of test images (VAT paper, section "
    "4.4.2 and Figure 6): a panel a maker, a line a model that is shown them. L2, not clipped, same seed on both "
    "sides. A line is the mean over seeds, its band goes from the lowest to the highest."
)
OF_IMAGES = (
    "Virtual adversarial examples x + r that each model makes of the same test images at several eps (L2; shown "
    "clipped to [0, 1]); above each image what its maker takes it for. The VAT paper's Figure 5 has such images of "
    "SVHN and CIFAR-10."
)


def section(run: Run) -> Section:
    """Error against the size of the perturbation; nothing where it was not measured."""
    data, heading = table(run.records), "Models on each other's virtual adversarial examples"
    if not len(data):
        return Section("virtual", heading, ())
    return Section("virtual", heading, (Picture(data, figure, f"{TEXT} {means_of(data['n'])}"),), data)


def table(records: pd.DataFrame) -> pd.DataFrame:
    """CELL, source, eps, mean, lowest, highest, n: over the seeds that are finite."""
    own = records[(records["measure"] == MEASURE) & np.isfinite(records["value"])]
    own = own.assign(source=own["attack"].str.removeprefix(PREFIX))
    values = band(own.groupby([*CELL, "source", "eps"])["value"])
    return ordered(values.reset_index(), [*CELL, "source", "eps"])


def figure(curves: pd.DataFrame) -> Figure:
    """Rows label counts, columns the models that made the examples."""
    looks = styles(curves["model"])
    makers = list(styles(curves["source"]))
    rows = list(curves.groupby(["dataset", "labels"]))
    canvas, axes = panels((len(rows), len(makers)), (2.6, 2.5), "all", "all")
    for row, ((dataset, labels), cell) in zip(axes, rows, strict=True):
        for axis, maker in zip(row, makers, strict=True):
            axis.set_title(f"examples of {maker}\n{dataset}, {labels} labels")
            axis.tick_params(labelbottom=True, labelleft=True)
            for model, look in looks.items():
                error_line(axis, cell[(cell["source"] == maker) & (cell["model"] == model)], look)
        row[0].set_ylabel("error (%)")
    axes[0, 0].set_ylim(-2, 102)
    fit_scale(axes[0, 0], "x", curves["eps"].to_numpy())
    for axis in axes[-1]:
        axis.set_xlabel("eps (L2)")
    canvas.legend(handles=legend(looks), loc="outside right upper", frameon=False, handlelength=3.5)
    return canvas


def images(run: Run) -> Section:
    """The examples themselves, of each model's first seed; nothing where none were stored."""
    data, heading = run.examples, "Virtual adversarial examples"
    if not len(data):
        return Section("examples", heading, ())
    first = data["seed"] == data.groupby(CELL)["seed"].transform("min")
    data = ordered(data[first], [*CELL, "eps", "example"])
    return Section("examples", heading, (Picture(data, picture, OF_IMAGES),), data)


def picture(examples: pd.DataFrame) -> Figure:
    """A panel a cell: rows eps, from 0, the image itself; columns examples."""
    cells = list(examples.groupby(CELL, sort=False))
    radii, shown = sorted(examples["eps"].unique()), sorted(examples["example"].unique())
    size = (0.55 * len(shown), 0.55 * PITCH * len(radii))
    canvas, axes = panels((1, len(cells)), size, "all", "all")
    for axis, ((dataset, model, labels), cell) in zip(axes[0], cells, strict=True):
        axis.set(title=f"{model}\n{dataset}, {labels}", aspect="equal", xticks=[])
        axis.grid(visible=False)
        axis.set_frame_on(False)
        axis.tick_params(left=False)
        for one in cell.itertuples():
            x, y = shown.index(one.example), PITCH * radii.index(one.eps)
            axis.imshow(
                pixels(str(one.pixels)), cmap="gray", vmin=0, vmax=255, extent=(x + 0.02, x + 0.98, y + 1, y + 0.04)
            )
            axis.text(x + 0.5, y, one.predicted, ha="center", va="bottom", fontsize=7)
        axis.set(xlim=(0, len(shown)), ylim=(PITCH * len(radii), 1 - PITCH))
    names = ["image" if eps == 0 else f"eps {eps:g}" for eps in radii]
    axes[0, 0].set_yticks([PITCH * row + 0.5 for row in range(len(radii))], names)
    return canvas


def pixels(text: str) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A square image from two hexadecimal digits a pixel."""
    flat = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    side = round(len(flat) ** 0.5)
    return flat.reshape(side, side)
