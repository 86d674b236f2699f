"""What a user sees while cells run: a live table in a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmark.suite import Cell

MOST_ROWS = 40  # of the live table


@dataclass
class Row:
    """What is known of a cell."""

    cell: Cell
    state: str
    epoch: int = 0
    errors: Sequence[float] = ()
    first_epoch: int | None = None  # epochs done when this process saw the cell first
    since: float = 0.0

    def under_way(self) -> bool:
        """Whether it has been begun here and is not done."""
        return self.since > 0 and self.state not in ("complete", "failed")

    def left(self) -> str:
        """Time left for training, from the pace so far."""
        if self.state != "training" or self.first_epoch is None or self.epoch == self.first_epoch:
            return ""
        pace = (time.monotonic() - self.since) / (self.epoch - self.first_epoch)
        return clock(pace * (self.cell.training.epochs - self.epoch))


class Progress:
    """Follows cells by name; use as a context."""

    def __init__(self, cells: Sequence[Cell], states: Sequence[str]) -> None:
        self.rows = {cell.name: Row(cell, state) for cell, state in zip(cells, states, strict=True)}
        self.live = Live(console=Console(), get_renderable=self.table, refresh_per_second=2)
        self.terminal = sys.stdout is not None and sys.stdout.isatty()  # None where it was closed

    def __enter__(self) -> Self:
        if self.terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            self.live.stop()

    def change(self, cell: Cell, state: str) -> None:
        """A cell enters a state: training, attacking, complete."""
        row = self.rows[cell.name]
        row.state, row.since = state, time.monotonic()
        self.say(f"{cell.name}: {state}")

    def epoch(self, cell: Cell, epoch: int, errors: Sequence[float]) -> None:
        """An epoch of a cell is done; each seed's test error, NaN where it diverged, empty where not measured."""
        row = self.rows[cell.name]
        if row.first_epoch is None:
            row.first_epoch, row.since = epoch, time.monotonic()
        row.epoch = epoch
        row.errors = errors or row.errors
        left = f", {row.left()} left" if row.left() else ""
        self.say(f"{cell.name}: epoch {epoch} of {cell.training.epochs}, test error {percent(row.errors)}{left}")

    def say(self, line: str) -> None:
        """A plain line where there is no live table."""
        if not self.terminal:
            print(line, flush=True)

    def table(self) -> Table:
        """The cells as they stand; where there are too many, those under way first, and the others counted."""
        table = Table("cell", "seeds", "state", "epoch", "test error", "time left")
        rows = list(self.rows.items())
        if len(rows) > MOST_ROWS:
            rows.sort(key=lambda each: not each[1].under_way())
            states = Counter(row.state for _, row in rows[MOST_ROWS:])
            counted = ", ".join(f"{count:,} {state}" for state, count in states.items())
            table.caption = f"and {len(rows) - MOST_ROWS:,} more: {counted}"
        for name, row in rows[:MOST_ROWS]:
            epoch = f"{row.epoch}/{row.cell.training.epochs}" if row.epoch else ""
            seeds = str(len(row.cell.seeds))
            table.add_row(name, seeds, row.state, epoch, percent(row.errors), row.left())
        return table


def percent(errors: Sequence[float]) -> str:
    """The mean over seeds in %, two decimals; diverged seeds are counted apart."""
    finite = [error for error in errors if not math.isnan(error)]
    mean = f"{100 * sum(finite) / len(finite):.2f} %" if finite else "" if errors else "not yet measured"
    diverged = f"({len(errors) - len(finite)} diverged)" if len(finite) < len(errors) else ""
    return " ".join(filter(None, (mean, diverged)))


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
