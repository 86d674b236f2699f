"""What `tune` chose, and a suite's text with it."""

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.store import read_json, read_table
from benchmark.suite import Cell
from reports.cells import TUNING
from zoo.config import LATER, Hyperparameters, canonical, plain
from zoo.errors import BadInput

TABLE = "hyperparameters"
CONFIGURATION = "config.json"  # beside the table: what all candidates of a cell have in common
# What they need not: what the table says of each, and what is measured beside the training.
VARIED = ("eps", "alpha", "power_iterations", "labels", "validation", "hyperparameters")
MEASURED = (
    "evaluate_every",
    "smoothness_every",
    "smoothness_iterations",
    "deviation_every",
    "train_images",
    "points_at",
)


@dataclass(frozen=True)
class Choice:
    """Hyper-parameters of a cell, and a line on what they were chosen by."""

    hyperparameters: Hyperparameters
    reason: str


def common(cell: Cell) -> dict[str, Any]:
    """The part of a cell's configuration that may not differ between its candidates, by field, as plain JSON values."""
    parts = {"model": cell.model, "hyperparameters": cell.model.hyperparameters, "training": cell.training}
    fields = [(part, field, value) for part, own in parts.items() for field, value in canonical(own).items()]
    found = {f"{part}.{field}": value for part, field, value in fields if field not in (*VARIED, *MEASURED)}
    values: dict[str, Any] = json.loads(json.dumps(found))
    return values


def check_tuned(cell: Cell, folder: Path, but: Collection[str] = ()) -> None:
    """Refuse a folder that has candidates of the cell in another configuration, naming the first field that differs.

    Where nothing is noted of the cell, as in a folder of earlier days, it is taken as it is. `but`: not these fields.
    """
    path, now = folder / CONFIGURATION, common(cell)
    was = (read_json(path) or {}).get(cell.name, now)
    if not isinstance(was, dict):
        raise BadInput(f"{path} is no configuration of {cell.name}: restore it, or choose another --out")
    for field in sorted({*was, *now} - {*but}):
        earlier = LATER.get(field.rpartition(".")[2])
        old, new = was.get(field, earlier), now.get(field, earlier)
        if old != new:
            raise BadInput(f"{path}: {cell.name}: {field} was {old!r} and is {new!r}: choose another --out")


def best(table: Path, cell: Cell) -> Choice | None:
    """The setting of a cell with the lowest mean validation error; None where the table has none.

    Only settings of the largest budget are compared, of these those measured on the most images, then of most seeds.
    K is the cell's own. A setting with a diverged seed is none; of settings that are equal, the smaller eps.
    """
    rows = read_table(table, TUNING)
    model, training = cell.model, cell.training
    own = {"dataset": training.dataset, "model": model.name, "labels": training.labels}
    own |= {"power_iterations": model.iterations(0), "measure": "validation_error"}
    for column, value in own.items():
        rows = rows[rows[column] == value]
    groups = rows.groupby(["eps", "alpha", "power_iterations", "updates", "n"])["value"]
    found = groups.agg(error=lambda values: values.mean(skipna=False), seeds="size").reset_index().dropna()
    for column in ("updates", "n", "seeds"):
        found = found[found[column] == found[column].max()]
    if not len(found):
        return None
    row = found.sort_values(["error", "eps"], kind="stable").iloc[0]
    tuned = replace(model.hyperparameters, eps=(float(row["eps"]),), alpha=float(row["alpha"]))
    return Choice(tuned, told(row))


def told(row: "pd.Series[Any]") -> str:
    """A setting and what it came to."""
    return (
        f"eps {row['eps']:g}, alpha {row['alpha']:g}, K {row['power_iterations']:.0f}: validation error "
        f"{100 * row['error']:.2f} % of {row['n']:,.0f} images, {row['updates']:,.0f} updates, "
        f"{row['seeds']:.0f} seed(s)"
    )


def with_chosen(text: str, chosen: Mapping[str, Choice]) -> str:
    """A suite's TOML text with what was chosen for its cells, and by what, in the place of what it had for them.

    All else stays as it was typed; a comment goes with what it stands before. Only hyper-parameters above all tables,
    where TOML lets nothing be added to them, become tables.
    """
    kept = pending = ""
    table: list[str] = []
    for piece, values in statements(text):
        pending += piece
        if not values:
            continue
        where = names(values)
        if piece.lstrip().startswith("["):
            table = where
        else:
            where = table + where
        if where[0] != TABLE or (table and not chosen.keys() & where[1:2]):
            kept += pending
        pending = ""
    kept += pending
    given, still = (tomllib.loads(each).get(TABLE, {}) for each in (text, kept))
    moved = {name: (own, "") for name, own in given.items() if name not in still and name not in chosen}
    new = moved | {name: (plain(own.hyperparameters), f"  # {own.reason}") for name, own in chosen.items()}
    kept = kept.rstrip() + "\n"
    for name, (own, reason) in new.items():
        lines = [f"{field} = {json.dumps(value)}\n" for field, value in own.items() if value != []]
        kept += "".join([f"\n[{TABLE}.{name}]{reason}\n", *lines])
    return kept


def names(values: Any) -> list[str]:
    """The names that lead to the only value of a statement."""
    found = []
    while isinstance(values, dict) and len(values) == 1:
        ((name, values),) = values.items()
        found.append(name)
    return found


def statements(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A TOML text in pieces, and what each says: a header, a key with its value, however long, or nothing."""
    piece = ""
    for line in re.findall(r".*\n|.+", text):
        piece += line
        try:
            values = tomllib.loads(piece)
        except tomllib.TOMLDecodeError:  # it goes on
            continue
        yield piece, values
        piece = ""
