"""Panels, their scales and the bytes of a figure: object-oriented matplotlib, no state left behind."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal

import matplotlib
import matplotlib.ft2font
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

LOOKS: list[Any] = [
    "default",
    {"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.grid": True, "grid.alpha": 0.3},
    {"axes.titley": 1.0},  # no panel has ticks above it, so none needs to be looked for at each drawing
    {"pdf.compression": 0, "pdf.fonttype": 3},
]
DRAWN_BY = f"matplotlib {matplotlib.__version__}, freetype {matplotlib.ft2font.__freetype_version__}"
Share = Literal["none", "all", "row", "col"]


def images(draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame, data: str) -> tuple[bytes, bytes]:
    """PNG and PDF of what `draw` draws of the table; same table, same libraries, same bytes.

    Both carry what they were drawn from (the digest of `data`, the CSV file beside them) and by which libraries:
    `check` compares by these, as bytes differ between versions. The PDF is not compressed, for the same reason.
    Each is drawn once, by its canvas: `savefig` would draw it once more before, for a layout that is done by then.
    """
    digest = f"data sha256 {hashlib.sha256(data.encode()).hexdigest()}"
    png, pdf = BytesIO(), BytesIO()
    with matplotlib.style.context(LOOKS):
        figure = drawn(draw, table)
        fixed = {"CreationDate": None, "Creator": "reports", "Producer": DRAWN_BY, "Subject": digest}
        FigureCanvasPdf(figure).print_pdf(pdf, metadata=fixed)  # type: ignore[no-untyped-call]
        figure.set_dpi(150)
        described = {"Software": DRAWN_BY, "Description": digest}
        FigureCanvasAgg(figure).print_png(png, metadata=described)  # type: ignore[no-untyped-call]
    return png.getvalue(), pdf.getvalue()


def drawn(draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame) -> Figure:
    """The picture without the tick labels that have no room: one that would touch the label before it is left out.

    It is laid out once, so that what was found to have room has it in every format.
    """
    figure = draw(table)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        before: Bbox | None = None
        axis.get_majorticklabels()  # places them
        for tick in sorted(axis.get_major_ticks(), key=lambda tick: tick.get_loc()):
            box = tick.label1.get_window_extent().padded(1.5)
            if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text():
                if before and before.overlaps(box):
                    tick.label1.set_visible(False)
                else:
                    before = box
    return figure


def panels(shape: tuple[int, int], size: tuple[float, float], sharex: Share, sharey: Share) -> tuple[Figure, Any]:
    """A figure and its (rows, columns) array of axes; size is one panel's width and height in inches."""
    inches = (1.4 + size[0] * shape[1], 0.7 + size[1] * shape[0])
    figure = Figure(figsize=inches, layout=ConstrainedLayoutEngine(w_pad=0.07))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(*shape, squeeze=False, sharex=sharex, sharey=sharey)


def fit_scale(axes: Axes, which: Literal["x", "y"], values: "np.ndarray[Any, np.dtype[np.float64]]") -> None:
    """Logarithmic, ticks at 1, 2, 5; where some values are zero, linear below the smallest positive one."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return
    low, high = positive.min() / 1.25, positive.max() * 1.25
    ticks = log_ticks(low, high)
    set_scale, set_limits = (axes.set_xscale, axes.set_xlim) if which == "x" else (axes.set_yscale, axes.set_ylim)
    if (values == 0).any():
        set_scale("symlog", linthresh=low)
        set_limits(-low / 4, high)
        ticks = [0.0, *ticks]
    else:
        set_scale("log")
        set_limits(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Between two positive numbers: 1, 2, 5 of each decade, of many decades 1 alone, else a few round numbers."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.floor(np.log10(high)) + 1)
    parts = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [float(decade * part) for decade in decades for part in parts]
    few = [float(tick) for tick in MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)]
    inside, few = ([t for t in each if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)] for each in (ticks, few))
    return inside if len(inside) > 1 else few
