"""What `tune` measured on validation images: Figures 3 and 4 of the VAT paper."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.canvas import fit_scale, panels
from reports.cells import band, ordered
from reports.layout import Table, cell, means_of
from reports.models import styles
from reports.section import Block, Picture, Run, Section

SETTING = ["dataset", "labels", "updates", "model", "eps", "alpha", "power_iterations"]
GREYS = (("#000000", "o", "-"), ("#555555", "s", "--"), ("#888888", "^", ":"), ("#000000", "v", (0, (5, 1, 1, 1))))
NAMES = {"validation_error": ("validation error (%)", 100.0), "smoothness": ("virtual adversarial cost R(K)", 1.0)}
SPREAD = "A mark is the mean over seeds, a bar goes from the lowest to the highest; no diverged seed is in it."
TEXT = {
    "tuning": "Error on validation images against eps with alpha = 1 (left), and of VAT against alpha (right), of "
    f"each model's longest trainings by the command `tune`: VAT paper, Figure 3. No test image is seen. {SPREAD}",
    "iterations": "Virtual adversarial cost (left) and error (right) on validation images of models trained and "
    f"measured with K power iterations, K = 0 a random perturbation: VAT paper, equation 16 and Figure 4a. {SPREAD}",
}
TRIED = (
    "Error on validation images in %; mean ± standard deviation over seeds (ddof 1), the number of seeds in brackets. "
    "`tune` chooses among the longest trainings alone; shorter ones, of a schedule shortened in proportion, say which "
    "are worth it."
)
HEADINGS = {"tuning": "Validation error against eps and alpha", "iterations": "The number of power iterations"}


def section(name: str, run: Run) -> Section:
    """`tuning`, the sweep of eps and alpha, or `iterations`, that of K; nothing where nothing was swept."""
    table = {"tuning": swept_sizes, "iterations": swept_iterations}[name](means(run.tuning))
    if not len(table):
        return Section(name, HEADINGS[name], ())
    draw = {"tuning": figure, "iterations": figure_of_iterations}[name]
    blocks: list[Block] = [Picture(table, draw, f"{TEXT[name]} {means_of(table['n'])}")]
    return Section(name, HEADINGS[name], (*blocks, *([candidates(run.tuning)] if name == "tuning" else [])), table)


def candidates(tuning: pd.DataFrame) -> Table:
    """Every setting that was tried, shorter trainings too: within each model and budget by eps."""
    tried = tuning[tuning["measure"] == "validation_error"]
    place = [*SETTING, "n"]
    errors = tried.groupby(place)["value"].agg(mean="mean", sd="std", seeds="count", of="size").reset_index()
    order = ["dataset", "labels", "model", "updates", "power_iterations", "alpha", "eps", "n"]
    errors = ordered(errors, order)
    rows = errors[["mean", "sd", "seeds", "of"]].itertuples(index=False, name=None)
    texts = [cell(mean, sd, seeds, of - seeds) for mean, sd, seeds, of in rows]
    columns = {"dataset": "data", "power_iterations": "K", "n": "images"}
    frame = errors[order].assign(**{name: errors[name].map("{:g}".format) for name in ("alpha", "eps")})
    frame = frame.assign(updates=errors["updates"].map("{:,}".format), n=errors["n"].map("{:,}".format))
    frame = frame.rename(columns=columns).assign(**{"validation error, %": texts})
    return Table("tuning-candidates", "What was tried", frame, TRIED, folded=True)


def means(tuning: pd.DataFrame) -> pd.DataFrame:
    """SETTING, measure, mean, lowest, highest, n over seeds.

    Only of each model's longest trainings, and of these only those that were measured on the most images.
    """
    place = ["dataset", "labels", "model"]
    own = tuning[tuning["updates"] == tuning.groupby(place)["updates"].transform("max")]
    own = own[own["n"] == own.groupby([*place, "measure"])["n"].transform("max")]
    own = own[own["value"].abs() < float("inf")]
    values = band(own.groupby([*SETTING, "measure"])["value"])
    return values.reset_index()


def swept_sizes(found: pd.DataFrame) -> pd.DataFrame:
    """Errors at the K that a model is mostly tried with, where eps or alpha has two values or more."""
    errors = found[found["measure"] == "validation_error"]
    usual = errors.groupby(["dataset", "labels", "model"])["power_iterations"].transform(lambda k: k.mode().iloc[0])
    errors = errors[errors["power_iterations"] == usual]
    groups = errors.groupby(["dataset", "labels", "model"])
    return errors[(groups["eps"].transform("nunique") > 1) | (groups["alpha"].transform("nunique") > 1)]


def swept_iterations(found: pd.DataFrame) -> pd.DataFrame:
    """Settings that were tried with two K or more, alpha = 1."""
    own = found[(found["model"] == "vat") & (found["alpha"] == 1)]
    several = own.groupby(["dataset", "labels", "eps"])["power_iterations"].transform("nunique") > 1
    return own[several]


def figure(table: pd.DataFrame) -> Figure:
    """Rows label counts; left a line a model over eps, right a line an eps of VAT over alpha, where that was swept."""
    rows = list(table.groupby(["dataset", "labels", "updates"]))
    vat = table[table["model"] == "vat"]
    swept = vat.groupby(["dataset", "labels", "eps"])["alpha"].transform("nunique") > 1
    canvas, axes = panels((len(rows), 1 + bool(swept.any())), (3.9, 2.6), "col", "row")
    looks = styles(table["model"])
    for row, (where, there) in zip(axes, rows, strict=True):
        lines = [(model, (s.colour, s.marker, s.line)) for model, s in looks.items()]
        plain = there[there["alpha"] == 1]
        _panel(row[0], plain, "eps", "model", lines, "validation_error", where)
        if len(row) > 1:
            own = vat[swept & (vat[["dataset", "labels", "updates"]] == list(where)).all(axis=1)]
            _panel(row[1], own, "alpha", "eps", _lines(own["eps"]), "validation_error", where)
    for axis, values in zip(axes[0], (table.loc[table["alpha"] == 1, "eps"], vat.loc[swept, "alpha"]), strict=False):
        fit_scale(axis, "x", values.to_numpy(dtype=float))  # one for its column, whose panels share it
    return canvas


def figure_of_iterations(table: pd.DataFrame) -> Figure:
    """Rows label counts; left the cost, right the error over K, a line an eps."""
    rows = list(table.groupby(["dataset", "labels", "updates"]))
    canvas, axes = panels((len(rows), 2), (3.4, 2.6), "all", "none")
    for row, (where, own) in zip(axes, rows, strict=True):
        for axis, measure in zip(row, ("smoothness", "validation_error"), strict=True):
            _panel(axis, own, "power_iterations", "eps", _lines(own["eps"]), measure, where)
            axis.set_xlabel("K, power iterations")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_ylim(0, 1.08 * axis.get_ylim()[1])
    return canvas


def _lines(eps: pd.Series) -> list[tuple[float, Any]]:
    return [(value, GREYS[i % len(GREYS)]) for i, value in enumerate(sorted(eps.unique()))]


def _panel(
    axis: Axes, table: pd.DataFrame, x: str, by: str, lines: Sequence[tuple[Any, Any]], measure: str, where: Any
) -> None:
    if not len(table):
        axis.set_axis_off()
        return
    name, scale = NAMES[measure]
    dataset, labels, updates = where
    axis.set(title=f"{dataset}, {labels} labels, {updates} updates", xlabel=x, ylabel=name)
    axis.tick_params(labelbottom=True, labelleft=True)
    for value, (colour, marker, line) in lines:
        own = table[(table[by] == value) & (table["measure"] == measure)].sort_values(x)
        if not len(own):
            continue
        bars = scale * (own["mean"] - own["lowest"]), scale * (own["highest"] - own["mean"])
        label = value if by == "model" else f"{by} {value:g}"
        axis.errorbar(own[x], scale * own["mean"], bars, color=colour, marker=marker, linestyle=line, label=label)
    axis.legend(frameon=False, fontsize=8)
