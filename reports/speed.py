"""The engine beside the reference and the floor: one table, one figure of cost against number of seeds."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from reports.canvas import fit_scale, images, panels
from reports.layout import Table, csv
from reports.models import styles

COLUMNS = {
    "model": "model",
    "seeds": "seeds",
    "engine": "engine",
    "precision": "precision",
    "reference_ms": "reference, ms a seed-step",
    "engine_ms": "engine, ms a seed-step",
    "ratio": "ratio",
    "floor_ms": "floor, ms a seed-step",
    "floor_share": "floor / engine, %",
    "bound_by": "bound by",
    "memory_gib": "peak memory, GiB",
}
SHOWN = {
    "reference_ms": "{:.2f}",
    "engine_ms": "{:.2f}",
    "ratio": "{:.2f}",
    "floor_ms": "{:.2f}",
    "memory_gib": "{:.2f}",
}
CAPTION = (
    "Medians of steps that took turns in one run. The reference trains one seed after another, eager, in float32. The "
    "floor is the longer of two times that no step can go below: the operations of its matrix products over the "
    "measured peak, and the bytes it must move over the measured copy bandwidth."
)


def render_speed(measured: pd.DataFrame, about: Mapping[str, object]) -> dict[str, bytes]:
    """File name -> content of speed.md, .tex, .csv, .png, .pdf. `measured` has the keys of COLUMNS, and what else."""
    shown = measured[list(COLUMNS)].copy()
    for name, form in SHOWN.items():
        shown[name] = shown[name].map(form.format)
    shown["floor_share"] = (100 * measured["floor_share"]).map("{:.0f}".format)
    table = Table("speed", "The engine beside the plain reference", shown.rename(columns=COLUMNS), CAPTION)
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    data = csv(measured)
    png, pdf = images(figure, measured, data)
    page = f"# Speed\n\n{facts}\n\n{table.markdown()}\n![Cost of a seed-step against the number of seeds](speed.png)\n"
    texts = {"speed.md": page, "speed.csv": data, "speed.tex": table.latex()}
    return {name: text.encode() for name, text in texts.items()} | {"speed.png": png, "speed.pdf": pdf}


def figure(measured: pd.DataFrame) -> Figure:
    """Milliseconds a seed-step against the number of seeds: engine (line), reference (dotted), floor (dashed)."""
    looks = styles(measured["model"])
    canvas, axes = panels((1, len(looks)), (2.4, 2.4), "all", "all")
    kinds = {"reference_ms": ("reference", ":"), "engine_ms": ("engine", "-"), "floor_ms": ("floor", "--")}
    for axis, (model, look) in zip(axes[0], looks.items(), strict=True):
        rows = measured[measured["model"] == model].sort_values("seeds")
        for name, (label, line) in kinds.items():
            axis.plot(rows["seeds"], rows[name], line, marker=look.marker, color=look.colour, label=label, markersize=4)
        axis.set_title(model)
        axis.set_xlabel("seeds")
        axis.set_xticks(sorted(measured["seeds"].unique()))
        axis.legend(frameon=False, fontsize=7)
    axes[0, 0].set_ylabel("ms a seed-step")
    fit_scale(axes[0, 0], "y", measured[list(kinds)].to_numpy().ravel())
    return canvas
