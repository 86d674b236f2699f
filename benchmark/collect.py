"""A run's folder read back as what a report is made of, and the report written beside it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.cell import as_trained, check_same
from benchmark.store import HISTORY, RECORDS, read_json, read_table
from benchmark.suite import Cell, Suite
from reports import render
from zoo.checkpoints import write_whole
from zoo.config import ModelConfig
from zoo.errors import BadInput

THREAT_MODEL = {
    "attack": "fast gradient method, one step, white box",
    "clipping": "none",
    "labels": "the model's own predictions",
    "images": "all test images, final epoch's model",
}
WRITTEN = (
    "report.md",
    "table1.",
    "table2.",
    "smoothness.",
    "robustness.",
    "audit.",
    "remains.",
    "transfer.",
    "curves-",
)


def build_report(suite: Suite, name: str, cells: Sequence[Cell], run: Path) -> dict[str, bytes]:
    """File name -> content of the report on a run, complete or not.

    Raises BadInput for an unreadable record, and for a cell that was run with another configuration.
    """
    frames: dict[str, list[pd.DataFrame]] = {"records": [], "history": []}
    planned: list[tuple[str, str, int, int]] = []
    origin: dict[str, list[dict[str, Any]]] = {}
    cells = [as_trained(cell, run / "cells" / cell.name) for cell in cells]
    for cell in cells:
        folder = run / "cells" / cell.name
        check_same(cell, folder)
        where = (cell.training.dataset, cell.model.name, cell.training.labels)
        tables = [read_table(folder / "records.csv", RECORDS), read_table(folder / "history.csv", HISTORY)]
        for parts, table in zip(frames.values(), tables, strict=True):
            parts += [table.assign(dataset=where[0], model=where[1], labels=where[2])] if len(table) else []
        planned += [(*where, seed) for seed in dict.fromkeys([*cell.seeds, *tables[0]["seed"]])]
        if noted := read_json(folder / "provenance.json"):
            origin[cell.name] = noted["stages"]
    records, history = (pd.concat(parts) if parts else pd.DataFrame() for parts in frames.values())
    plan = pd.DataFrame(planned, columns=["dataset", "model", "labels", "seed"])
    try:
        return render(records, history, plan, provenance(suite, name, cells, origin))
    except ValueError as error:
        raise BadInput(f"records of {run}: {error}") from error


def provenance(
    suite: Suite, name: str, cells: Sequence[Cell], origin: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Everything needed to judge the numbers: what was done, by which code, on which machine, for how long."""
    stages = [stage for noted in origin.values() for stage in noted]
    sittings = [sitting for stage in stages for sitting in stage["sittings"]]
    where = [sitting["environment"] for sitting in sittings]
    hours = sum(stage["hours"] for stage in stages if stage["stage"] == "training")
    packages = dict.fromkeys(package for each in where for package in each["versions"])
    return {
        "suite": Path(name).stem,
        "description": suite.description,
        "command": distinct(sitting["command"] for sitting in sittings),
        "device": distinct(f"{each['device']}, {each['threads']} threads" for each in where),
        "hours": f"{hours:.2f} of training, summed over cells",
        "commit": distinct(each["commit"] + ("" if each["clean_tree"] else ", changed") for each in where),
        "python": distinct(each["python"] for each in where),
        "versions": {
            package: distinct(each["versions"].get(package, "none") for each in where) for package in packages
        },
        "attack": THREAT_MODEL | {"norms": list(suite.attack.norms), "eps": list(suite.attack.eps)},
        "training": {key: distinct(getattr(cell.training, key) for cell in cells) for key in SHARED},
        "data": {file: value for sitting in sittings for file, value in sitting["checksums"].items()},
        "models": {cell.name: described(cell) for cell in cells},
        "cells": {cell: [done(stage) for stage in noted] for cell, noted in origin.items()},
    }


SHARED = (
    "epochs",
    "decay_from",
    "learning_rate",
    "smoothness_eps",
    "smoothness_iterations",
    "smoothness_images",
)


def described(cell: Cell) -> str:
    """What a cell's model is tuned by and fed with, in one line."""
    model, training = cell.model, cell.training
    parts = [f"batch {training.labelled_batch} + {training.unlabelled_batch}"]
    parts += [f"layers {'-'.join(map(str, model.widths))}", f"{training.precision} products"]
    for symbol, values in (("λ", model.hyperparameters.denoising_weights), ("ε", model.hyperparameters.eps)):
        parts += [f"{symbol} {' '.join(f'{value:g}' for value in values)}"] if values else []
    parts += [perturbing(model)] if model.hyperparameters.eps else []
    noise = f"{model.corruption_sd:g} everywhere" if model.hyperparameters.denoising_weights else ""
    parts += [f"noise sd {noise or f'{model.hidden_sd:g} on hidden layers'}", f"test statistics {model.statistics}"]
    return ", ".join(parts)


def perturbing(model: ModelConfig) -> str:
    """How a model's perturbations are found."""
    product = "exact products" if model.xi is None else f"finite differences {model.xi:g}"
    return f"{model.norm}, K = {model.power_iterations}, {product}, noise sd {model.hidden_sd:g}, of {model.perturbed}"


def done(stage: Mapping[str, Any]) -> str:
    """Who did a stage of a cell: "training of seeds 0 1, 0.210 h, at 127470a440f5"."""
    commits = distinct(sitting["environment"]["commit"][:12] for sitting in stage["sittings"])
    seeds = " ".join(map(str, stage["seeds"]))
    return f"{stage['stage']} of seeds {seeds}: {stage['hours']:.3f} h at {' then '.join(commits)}"


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))


def write_report(files: Mapping[str, bytes], folder: Path) -> None:
    """Write every file, and remove what an earlier report left that this one has no more."""
    write_files(files, folder)
    for name in stale(files, folder):
        (folder / name).unlink()


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, each whole."""
    for name, content in files.items():
        write_whole(folder / name, content)


def stale(files: Mapping[str, bytes], folder: Path) -> list[str]:
    """Names of a report's files that are missing, superfluous or differ from what the records give."""
    there = [path for path in folder.iterdir() if path.name.startswith(WRITTEN)] if folder.is_dir() else []
    have = {path.name: path.read_bytes() for path in there}
    return sorted(name for name in have.keys() | files.keys() if have.get(name) != files.get(name))
