"""Error against eps, a figure a norm: one step of the fast gradient method, and the worst case of the audit."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.audit import BALL, budget, where
from reports.canvas import fit_scale, panels
from reports.cells import CELL, band, ordered, starting
from reports.layout import means_of
from reports.models import error_line, legend, styles
from reports.room import noted, shown
from reports.section import Picture, Run, Section

FEWEST = 4  # eps of a curve
TEXT = (
    "Left: one step of the fast gradient method on all test images. Right: the share of the audit's images that have "
    "an image called something else within eps, as far as any of the audit's attacks found it. A line is the mean over "
    "seeds, its band goes from the lowest to the highest seed; the dotted line is a guess among ten classes."
)
KINDS = {"fgm": "one step of the fast gradient method", "worst": "worst case over the audit's attacks"}


def table(records: pd.DataFrame) -> pd.DataFrame:
    """Mean, lowest and highest error over seeds and n seeds, by kind, norm and eps, where there are eps enough."""
    kind = records["attack"].mask(starting(records["attack"], "worst-"), "worst")
    found = records[(records["measure"] == "attacked_error") & kind.isin(KINDS)].assign(kind=kind)
    found = found[np.isfinite(found["value"])]
    groups = found.groupby([*CELL, "kind", "norm", "eps"])["value"]
    curves = band(groups).reset_index()
    enough = curves.groupby([*CELL, "kind", "norm"])["eps"].transform("size") >= FEWEST
    return ordered(curves[enough], [*CELL, "kind", "norm", "eps"])


def section(norm: str, run: Run) -> Section:
    """A norm of the fast gradient method, and beside it the ball it steps in; nothing where no curve was measured."""
    curves = table(run.records)
    fgm, worst = (
        (curves["kind"] == "fgm") & (curves["norm"] == norm),
        (curves["kind"] == "worst") & (curves["norm"] == BALL[norm]),
    )
    data = curves[fgm | worst]
    heading = f"Error against eps, {norm}"
    if not fgm.any():
        return Section(f"curves-{norm}", heading, ())
    part = shown(data)
    return Section(
        f"curves-{norm}",
        heading,
        noted(
            [Picture(part, figure, f"{TEXT} {means_of(part['n'])} {budget(run.records, BALL[norm])}".rstrip())],
            part,
            data,
        ),
        data,
    )


def figure(curves: pd.DataFrame) -> Figure:
    """Rows label counts, columns kinds of attack, a line a model: mean over seeds, the band lowest to highest."""
    looks = styles(curves["model"])
    kinds = [kind for kind in KINDS if kind in set(curves["kind"])]
    rows = list(curves.groupby(["dataset", "labels"]))
    canvas, axes = panels((len(rows), len(kinds)), (3.9, 2.6), "all", "all")
    for row, ((dataset, labels), cell) in zip(axes, rows, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            shown = cell[cell["kind"] == kind]
            names = ", ".join(shown["norm"].unique()) or "not measured"
            axis.set_title(f"{where(dataset, labels)}\n{KINDS[kind]}, {names}")
            axis.axhline(90, color="#999999", linewidth=0.8, linestyle=(0, (1, 2)))
            axis.tick_params(labelbottom=True, labelleft=True)
            for order, (model, look) in enumerate(looks.items()):
                curve = shown[shown["model"] == model]
                every = max(1, len(curve) // 6)
                error_line(axis, curve, look, markevery=(order % every, every))
        row[0].set_ylabel("error (%)")
    axes[0, 0].set_ylim(-2, 102)
    fit_scale(axes[0, 0], "x", curves["eps"].to_numpy())
    for axis in axes[-1]:
        axis.set_xlabel("eps")
    canvas.legend(handles=legend(looks), loc="outside right upper", frameon=False, handlelength=3.5)
    return canvas
