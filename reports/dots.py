"""Robustness seed by seed: each model's error under attack beside its clean error, norm by norm."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.canvas import fit_scale, panels
from reports.cells import CELL, clean, fast_gradient, norms, ordered
from reports.models import Style, styles
from reports.room import noted, shown
from reports.section import Picture, Run, Section

MEASURES = ["attacked_error", "clean_error"]
TEXT = (
    "Each filled mark is one seed, the bar the mean over seeds: first the test error without an attack, then the error "
    "under one step of the fast gradient method; the hollow circle is the mean error of the same checkpoints without "
    "it. Where a norm was attacked at several eps, eps 0.3 is shown, or else the largest."
)


def section(run: Run) -> Section:
    """The figure, or that there is nothing to draw."""
    data = table(run.records)
    heading = "Robustness, seed by seed"
    if not len(data):
        return Section("robustness", heading, ("No error has been recorded, hence no figure.",))
    part = shown(data)
    picture = Picture(part, figure, f"{TEXT} {run.threat}".strip())
    return Section("robustness", heading, noted([picture], part, data), data)


def table(records: pd.DataFrame) -> pd.DataFrame:
    """What the figure draws: each seed's final test error as norm "clean", and its errors under fgm."""
    attacked = fast_gradient(records)
    shown = pd.concat([clean(records), attacked[attacked["measure"].isin(MEASURES)]])
    return ordered(shown[[*CELL, "seed", "measure", "norm", "eps", "value"]], [*CELL, "norm", "eps", "measure", "seed"])


def figure(dots: pd.DataFrame) -> Figure:
    """Rows label counts, columns norms; a dot a seed, a bar their mean, a hollow mark the mean clean error."""
    looks = styles(dots["model"])
    columns = norms(dots["norm"])
    rows = list(dots.groupby(["dataset", "labels"]))
    canvas, axes = panels((len(rows), len(columns)), (2.3, 0.8 + 0.28 * len(looks)), "col", "all")
    for row, ((dataset, labels), cell) in zip(axes, rows, strict=True):
        for axis, norm in zip(row, columns, strict=True):
            panel = cell[cell["norm"] == norm]
            _panel(axis, panel, looks)
            axis.set_title(", ".join([norm, *(f"eps {eps:g}" for eps in panel["eps"].unique() if eps)]))
            axis.tick_params(labelbottom=True)
        row[0].set_ylabel(f"{dataset}\n{labels} labels")
    axes[0, 0].set_yticks(range(len(looks)), list(looks))
    axes[0, 0].set_ylim(len(looks) - 0.5, -0.5)
    for top, bottom, norm in zip(axes[0], axes[-1], columns, strict=True):
        bottom.set_xlabel("error (%)")
        fit_scale(top, "x", 100 * dots[dots["norm"] == norm]["value"].to_numpy())
    canvas.legend(handles=_handles(), loc="outside upper center", ncols=min(3, len(columns)), frameon=False)
    return canvas


def _panel(axis: Axes, panel: pd.DataFrame, looks: dict[str, Style]) -> None:
    for y, (model, look) in enumerate(looks.items()):
        errors = panel[panel["model"] == model]
        finite = errors[np.isfinite(errors["value"])]
        beside = finite["measure"] == "clean_error"
        shown, without = 100 * finite[~beside]["value"], 100 * finite[beside]["value"]
        marks: dict[str, Any] = {"color": look.colour, "linestyle": ""}
        axis.plot(shown, np.full(len(shown), y), marker=look.marker, markersize=4.5, alpha=0.6, **marks)
        if len(shown):
            axis.plot([shown.mean()], [y], marker="|", markersize=11, markeredgewidth=1.8, **marks)
        if len(without):
            axis.plot([without.mean()], [y + 0.25], marker="o", fillstyle="none", markersize=5.5, **marks)
        diverged = (errors["measure"] != "clean_error").sum() - len(shown)
        if diverged or not len(errors):
            said = f"{diverged} diverged" if diverged else "no record"
            at: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "ha": "right", "va": "center"}
            axis.text(0.98, y - 0.28 * bool(diverged), said, fontsize=7, color="#555555", **at)


def _handles() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#555555", "linestyle": ""}
    return [
        Line2D([], [], marker="o", markersize=4.5, alpha=0.6, label="one seed", **grey),
        Line2D([], [], marker="|", markersize=12, markeredgewidth=1.8, label="mean over seeds", **grey),
        Line2D(
            [],
            [],
            marker="o",
            fillstyle="none",
            markersize=6.5,
            label="same checkpoints without an attack, mean",
            **grey,
        ),
    ]
