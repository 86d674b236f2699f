"""Robustness seed by seed: each model's error under attack beside its clean error, norm by norm."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.canvas import fit_scale, panels
from reports.cells import ATTACK, CELL, norms, ordered
from reports.models import Style, styles

MEASURES = ["attacked_error", "clean_error"]
SHOWN_EPS = 0.3


def table(records: pd.DataFrame) -> pd.DataFrame:
    """What the figure draws: each seed's attacked and clean error, a norm at one eps.

    The eps is 0.3 (the paper's) where the norm was measured there, else the norm's largest.
    """
    errors = records[records["measure"].isin(MEASURES)]
    kind = ["dataset", "attack", "norm"]
    distance = (errors["eps"] - SHOWN_EPS).abs()
    at_paper = errors.assign(there=distance < 1e-9).groupby(kind)["there"].transform("any")
    largest = errors.groupby(kind)["eps"].transform("max")
    shown = errors[(distance < 1e-9) | (~at_paper & (errors["eps"] == largest))]
    return ordered(shown[[*CELL, "seed", "measure", *ATTACK, "value"]], [*CELL, *ATTACK, "measure", "seed"])


def figure(dots: pd.DataFrame) -> Figure:
    """Rows label counts, columns norms; a dot a seed, a bar their mean, a hollow mark the mean clean error."""
    looks = styles(dots["model"])
    columns = norms(dots["norm"])
    rows = list(dots.groupby(["dataset", "attack", "labels"]))
    canvas, axes = panels((len(rows), len(columns)), (2.3, 0.8 + 0.28 * len(looks)), "col", "all")
    for row, ((dataset, attack, labels), cell) in zip(axes, rows, strict=True):
        for axis, norm in zip(row, columns, strict=True):
            panel = cell[cell["norm"] == norm]
            _panel(axis, panel, looks)
            axis.set_title(", ".join([norm, *(f"eps {eps:g}" for eps in panel["eps"].unique())]))
            axis.tick_params(labelbottom=True)
        row[0].set_ylabel(f"{dataset}, {attack}\n{labels} labels")
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
        attacked, clean = (100 * finite[finite["measure"] == m]["value"] for m in MEASURES)
        marks: dict[str, Any] = {"color": look.colour, "linestyle": ""}
        axis.plot(attacked, np.full(len(attacked), y), marker=look.marker, markersize=4.5, alpha=0.6, **marks)
        if len(attacked):
            axis.plot([attacked.mean()], [y], marker="|", markersize=11, markeredgewidth=1.8, **marks)
        if len(clean):
            axis.plot([clean.mean()], [y + 0.25], marker="o", fillstyle="none", markersize=5.5, **marks)
        diverged = (errors["measure"] == MEASURES[0]).sum() - len(attacked)
        if diverged or not len(errors):
            said = f"{diverged} diverged" if diverged else "no record"
            at: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "ha": "right", "va": "center"}
            axis.text(0.98, y - 0.28 * bool(diverged), said, fontsize=7, color="#555555", **at)


def _handles() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#555555", "linestyle": ""}
    return [
        Line2D([], [], marker="o", markersize=4.5, alpha=0.6, label="under attack, one seed", **grey),
        Line2D([], [], marker="|", markersize=12, markeredgewidth=1.8, label="under attack, mean", **grey),
        Line2D([], [], marker="o", fillstyle="none", markersize=6.5, label="same checkpoints, clean, mean", **grey),
    ]
