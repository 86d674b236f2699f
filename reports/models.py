"""The order and the looks of the models: the same colour and marker in every figure.

Colours are Okabe and Ito's colour-blind-safe set without its yellow, and two of Paul Tol's muted set for the VAT
paper's further models; markers and lines tell the models apart in grey.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    line: Any  # as matplotlib names line styles


MODELS = {
    "supervised": Style("#000000", "x", ":"),
    "rpt": Style("#882255", "<", "-"),
    "rpt-9": Style("#882255", ">", "--"),
    "adversarial-linf": Style("#332288", "1", "-"),
    "adversarial-l2": Style("#332288", "2", "--"),
    "vat": Style("#E69F00", "o", "-"),
    "ladder": Style("#0072B2", "s", "-"),
    "lvac": Style("#009E73", "^", "--"),
    "lvac-lw": Style("#56B4E9", "v", (0, (5, 1, 1, 1))),
    "lvan": Style("#D55E00", "D", (0, (6, 1, 1, 1, 1, 1))),
    "lvan-lw": Style("#CC79A7", "P", (0, (5, 1, 1, 1))),
}


def legend(looks: Mapping[str, Style]) -> list[Line2D]:
    """A line of a legend for each model."""
    return [
        Line2D([], [], color=s.colour, linestyle=s.line, marker=s.marker, markersize=4.5, label=model)
        for model, s in looks.items()
    ]


def error_line(axis: Axes, curve: pd.DataFrame, look: Style, markevery: tuple[int, int] | None = None) -> None:
    """A model's error in % against eps: the mean over seeds, its band from the lowest to the highest."""
    shown: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
    axis.plot(curve["eps"], 100 * curve["mean"], markersize=4.5, linewidth=1.3, markevery=markevery, **shown)
    band = 100 * curve["lowest"], 100 * curve["highest"]
    axis.fill_between(curve["eps"], *band, color=look.colour, alpha=0.12, linewidth=0)


def rank(model: str) -> tuple[int, str]:
    """Sort key: the known models in their fixed order, then the others alphabetically."""
    return list(MODELS).index(model) if model in MODELS else len(MODELS), model


def styles(models: Iterable[str]) -> dict[str, Style]:
    """Style of each model, in order; models not in `MODELS` are grey, each with a marker of its own."""
    ordered = sorted(set(models), key=rank)
    spare = cycle("*hpd8XH+")
    return {m: MODELS[m] if m in MODELS else Style("#777777", next(spare), "-.") for m in ordered}
