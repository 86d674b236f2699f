"""A cell's checkpoints under attack: the fast gradient method, the audit, transfer between the models of a run."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attacks import BALLS, Budget, audit, fgm, measure_fgm_together
from benchmark.locks import alone
from benchmark.store import RECORDS, made_by, merge, note, read_table, write_table
from benchmark.suite import AttackConfig, Cell
from zoo.checkpoints import Together, load_checkpoint
from zoo.data import Dataset
from zoo.errors import BadInput

ATTACK_MEASURES = (
    "clean_error",
    "attacked_error",
    "zero_gradient_share",
    "nonfinite_gradient_share",
    "mean_norm_ratio",
    "short_share",
)
Setting = tuple[str, str, float]
"""attack, norm, eps."""
TRANSFER = "transfer/"


def checkpoint(folder: Path, seed: int) -> Path:
    """Where a seed's weights are."""
    return folder / f"seed-{seed}.safetensors"


def settings(attack: AttackConfig) -> list[Setting]:
    """Each meaning at each norm and eps, and the paper's at the further eps of its curves."""
    named = [(meaning, norm, eps) for meaning in attack.meanings for norm in attack.norms for eps in attack.eps]
    return list(dict.fromkeys([*named, *(("fgm", norm, eps) for norm, curve in attack.curve.items() for eps in curve)]))


def recorded(folder: Path, measure: str) -> set[tuple[int, str, str, float]]:
    """(seed, attack, norm, eps) of a measure's records."""
    records = read_table(folder / "records.csv", RECORDS)
    have = records.loc[records["measure"] == measure, ["seed", "attack", "norm", "eps"]]
    return set(have.itertuples(index=False, name=None))


def unattacked(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that lack a record of one of the suite's fast gradient methods."""
    have = recorded(folder, ATTACK_MEASURES[-1])
    return [seed for seed in cell.seeds if any((seed, *setting) not in have for setting in settings(cell.attack))]


def unaudited(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that lack an audit of the suite's budget."""
    if cell.attack.audit is None:
        return []
    wanted = audited(cell.attack.audit)
    have = recorded(folder, "attacked_error")
    return [seed for seed in cell.seeds if any((seed, *setting) not in have for setting in wanted)]


def audited(budget: Budget) -> list[Setting]:
    """What an audit of this budget cannot be without."""
    usual, of = f"pgd-{budget.steps}x{budget.restarts}", f"worst-{budget.images}"
    return [(attack, ball, eps) for attack in (usual, of) for ball, radii in budget.eps.items() for eps in radii]


class Listener(Protocol):
    """Who is told how a cell gets on."""

    def change(self, cell: Cell, state: str) -> None:
        """A cell enters a state."""


def attack_cell(cell: Cell, data: Dataset, folder: Path, listener: Listener) -> None:
    """Whatever of the suite's attacks and audits a cell's checkpoints lack, added to its records."""
    if seeds := unattacked(cell, folder):
        listener.change(cell, "attacking")
        started = time.monotonic()
        models = [load_checkpoint(checkpoint(folder, seed), data.images.device) for seed in seeds]
        rows = fast_gradient_rows(Together(models), len(models), cell.attack, data)
        finish("attack", seeds, started, data, folder)  # before the records: none of them is without its origin
        store(cell, folder, dict(zip(seeds, rows, strict=True)))
    for seed in unaudited(cell, folder):
        store_audit(cell, seed, folder, data, partial(announce, listener, cell, seed))


def announce(listener: Listener, cell: Cell, seed: int, stage: str) -> None:
    """Tell a listener of a stage of a seed's audit."""
    listener.change(cell, f"seed {seed}: {stage}")


def finish(kind: str, seeds: Sequence[int], started: float, data: Dataset, folder: Path) -> None:
    """Note a stage of a cell: what was done with which seeds, for how long, by whom."""
    hours = (time.monotonic() - started) / 3600
    note(folder, {"stage": kind, "seeds": list(seeds), "hours": hours, "sittings": [made_by(data)]})


def fast_gradient_rows(model: nn.Module, count: int, attack: AttackConfig, data: Dataset) -> list[list[Any]]:
    """Of each of `count` models in one: (measure, attack, norm, eps, value, n) of all the suite's settings."""
    rows: list[list[Any]] = [[] for _ in range(count)]
    for meaning in dict.fromkeys(setting[0] for setting in settings(attack)):
        at = [(norm, eps) for name, norm, eps in settings(attack) if name == meaning]
        found = measure_fgm_together(model, count, data.test_images, data.test_labels, at=at, attack=meaning)
        for own, results in zip(rows, found, strict=True):
            for result in results:
                of = (result.attack, result.norm, result.eps)
                own += [(name, *of, getattr(result, name), result.n) for name in ATTACK_MEASURES]
    return rows


def store_audit(cell: Cell, seed: int, folder: Path, data: Dataset, tell: Callable[[str], None]) -> None:
    """Audit one checkpoint, in the place of any earlier audit of it; of a diverged one the records say so."""
    budget, started = cell.attack.audit or Budget(), time.monotonic()
    if diverged(folder, seed):
        rows: list[Any] = [("attacked_error", *setting, math.nan, 0) for setting in audited(budget)]
    else:
        rows = audit_rows(load_checkpoint(checkpoint(folder, seed), data.images.device), data, budget, tell)
    finish("audit", [seed], started, data, folder)
    store(cell, folder, {seed: rows}, instead_of=lambda attack: attack != "" and not attack.startswith("fgm"))


def audit_rows(model: nn.Module, data: Dataset, budget: Budget, tell: Callable[[str], None]) -> list[Any]:
    """(measure, attack, norm, eps, value, n) of an audit. Raises BadInput for a model that cannot be audited."""
    try:
        return [astuple(finding) for finding in audit(model, data.test_images, data.test_labels, budget, tell)]
    except ValueError as error:
        raise BadInput(f"the model cannot be audited: {error}") from error


def transfer(cells: Sequence[Cell], among: Sequence[Cell], data: Dataset, run: Path, listener: Listener) -> None:
    """What transfers to cells from the models of a run, where a record of it is missing."""
    for cell in cells:
        if untransferred(among, cell, run):
            listener.change(cell, "transfer")
            with alone(run / "cells" / cell.name, wait=True):
                store_transfer(among, cell, run, data)
        listener.change(cell, "complete")


def store_transfer(cells: Sequence[Cell], cell: Cell, run: Path, data: Dataset) -> None:
    """What single steps on the other models of this label count, same seed, do to the checkpoints of a cell."""
    budget = cell.attack.audit or Budget()
    x, y = data.test_images[: budget.images], data.test_labels[: budget.images]
    folder = run / "cells" / cell.name
    rows: dict[int, list[Any]] = {}
    for seed in cell.seeds:
        target = load_checkpoint(checkpoint(folder, seed), data.images.device)
        for source in sources(cells, cell, run, seed):
            model = load_checkpoint(checkpoint(run / "cells" / source.name, seed), data.images.device)
            rows.setdefault(seed, []).extend(transfer_rows(model, source.model.name, target, x, y, budget))
    store(cell, folder, rows)


def untransferred(cells: Sequence[Cell], cell: Cell, run: Path) -> bool:
    """Whether a record of a transfer that could be made is missing."""
    have = {entry[:2] for entry in recorded(run / "cells" / cell.name, "attacked_error")}
    return any(
        (seed, TRANSFER + source.model.name) not in have
        for seed in cell.seeds
        for source in sources(cells, cell, run, seed)
    )


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
    with torch.no_grad():
        clean = target(x).argmax(1) != y
    for ball in ("L2", "Linf"):
        for eps in budget.eps.get(ball, ()):
            moved = fgm(source, x, eps=eps, norm=BALLS[ball], y=y, loss="margin")
            with torch.no_grad():
                hit = clean | (target(moved).argmax(1) != y)
            yield "attacked_error", TRANSFER + name, ball, eps, hit.double().mean().item(), len(x)


def diverged(folder: Path, seed: int) -> bool:
    """Whether a seed's training broke down, or it has none."""
    records = read_table(folder / "records.csv", RECORDS)
    own = records[(records["seed"] == seed) & (records["measure"] == "test_error")]
    return bool(own["value"].isna().all())


def store(
    cell: Cell,
    folder: Path,
    rows: Mapping[int, Sequence[Any]],
    instead_of: Callable[[str], bool] = lambda attack: False,
) -> None:
    """Add rows (measure, attack, norm, eps, value, n) by seed to a cell's records; a diverged seed's values are NaN.

    What the records had of these seeds under attacks that `instead_of` names goes.
    """
    records = read_table(folder / "records.csv", RECORDS)
    trained = records[records["measure"] == "test_error"].set_index("seed")
    subsets, errors = trained["subset"].to_dict(), trained["value"].to_dict()
    gone = records["seed"].isin(list(rows)) & records["attack"].map(instead_of).astype(bool)
    new = [
        (seed, cell.training.epochs, *row[:4], math.nan if math.isnan(errors[seed]) else row[4], row[5], subsets[seed])
        for seed, own in rows.items()
        for row in own
    ]
    write_table(folder / "records.csv", merge(records[~gone], new, RECORDS), RECORDS)
