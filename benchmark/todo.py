"""What the cells of a run lack, and what that will cost: the table of `run --dry-run`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from benchmark.attacking import unattacked, unaudited
from benchmark.cell import Changed, changed_since, untrained
from benchmark.dispatch import failure
from benchmark.estimate import Cost, costs, makespan
from benchmark.normalised import unnormalised
from benchmark.progress import clock
from benchmark.store import environment
from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.errors import BadInput
from zoo.state import interrupted
from zoo.training import Engine, fitting_engine


class ToDo(NamedTuple):
    """What a cell lacks."""

    state: str  # complete, failed, to attack, to resume, to train, to start over or unreadable
    seeds: tuple[int, ...]  # still to be trained


def still_to_do(cell: Cell, folder: Path, fresh: bool, *, apart: bool) -> ToDo:
    """What a cell lacks in the run's folder. Raises BadInput where another cell, or nothing readable, is there.

    `apart`: the cell fails by itself, so that what cannot be read is found and said by its own worker.
    """
    try:
        return lacks(cell, folder, fresh)
    except BadInput as error:
        if not apart or isinstance(error, Changed):
            raise
        return ToDo("unreadable", cell.seeds)


def lacks(cell: Cell, folder: Path, fresh: bool) -> ToDo:
    """See `still_to_do`."""
    own = folder / "cells" / cell.name
    if not own.is_dir():
        return ToDo("to train", cell.seeds)
    if fresh and changed_since(cell, own):
        return ToDo("to start over", cell.seeds)
    untrained_seeds = tuple(untrained(cell, own))
    if failure(own) is not None:
        return ToDo("failed", untrained_seeds)
    if untrained_seeds:
        return ToDo("to resume" if (own / "state.safetensors").is_file() else "to train", untrained_seeds)
    missing = unattacked(cell.attack, cell.seeds, own) or unaudited(cell.attack, cell.seeds, own)
    missing = missing or unnormalised(cell, own)
    return ToDo("to attack" if missing else "complete", ())


def epochs_done(own: Path, todo: ToDo) -> float:
    """By an interrupted training, the mean over a cell's seeds to be trained; none where it is not of them alone."""
    state = own / "state.safetensors"
    if todo.state not in ("to resume", "failed") or not state.is_file():
        return 0
    try:
        begun = interrupted(state)
    except BadInput:
        if todo.state == "failed":  # which may be why; the reason is shown
            return 0
        raise
    of_these = set(begun["seeds"]) <= set(todo.seeds)
    return begun["epoch"] * len(begun["seeds"]) / len(todo.seeds) if of_these else 0


def show_plan(
    cells: Sequence[Cell], todo: dict[str, ToDo], folder: Path, data: Dataset, engine: Engine | None, devices: int
) -> None:
    """The cells, their state, and what training what is missing will cost on this machine and on several like it.

    Compiled steps are not timed, as compiling takes a minute: how many cells will take them is said instead.
    """
    rows = []
    waiting = [replace(cell, seeds=seeds) for cell in cells if (seeds := todo[cell.name].seeds)]
    timed = costs(waiting, data, "reference" if engine == "reference" else "eager")
    cost = dict(zip([cell.name for cell in waiting], timed, strict=True))
    seconds = {}
    for cell in cells:
        own_state, estimated = todo[cell.name].state, []
        if own := cost.get(cell.name):
            done = epochs_done(folder / "cells" / cell.name, todo[cell.name])
            seconds[cell.name] = own.seconds * (cell.training.epochs - done)
            estimated = [clock(seconds[cell.name]), f"{own.bytes / 2**30:.2f} GiB"]
        rows.append((cell.name, len(cell.seeds), cell.training.epochs, own_state, *(estimated or ("", ""))))
    headers = ("cell", "seeds", "epochs", "state", "estimated", "memory")
    print(tabulate(rows, headers, tablefmt="simple_outline", disable_numparse=True))
    for cell in cells:
        if todo[cell.name].state == "failed":
            print(f"{cell.name} failed: {failure(folder / 'cells' / cell.name)}")
    if compiled := [c for c in waiting if (engine or fitting_engine(c.training, data)) == "compiled"]:
        print(f"{len(compiled)} of these cells will be compiled, a minute each; steps are then faster than timed here")
    where = environment(data.images.device)["device"]
    total = clock(sum(seconds.values()))
    if devices > 1:
        print(f"on {devices} devices like this one, a cell on each: {clock(makespan(seconds.values(), devices))}")
    print(f"training: {total} estimated from single steps on {where}, tensors up to {largest(cost)} a cell")


def largest(cost: Mapping[str, Cost]) -> str:
    """The memory of the cell that needs most."""
    return f"{max((each.bytes for each in cost.values()), default=0) / 2**30:.2f} GiB"
