"""A run's folder read back as what a report is made of, and the report written beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.store import HISTORY, RECORDS, read_json, read_table
from benchmark.suite import Cell, Suite
from reports import render
from zoo.checkpoints import write_whole
from zoo.errors import BadInput

THREAT_MODEL = {
    "attack": "fast gradient method, one step, white box",
    "clipping": "none",
    "labels": "the model's own predictions",
    "images": "all test images, final epoch's model",
}


def build_report(suite: Suite, name: str, cells: Sequence[Cell], run: Path) -> dict[str, bytes]:
    """File name -> content of the report on a run, complete or not. Raises BadInput for an unreadable record."""
    frames: dict[str, list[pd.DataFrame]] = {"records": [], "history": []}
    origin: dict[str, Any] = {}
    for cell in cells:
        folder = run / "cells" / cell.name
        for key, columns in (("records", RECORDS), ("history", HISTORY)):
            table = read_table(folder / f"{key}.csv", columns)
            if len(table):
                frames[key].append(located(table, cell))
        if noted := read_json(folder / "provenance.json"):
            origin[cell.name] = noted["stages"]
    records, history = (pd.concat(parts) if parts else pd.DataFrame() for parts in frames.values())
    rows = [
        (cell.training.dataset, cell.model.name, cell.training.labels, seed) for cell in cells for seed in cell.seeds
    ]
    plan = pd.DataFrame(rows, columns=["dataset", "model", "labels", "seed"])
    try:
        return render(records, history, plan, provenance(suite, name, cells, run, origin))
    except ValueError as error:
        raise BadInput(f"records of {run}: {error}") from error


def located(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """A cell's table with the columns that say which cell it is."""
    return table.assign(dataset=cell.training.dataset, model=cell.model.name, labels=cell.training.labels)


def provenance(suite: Suite, name: str, cells: Sequence[Cell], run: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Everything needed to judge the numbers: what was asked, by which code, on which machine, for how long."""
    stages = [stage for noted in origin.values() for stage in noted]
    training = [stage for stage in stages if stage["stage"] == "training"]
    environments = [stage["environment"] for stage in stages]
    options = cells[0].training if cells else None
    data = (read_json(run / "suite.json") or {}).get("checksums", {})
    found: dict[str, Any] = {"suite": name, "description": suite.description}
    found["command"] = distinct(stage["command"] for stage in stages)
    found["device"] = distinct(f"{e['device']}, {e['threads']} threads" for e in environments)
    found["hours"] = f"{sum(stage['hours'] for stage in training):.2f} of training, summed over cells"
    found["commit"] = distinct(
        e["commit"] + ("" if e["clean_tree"] else " with uncommitted changes") for e in environments
    )
    found["python"] = distinct(e["python"] for e in environments)
    found["versions"] = {
        package: distinct(e["versions"][package] for e in environments)
        for package in (environments or [{"versions": {}}])[0]["versions"]
    }
    found["attack"] = THREAT_MODEL | {"norms": list(suite.attack.norms), "eps": list(suite.attack.eps)}
    if options:
        shared = ("epochs", "decay_from", "learning_rate", "smoothness_eps", "smoothness_images")
        found["training"] = {key: getattr(options, key) for key in shared}
        found["model"] = {
            key: getattr(cells[0].model, key)
            for key in ("widths", "corruption_sd", "hidden_sd", "power_iterations", "norm", "perturbed")
        } | {"power_step": "exact Hessian product" if cells[0].model.xi is None else f"xi = {cells[0].model.xi}"}
    found["data checksums"] = data
    found["cells"] = {
        cell: "; ".join(f"{s['stage']} {s['hours']:.3f} h at {s['environment']['commit'][:12]}" for s in noted)
        for cell, noted in origin.items()
    }
    return found


def distinct(values: Any) -> list[str]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))


def write_report(files: dict[str, bytes], folder: Path) -> None:
    """Write every file, and remove what an earlier report left that this one has no more."""
    for name, content in files.items():
        write_whole(folder / name, content)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()


def stale(files: dict[str, bytes], folder: Path) -> list[str]:
    """Names of the files that are missing, superfluous or differ from what the records give."""
    have = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    return sorted(name for name in have.keys() | files.keys() if have.get(name) != files.get(name))
