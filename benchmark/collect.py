"""Folders of runs read back as what a report is made of."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.cell import as_trained, check_same
from benchmark.choice import check_tuned
from benchmark.dispatch import failure
from benchmark.plan import unchosen
from benchmark.provenance import provenance
from benchmark.store import EXAMPLES, HISTORY, RECORDS, keys_of, read_table, read_tables, stages
from benchmark.suite import Cell, Suite
from reports import STRANGE, UNPROVEN
from reports.cells import TUNING
from zoo.data import CHECKSUMS
from zoo.errors import BadInput

TRAINING_IMAGES = dict.fromkeys(CHECKSUMS, 60_000)
PLACE = ["dataset", "model", "labels"]
OF_NO_ATTACK = ("test_error", "lowest_test_error")
ABOUT = ("config.json", "provenance.json", "history.csv")  # of a cell
NOT_KEYS = ("label", "predicted", "pixels")


@dataclass(frozen=True)
class Collected:
    """What `reports.render` takes."""

    records: pd.DataFrame
    history: pd.DataFrame
    plan: pd.DataFrame
    provenance: dict[str, Any]
    tuning: pd.DataFrame
    examples: pd.DataFrame


def collect(suite: Suite, name: str, cells: Sequence[Cell], runs: Sequence[Path]) -> Collected:
    """The records of one run of a suite, complete or not, or of several put together.

    Raises BadInput for an unreadable record, for a cell that was run with another configuration, and for records of
    two runs that contradict each other.
    """
    cells = [in_runs(cell, runs) for cell in cells]
    for cell, run in product(cells, runs):
        check_tuned(cell, run / "tuning", but=("training.precision",))  # which is the cell's own affair
    records = gathered(cells, runs, "records.csv", RECORDS)
    history = gathered(cells, runs, "history.csv", HISTORY)
    examples = gathered(cells, runs, "examples.csv", EXAMPLES)
    tuning = united([run / "tuning" for run in runs], "tuning.csv", TUNING)
    seeds = records.groupby(PLACE)["seed"].unique().to_dict()
    epochs = pd.concat([history, records])[[*PLACE, "seed", "epoch"]].groupby([*PLACE, "seed"])["epoch"].max().to_dict()
    planned: list[tuple[str, str, int, int, float]] = []
    origin: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    unproven: list[str] = []
    for cell in cells:
        where = place(cell)
        of = [(*where, seed) for seed in dict.fromkeys([*cell.seeds, *seeds.get(where, ())])]
        planned += [(*each, epochs.get(each, 0) * updates(cell)) for each in of]
        if noted := stages_of(folders_of(cell, runs), runs):
            origin[cell.name] = noted
        folders = folders_of(cell, runs)
        recorded = [folder for folder in folders if (folder / "records.csv").is_file()]
        reasons = {folder: reason for folder in folders if (reason := failure(folder))}
        if reasons and not (set(recorded) - reasons.keys() and set(cell.seeds) <= set(seeds.get(where, ()))):
            failed[cell.name] = list(reasons.values())[-1]
        lacking = [[file for file in ABOUT if not (folder / file).is_file()] for folder in recorded]
        unproven += [f"{cell.name} ({' and '.join(each)} missing)" for each in lacking if each]
    if tuned := stages_of([run / "tuning" for run in runs], runs):
        origin["tuning"] = tuned
    plan = pd.DataFrame(planned, columns=[*PLACE, "seed", "updates"])
    lacks = {UNPROVEN: unproven, STRANGE: [folder.name for folder in strangers(suite, cells, runs)], "failed": failed}
    about = provenance(suite, name, cells, origin) | {key: value for key, value in lacks.items() if value}
    return Collected(records, history, plan, about, tuning, examples)


def strangers(suite: Suite, cells: Sequence[Cell], runs: Sequence[Path]) -> list[Path]:
    """Folders beside those of the cells that are of no cell of the suite: a report knows nothing of them."""
    known = {cell.name for cell in cells} | set(unchosen(suite))
    there = [folder for run in runs for folder in sorted((run / "cells").glob("*"))]
    return [folder for folder in there if folder.is_dir() and folder.name not in known]


def stages_of(folders: Sequence[Path], runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What was done in a cell's folders, each stage once with the runs that have it."""
    found: dict[str, dict[str, Any]] = {}
    for folder, run in zip(folders, distinguished(runs), strict=True):
        for stage in stages(folder):
            found.setdefault(json.dumps(stage, sort_keys=True), stage | {"runs": []})["runs"].append(run)
    return list(found.values())


def place(cell: Cell) -> tuple[str, str, int]:
    """What a cell's rows are found by in a report: `PLACE`."""
    return cell.training.dataset, cell.model.name, cell.training.labels


def folders_of(cell: Cell, runs: Sequence[Path]) -> list[Path]:
    """A cell's folder in every run."""
    return [run / "cells" / cell.name for run in runs]


def gathered(cells: Sequence[Cell], runs: Sequence[Path], name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a table of all cells, with each cell's `PLACE`; of a single run, the usual case, read at once."""
    whole = read_tables([runs[0] / "cells" / cell.name / name for cell in cells], columns)
    if len(runs) > 1 or whole.duplicated(["file", *places(name, columns)]).any() or misplaced(whole).any():
        tables = [united(folders_of(cell, runs), name, columns).assign(file=at) for at, cell in enumerate(cells)]
        whole = pd.concat(tables, ignore_index=True)
    where = pd.DataFrame([place(cell) for cell in cells], columns=PLACE)
    return whole.drop(columns="file").join(where.iloc[whole["file"]].set_axis(whole.index))


def places(name: str, columns: Mapping[str, str]) -> list[str]:
    """What may be recorded only once in a cell."""
    keys = [column for column in keys_of(columns) if column not in NOT_KEYS]
    return [key for key in keys if key != "epoch"] if name == "records.csv" else keys


def misplaced(table: pd.DataFrame) -> "pd.Series[bool]":
    """Rows of an attack whose measure is of none: they would stand beside the measure's own as its duplicates."""
    if "attack" not in table:
        return pd.Series(False, table.index)
    attacked = (table["attack"] != "") | (table["norm"] != "") | table["eps"].notna()
    return table["measure"].isin(OF_NO_ATTACK) & attacked


def in_runs(cell: Cell, runs: Sequence[Path]) -> Cell:
    """The cell in the precision that these runs have it in. Raises BadInput where a run has it otherwise."""
    found: dict[Path, Cell] = {}
    for folder in folders_of(cell, runs):
        if (folder / "config.json").is_file():
            found[folder / "config.json"] = as_trained(cell, folder)
            check_same(found[folder / "config.json"], folder)
    for (first, one), (second, other) in zip(list(found.items()), list(found.items())[1:], strict=False):
        if one != other:
            said = f"precision {one.training.precision} and {other.training.precision}"
            raise BadInput(f"{first} and {second} are of different cells ({said}): report on them apart")
    return next(iter(found.values()), cell)


def united(folders: Sequence[Path], name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a cell's table in all of its folders; what two of them have alike is there once.

    Raises BadInput where two files have different values of one thing, or one file has it twice or of an attack that
    it is not of.
    """
    keys = [column for column in keys_of(columns) if column not in NOT_KEYS]
    once = places(name, columns)
    found = [read_table(folder / name, columns) for folder in folders]
    tables = [table.assign(file=str(folder / name)) for folder, table in zip(folders, found, strict=True)]
    whole = pd.concat(tables, ignore_index=True)
    if (wrong := whole[misplaced(whole)]).size:
        row = wrong.iloc[0]
        raise BadInput(f"{row['file']}: recorded of an attack, which it is not of: {named(row, keys)}; remove the line")
    if (within := whole[whole.duplicated([*once, "file"])]).size:
        row = within.iloc[0]
        raise BadInput(f"{row['file']}: recorded twice: {named(row, once)}; remove one of the lines")
    rows = whole.drop_duplicates(list(columns))
    if (twice := rows[rows.duplicated(once, keep=False)]).size:
        _, same = next(iter(twice.groupby(once, dropna=False, sort=False)))
        one, other = (row for _, row in same.iloc[:2].iterrows())
        what = next(column for column in ("value", *columns) if repr(one[column]) != repr(other[column]))
        raise BadInput(
            f"{one['file']} and {other['file']} contradict each other: {named(one, once)} has {what} {one[what]!r} "
            f"in one and {other[what]!r} in the other; report on them apart, or delete one cell"
        )
    return rows.drop(columns="file")


def named(row: "pd.Series[Any]", keys: Sequence[str]) -> str:
    """What a row is of: "seed 0, measure test_error"."""
    return ", ".join(f"{key} {row[key]}" for key in keys if str(row[key]) not in ("", "nan"))


def updates(cell: Cell) -> float:
    """How many steps an epoch takes, NaN where the size of the data set is not fixed."""
    images = TRAINING_IMAGES.get(cell.training.dataset)
    return cell.training.updates(images) if images else math.nan


def distinguished(runs: Sequence[Path]) -> list[str]:
    """A name for each of several runs, as short as tells them apart; none is needed for a single one."""
    if len(runs) == 1:
        return [""]
    parts = [run.resolve().parts for run in runs]
    depth = next((d for d in range(1, 100) if len({each[-d:] for each in parts}) == len(parts)), 100)
    return ["/".join(each[-depth:]) for each in parts]
