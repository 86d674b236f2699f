"""What the models of a run do to each other: the errors on images that a step on another model made."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attacks import BALLS, Budget, fgm
from attacks.measurement import answers, wrong
from benchmark.attacking import checkpoint, diverged, finish, forget, load_seed, recorded, store
from benchmark.locks import alone
from benchmark.store import stages
from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.denormals import kept

TRANSFER = "transfer/"
Tell = Callable[[Cell, str], None]
"""Is told of each cell and of the state that it enters."""


def transfer(cells: Sequence[Cell], among: Sequence[Cell], data: Dataset, run: Path, tell: Tell) -> None:
    """What transfers to cells from the models of a run, where a record of it is missing."""
    for cell in cells:
        if untransferred(among, cell, run):
            tell(cell, "transfer")
            with alone(run / "cells" / cell.name, wait=True):
                if untransferred(among, cell, run):  # else another run has done it meanwhile
                    store_transfer(among, cell, run, data)
        tell(cell, "complete")


@kept()
def store_transfer(cells: Sequence[Cell], cell: Cell, run: Path, data: Dataset) -> None:
    """What single steps on the other models of this label count, same seed, do to the checkpoints of a cell."""
    budget, started = cell.attack.audit or Budget(), time.monotonic()
    x, y = data.test_images[: budget.images], data.test_labels[: budget.images]
    folder = run / "cells" / cell.name
    rows: dict[int, list[Any]] = {}
    for seed in cell.seeds:
        target = load_seed(folder, seed, data.images.device)
        for source in sources(cells, cell, run, seed):
            model = load_seed(run / "cells" / source.name, seed, data.images.device)
            rows.setdefault(seed, []).extend(transfer_rows(model, source.model.name, target, x, y, budget))
    forget(folder, list(rows), lambda attack: attack.startswith(TRANSFER))
    finish("transfer", list(rows), started, data, folder, sources=origins(cells, cell, run))
    store(folder, rows)


def untransferred(cells: Sequence[Cell], cell: Cell, run: Path) -> bool:
    """Whether a record of a transfer that could be made is missing, or a source has been trained anew since."""
    have = {entry[:2] for entry in recorded(run / "cells" / cell.name, "attacked_error")}
    return trained_anew("transfer", cells, cell, run) or any(
        (seed, TRANSFER + source.model.name) not in have
        for seed in cell.seeds
        for source in sources(cells, cell, run, seed)
    )


def trained_anew(kind: str, cells: Sequence[Cell], cell: Cell, run: Path) -> bool:
    """Whether a stage that takes the models of a run noted other trainings than the last of some source, or none."""
    noted = stages(run / "cells" / cell.name, kind)
    made = {seed: of for stage in noted for seed, of in stage.get("sources", {}).items()}
    return any(
        made.get(seed, {}).get(name) != training
        for seed, of in origins(cells, cell, run).items()
        for name, training in of.items()
    )


def origins(cells: Sequence[Cell], target: Cell, run: Path) -> dict[str, dict[str, str]]:
    """Seed -> model -> the training that its checkpoint is from, of all that can transfer to a cell."""
    return {
        str(seed): {cell.model.name: training_hash(run / "cells" / cell.name, seed) for cell in of}
        for seed in target.seeds
        if (of := list(sources(cells, target, run, seed)))
    }


def training_hash(folder: Path, seed: int) -> str:
    """The last training of a seed, as a hash of what was noted about it."""
    last = [stage for stage in stages(folder, "training") if seed in stage["seeds"]][-1:]
    return hashlib.sha256(json.dumps(last, sort_keys=True).encode()).hexdigest()[:16]


def sources(cells: Sequence[Cell], target: Cell, run: Path, seed: int) -> Iterator[Cell]:
    """The other cells of a target's label count that have a sound checkpoint of this seed, if the target has."""
    if diverged(run / "cells" / target.name, seed):
        return
    for cell in cells:
        folder = run / "cells" / cell.name
        other = cell.training.labels == target.training.labels and cell.model.name != target.model.name
        if other and checkpoint(folder, seed).is_file() and not diverged(folder, seed):
            yield cell


def transfer_rows(
    source: nn.Module, name: str, target: nn.Module, x: Tensor, y: Tensor, budget: Budget
) -> Iterator[tuple[str, str, str, float, float, int]]:
    """The target's error on images that a single step on the source's margin made, in L2 and L-infinity."""
    clean = wrong(answers(target, x), y)
    for ball in ("L2", "Linf"):
        for eps in budget.eps.get(ball, ()):
            hit = clean | wrong(answers(target, fgm(source, x, eps=eps, norm=BALLS[ball], y=y, loss="margin")), y)
            yield "attacked_error", TRANSFER + name, ball, eps, hit.double().mean().item(), len(x)
