"""Cells given out to whoever runs them, until each is complete or has failed twice; the rest goes on."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmark.cell import FAILED, Listener
from benchmark.locks import Held, alone
from benchmark.store import read_json, write_json
from benchmark.suite import Cell
from zoo.errors import BadInput

ATTEMPTS = 2
AGAIN_S = 1.0  # until a cell that another process holds is tried again


@dataclass(frozen=True)
class Change:
    """A cell enters a state."""

    state: str


@dataclass(frozen=True)
class Epoch:
    """Epochs done, and each seed's test error as a listener takes it."""

    epoch: int
    errors: Sequence[float]


@dataclass(frozen=True)
class End:
    """How an attempt at a cell ended.

    held: another process has it. died: the worker was killed, or met what nobody foresaw; worth another try.
    refused: the user's files are wrong, and will be. stop: no disk, no permission; no cell would fare better.
    """

    how: Literal["done", "held", "died", "refused", "stop"]
    reason: str = ""


Event = Change | Epoch | End


class Pool(Protocol):
    """Who runs cells: this process, processes beside it, a cluster."""

    def free(self) -> bool:
        """Whether another cell can be started."""

    def start(self, cell: Cell) -> None:
        """Begin a cell; what becomes of it comes as events, the last of them an End."""

    def events(self, wait_s: float) -> Iterable[tuple[Cell, Event]]:
        """What has happened; where nothing has, what does in so many seconds."""


def dispatch(cells: Iterable[Cell], pool: Pool, listener: Listener, folder: Path) -> dict[str, str]:
    """Run every cell; the reasons of those that failed, by name. Raises OSError where none can go on.

    `folder`: the run's. What failed is recorded in the cell's folder, where it can be, for reports and `--dry-run`.
    """
    waiting = deque((0.0, cell) for cell in cells)  # not before that time, in order
    running, attempts, failed, held = 0, Counter[str](), dict[str, str](), dict[str, str]()
    while waiting or running:
        while waiting and waiting[0][0] <= time.monotonic() and pool.free():
            pool.start(waiting.popleft()[1])
            running += 1
        for cell, event in pool.events(AGAIN_S):
            if isinstance(event, Change):
                listener.change(cell, event.state)
                continue
            if isinstance(event, Epoch):
                listener.epoch(cell, event.epoch, event.errors)
                continue
            running -= 1
            attempts[cell.name] += event.how == "died"
            if event.how == "stop":
                raise OSError(event.reason)
            if event.how == "held":
                waiting.append((time.monotonic() + AGAIN_S, cell))
                if held.get(cell.name) != event.reason:
                    listener.change(cell, f"waiting, {event.reason} has it")
                held[cell.name] = event.reason
            elif event.how == "died" and attempts[cell.name] < ATTEMPTS:
                listener.change(cell, f"once more, {event.reason}")
                waiting.appendleft((0.0, cell))
            elif event.how != "done":
                failed[cell.name] = event.reason
                own = folder / "cells" / cell.name
                with suppress(Held, BadInput), alone(own):  # who has it by now will say what becomes of it
                    write_json(own / FAILED, {"reason": event.reason})
                listener.change(cell, "failed")
    return failed


def failure(folder: Path) -> str | None:
    """Why the last attempt at a cell failed; None where it did not."""
    noted = read_json(folder / FAILED)
    return None if noted is None else " ".join(str(noted.get("reason")).split())
