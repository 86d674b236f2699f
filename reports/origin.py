"""Where the numbers come from: provenance as given, and for each cell the run behind it."""

from collections.abc import Iterator, Mapping

import pandas as pd

from reports.layout import Table
from reports.section import Run, Section

CELLS = "cells"
COLUMNS = ["cell", "what", "value"]


def section(run: Run) -> Section:
    """A table of facts, and one of who did what of each cell (`provenance["cells"]`, a list of texts a cell)."""
    given = dict(run.provenance)
    cells = given.pop(CELLS, None)
    facts = pd.DataFrame([leaf for leaf in leaves(given) if leaf[1]], columns=COLUMNS[1:])
    if not len(facts):
        return Section("provenance", "Provenance", ("None was given.",), pd.DataFrame(columns=COLUMNS))
    about = "As recorded by the runs; the suite's hash is of its resolved cells."
    tables = [Table("provenance-facts", "What was run, by which code, on what", facts, about, wrapped=True)]
    frame = facts.assign(cell="")[COLUMNS]
    if isinstance(cells, Mapping) and cells:
        done = [(cell, f"stage {i}", text) for cell, texts in cells.items() for i, text in enumerate(texts, start=1)]
        stages = pd.DataFrame(done, columns=COLUMNS)
        frame = pd.concat([frame, stages], ignore_index=True)
        shown = stages.drop(columns="what").rename(columns={"value": "run"})
        about = "Who trained and attacked a cell's seeds: with which code, where, by which command and for how long."
        name, title = "provenance-cells", "For each cell the run it came from"
        tables.append(Table(name, title, shown, about, folded=True, wrapped=True))
    return Section("provenance", "Provenance", tuple(tables), frame)


def leaves(mapping: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("config.epochs", "40") for every plain value of a nested mapping, in its order."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)


def plain(value: object) -> str:
    """A value as text; a list's items are told apart by semicolons where they have commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in leaves(value))
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        return ("; " if any("," in item for item in items) else ", ").join(items)
    return str(value)
