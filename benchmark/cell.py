"""One cell from nothing to records: train, checkpoint, attack. (configuration, data, device) in, files out."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from attacks import measure_fgm
from benchmark.store import (
    HISTORY,
    RECORDS,
    command,
    environment,
    merge,
    read_json,
    read_table,
    write_json,
    write_table,
)
from benchmark.suite import Cell
from zoo.checkpoints import load_checkpoint, save_seed
from zoo.config import fingerprint
from zoo.data import Dataset, subset_hash
from zoo.errors import BadInput
from zoo.training import Training, train

ATTACK_MEASURES = (
    "clean_error",
    "attacked_error",
    "zero_gradient_share",
    "nonfinite_gradient_share",
    "mean_norm_ratio",
    "short_share",
)


class Listener(Protocol):
    """Who is told how a cell gets on."""

    def change(self, cell: Cell, state: str) -> None:
        """A cell enters a state."""

    def epoch(self, cell: Cell, epoch: int, error: float) -> None:
        """Epochs done and mean test error over seeds, NaN where it was not measured."""


def untrained(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that have no finished checkpoint with records. Raises BadInput if the folder is of another."""
    check_same(cell, folder)
    records = read_table(folder / "records.csv", RECORDS)
    done = set(records.loc[records["measure"] == "test_error", "seed"])
    return [seed for seed in cell.seeds if seed not in done or not checkpoint(folder, seed).is_file()]


def unattacked(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that lack a record of one of its attacks."""
    records = read_table(folder / "records.csv", RECORDS)
    have = records.loc[records["measure"] == ATTACK_MEASURES[-1], ["seed", "norm", "eps"]]
    known = set(have.itertuples(index=False, name=None))
    wanted = [(norm, eps) for norm in cell.attack.norms for eps in cell.attack.eps]
    return [seed for seed in cell.seeds if any((seed, *pair) not in known for pair in wanted)]


def checkpoint(folder: Path, seed: int) -> Path:
    """Where a seed's weights are."""
    return folder / f"seed-{seed}.safetensors"


def check_same(cell: Cell, folder: Path) -> None:
    """Refuse a folder that holds a cell of another configuration, naming the first field that differs."""
    path = folder / "config.json"
    old = read_json(path)
    if old is None or old.get("fingerprint") == fingerprint(cell.model, cell.training):
        return
    new = configuration(cell)
    for part in ("model", "training"):
        for key, value in new[part].items():
            if old.get(part, {}).get(key) != value:
                was = old.get(part, {}).get(key)
                raise BadInput(f"{path}: {part}.{key} is {was!r}, the suite says {value!r}: choose another --out")
    raise BadInput(f"{path} is of another configuration: choose another --out")


def configuration(cell: Cell) -> dict[str, Any]:
    """What a cell is, as plain JSON values; seeds and attacks may grow without a new training."""
    plain = {"model": asdict(cell.model), "training": asdict(cell.training)}
    plain["model"]["hyperparameters"] = {k: list(v) for k, v in plain["model"]["hyperparameters"].items()}
    plain["model"]["widths"] = list(cell.model.widths)
    return plain | {"fingerprint": fingerprint(cell.model, cell.training)}


def run_cell(cell: Cell, data: Dataset, folder: Path, listener: Listener) -> None:
    """Finish whatever is missing of a cell. Interrupted anywhere, a second call goes on and nothing is lost."""
    device = data.images.device
    environment(device)
    if seeds := untrained(cell, folder):
        listener.change(cell, "training")
        write_json(folder / "config.json", configuration(cell))
        state = folder / "state.safetensors"
        started, trained_from = time.monotonic(), []

        def report(training: Training) -> None:
            trained_from.append(training.epoch)
            errors = [row[3] for row in training.history if row[1:3] == (training.epoch, "test_error")]
            listener.epoch(cell, training.epoch, sum(errors) / len(errors) if errors else float("nan"))

        training = train(cell.model, cell.training, seeds, data, state=state, progress=report)
        store_training(cell, training, folder, data)
        state.unlink(missing_ok=True)
        hours = (time.monotonic() - started) / 3600
        note(folder, "training", device, {"seeds": seeds, "hours": hours, "epochs": len(trained_from)})
    if seeds := unattacked(cell, folder):
        listener.change(cell, "attacking")
        started = time.monotonic()
        for seed in seeds:
            store_attacks(cell, seed, folder, data)
        note(folder, "attack", device, {"seeds": seeds, "hours": (time.monotonic() - started) / 3600})
    listener.change(cell, "complete")


def store_training(cell: Cell, training: Training, folder: Path, data: Dataset) -> None:
    """Checkpoints first, then history, then the records that say that the seeds are done."""
    n, epochs, rows = len(data.test_labels), cell.training.epochs, []
    for index, seed in enumerate(training.seeds):
        subset = subset_hash(training.subsets[index].cpu())
        errors = {row[1]: row[3] for row in training.history if row[0] == seed and row[2] == "test_error"}
        best = min(errors, key=lambda epoch: (errors[epoch] != errors[epoch], errors[epoch]))
        rows.append((seed, epochs, "test_error", "", "", float("nan"), errors[epochs], n, subset))
        rows.append((seed, best, "lowest_test_error", "", "", float("nan"), errors[best], n, subset))
        where = environment(data.images.device)
        card = {
            "training": asdict(cell.training),
            "seed": seed,
            "fingerprint": training.fingerprint,
            "subset": subset,
            "test_error": errors[epochs],
            "lowest_test_error": errors[best],
            "checksums": data.checksums,
            **{key: where[key] for key in ("commit", "clean_tree", "versions")},
        }
        save_seed(checkpoint(folder, seed), training.model, index, card)
    history = merge(read_table(folder / "history.csv", HISTORY), training.history, HISTORY)
    write_table(folder / "history.csv", history, HISTORY)
    write_table(folder / "records.csv", merge(read_table(folder / "records.csv", RECORDS), rows, RECORDS), RECORDS)


def store_attacks(cell: Cell, seed: int, folder: Path, data: Dataset) -> None:
    """Attack one checkpoint on all test images and add what was measured to the records."""
    records = read_table(folder / "records.csv", RECORDS)
    subset = records.loc[(records["seed"] == seed) & (records["measure"] == "test_error"), "subset"].iloc[0]
    model = load_checkpoint(checkpoint(folder, seed), data.images.device)
    found = measure_fgm(model, data.test_images, data.test_labels, norms=cell.attack.norms, eps=cell.attack.eps)
    rows = [
        (
            seed,
            cell.training.epochs,
            name,
            result.attack,
            result.norm,
            result.eps,
            getattr(result, name),
            result.n,
            subset,
        )
        for result in found
        for name in ATTACK_MEASURES
    ]
    write_table(folder / "records.csv", merge(records, rows, RECORDS), RECORDS)


def note(folder: Path, stage: str, device: torch.device, details: dict[str, Any]) -> None:
    """Append who did a stage of a cell, with what and for how long, to its provenance."""
    path = folder / "provenance.json"
    entries = (read_json(path) or {"stages": []})["stages"]
    entry = {"stage": stage, "command": command(), "environment": environment(device)} | details
    write_json(path, {"stages": [*entries, entry]})
