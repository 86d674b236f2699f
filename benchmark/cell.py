"""One cell from nothing to records: train, checkpoint, attack. (configuration, data, device) in, files out."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, get_args

from torch import nn

from benchmark.attacking import CONFIGURATION, attack_models, checkpoint, load_seed
from benchmark.memory import check_room
from benchmark.normalised import store_normalised, unnormalised
from benchmark.store import (
    HISTORY,
    RECORDS,
    environment,
    made_by,
    merge,
    note,
    read_json,
    read_table,
    write_json,
    write_table,
)
from benchmark.suite import Cell
from zoo.checkpoints import Together, save_seed
from zoo.config import difference, fingerprint, plain
from zoo.data import Dataset, subset_hash
from zoo.errors import BadInput
from zoo.fused import Precision
from zoo.state import interrupted
from zoo.training import Engine, Training, fitting_engine, train

FAILED = "failed.json"
OWN = ("records.csv", "history.csv", "examples.csv", "state.safetensors", "provenance.json", FAILED, CONFIGURATION)


class Changed(BadInput):
    """A folder is of a cell with another configuration."""


class Listener(Protocol):
    """Who is told how a cell gets on."""

    def change(self, cell: Cell, state: str) -> None:
        """A cell enters a state."""

    def epoch(self, cell: Cell, epoch: int, errors: Sequence[float]) -> None:
        """Epochs done and each seed's test error, NaN where it diverged; empty where it was not measured."""


def untrained(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that have no finished checkpoint with records. Raises BadInput if the folder is of another."""
    check_same(cell, folder)
    records = read_table(folder / "records.csv", RECORDS)
    done = set(records.loc[records["measure"] == "test_error", "seed"])
    if missing := [seed for seed in cell.seeds if seed not in done or not checkpoint(folder, seed).is_file()]:
        read_table(folder / "history.csv", HISTORY)  # an unreadable one is named before hours of training
    return missing


def check_same(cell: Cell, folder: Path) -> None:
    """Raises Changed for a folder that holds a cell of another configuration, naming the first field that differs."""
    if changed := changed_since(cell, folder):
        again = ": give the same --precision," if changed.startswith("training.precision ") else " in the suite:"
        raise Changed(f"{folder / CONFIGURATION}: {changed}{again} choose another --out, or start over: --fresh")


def changed_since(cell: Cell, folder: Path) -> str | None:
    """The first field in which a cell is no more what its folder holds: "training.epochs was 10 and is 40"."""
    path = folder / CONFIGURATION
    if (old := read_json(path)) is None:
        return None
    for part, config in (("model", cell.model), ("training", cell.training)):
        try:
            changed = difference(old[part], config)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path} is no cell's configuration: restore it, or delete the cell") from error
        if changed:
            return f"{part}.{changed}"
    return None


def start_over(folder: Path, keep: Container[str] = ()) -> None:
    """Delete what is there of a cell; first what says that seeds are done, last what says which cell it is."""
    for path in (folder / OWN[0], *folder.glob("seed-*.safetensors"), *(folder / name for name in OWN[1:])):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def as_trained(cell: Cell, folder: Path) -> Cell:
    """The cell in the precision that its folder was trained in, for a report: there `--precision` is not given."""
    stored = (read_json(folder / CONFIGURATION) or {}).get("training")
    precision: Any = stored.get("precision", "float32") if isinstance(stored, dict) else None
    if precision not in get_args(Precision):  # no cell yet, or one that `check_same` refuses
        return cell
    return replace(cell, training=replace(cell.training, precision=precision))


def configuration(cell: Cell) -> dict[str, Any]:
    """What a cell is, as plain JSON values; seeds and attacks may grow without a new training."""
    hashed = fingerprint(cell.model, cell.training)
    return {"model": plain(cell.model), "training": plain(cell.training), "fingerprint": hashed}


def run_cell(
    cell: Cell, data: Dataset, folder: Path, listener: Listener, engine: Engine | None = None, *, fresh: bool = False
) -> None:
    """Finish whatever is missing of a cell. Interrupted anywhere, a second call goes on and nothing is lost.

    `engine`: None for the one that fits the cell. `fresh`: start over where the folder has another configuration,
    which is refused otherwise. Only one process may be in a folder: `locks.alone`.
    """
    if fresh and changed_since(cell, folder):
        start_over(folder)
    origin = made_by(data)
    state = folder / "state.safetensors"
    for seeds in groups(untrained(cell, folder), state):
        check_room(cell, seeds, data.images.device)
        chosen = engine or fitting_engine(cell.training, data, partial(listener.change, cell))
        listener.change(cell, "training")
        write_json(folder / CONFIGURATION, configuration(cell))
        training = train(
            cell.model,
            cell.training,
            seeds,
            data,
            state=state,
            sitting=origin,
            engine=chosen,
            progress=lambda training: listener.epoch(cell, training.epoch, latest_errors(training)),
        )
        store_training(cell, training, folder, data)
        state.unlink(missing_ok=True)
    state.unlink(missing_ok=True)  # what a crash after the last record left
    attack_cell(cell, data, folder, listener)
    (folder / FAILED).unlink(missing_ok=True)
    listener.change(cell, "complete")


def attack_cell(cell: Cell, data: Dataset, folder: Path, listener: Listener) -> None:
    """Whatever of the suite's attacks, audits and other statistics a cell's checkpoints lack, added to its records."""

    def load(seeds: Sequence[int]) -> nn.Module:
        models = [load_seed(folder, seed, data.images.device) for seed in seeds]
        return Together(models) if len(models) > 1 else models[0]

    attack_models(load, cell.attack, cell.seeds, data, folder, partial(listener.change, cell))
    if missing := unnormalised(cell, folder):
        listener.change(cell, "other statistics")
        store_normalised(cell, data, folder, missing)


def groups(missing: list[int], state: Path) -> list[list[int]]:
    """Seeds that train together: those of an interrupted training first, then the rest."""
    begun = interrupted(state)["seeds"] if missing and state.is_file() else []
    if not set(begun) <= set(missing):
        seeds = ",".join(map(str, begun))
        raise BadInput(f"{state} is an interrupted training of seeds {seeds}: finish it with --seeds, or delete it")
    rest = [seed for seed in missing if seed not in begun]
    return [group for group in (begun, rest) if group]


def latest_errors(training: Training) -> list[float]:
    """Each seed's test error of this epoch, NaN where it diverged; empty where it was not measured."""
    return [row[3] for row in training.history if row[1:3] == (training.epoch, "test_error")]


def store_training(cell: Cell, training: Training, folder: Path, data: Dataset) -> None:
    """Checkpoints, history, provenance, and last the records: they say that the seeds are done.

    What was recorded of these seeds before, attacks too, was of other checkpoints and goes.
    """
    n, epochs, rows = len(data.test_labels), cell.training.epochs, []
    where = environment(data.images.device)
    about = {key: where[key] for key in ("commit", "clean_tree", "versions", "device")}
    for index, seed in enumerate(training.seeds):
        subset = subset_hash(training.subsets[index].cpu())
        errors = {row[1]: row[3] for row in training.history if row[0] == seed and row[2] == "test_error"}
        best = min(errors, key=lambda epoch: (math.isnan(errors[epoch]), errors[epoch]))
        rows.append((seed, epochs, "test_error", "", "", math.nan, errors[epochs], n, subset))
        rows.append((seed, best, "lowest_test_error", "", "", math.nan, errors[best], n, subset))
        card = {
            "training": plain(cell.training),
            "seed": seed,
            "fingerprint": fingerprint(cell.model, cell.training),
            "subset": subset,
            "test_error": errors[epochs],
            "lowest_test_error": errors[best],
            "checksums": data.checksums,
            **about,
        }
        save_seed(checkpoint(folder, seed), training.model, index, card)
    replace_seeds(folder / "history.csv", training.seeds, training.history, HISTORY)
    details = {"seeds": list(training.seeds), "hours": training.seconds / 3600, "sittings": training.sittings}
    note(folder, {"stage": "training"} | details)
    replace_seeds(folder / "records.csv", training.seeds, rows, RECORDS)


def replace_seeds(path: Path, seeds: Sequence[int], rows: Sequence[Any], columns: Mapping[str, str]) -> None:
    """Write rows in the place of all that a table had of these seeds."""
    old = read_table(path, columns)
    write_table(path, merge(old[~old["seed"].isin(seeds)], rows, columns), columns)
