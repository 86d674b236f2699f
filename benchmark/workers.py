"""Several cells at once in processes of this machine. One that is killed takes its cell with it, not the run."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from benchmark.cell import Listener, run_cell
from benchmark.dispatch import Change, End, Epoch, Event
from benchmark.locks import Held, alone
from benchmark.options import pick_device
from benchmark.suite import Cell
from zoo.data import Dataset, load_dataset
from zoo.errors import BadInput, told
from zoo.training import Engine


@dataclass(frozen=True)
class Job:
    """What every cell of a run has in common; picklable."""

    folder: Path  # the run's
    data: Path | None  # where data sets are looked for
    device: str
    engine: Engine | None
    fresh: bool  # whether a cell of another configuration is started over
    threads: int
    typed: Sequence[str]  # sys.argv, for the provenance


@dataclass(frozen=True)
class Teller:
    """A listener that passes on what it is told."""

    tell: Callable[[Event], None]

    def change(self, cell: Cell, state: str) -> None:
        """See `Listener`."""
        self.tell(Change(state))

    def epoch(self, cell: Cell, epoch: int, errors: Sequence[float]) -> None:
        """See `Listener`."""
        self.tell(Epoch(epoch, errors))


@functools.lru_cache(maxsize=1)
def dataset(name: str, root: Path | None, device: str) -> Dataset:
    """A worker's data: loaded once."""
    return load_dataset(name, root).to(pick_device(device))


def settle(job: Job) -> None:
    """Make this process one that works for a job."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(job.threads)
    sys.argv = list(job.typed)


def attempt(cell: Cell, job: Job, listener: Listener, load: Callable[[], Dataset]) -> End:
    """A cell in a worker, from nothing or from wherever it stands; whatever goes wrong is said in one line."""
    folder = job.folder / "cells" / cell.name
    try:
        data = load()
        with alone(folder):
            run_cell(cell, data, folder, listener, job.engine, fresh=job.fresh)
    except Held as error:
        return End("held", str(error))
    except BadInput as error:
        return End("refused", str(error))
    except OSError as error:
        return End("stop", str(error))
    except Exception as error:
        return End("died", told(error))
    return End("done")


def serve(connection: Connection, job: Job) -> None:
    """A worker's life: cells come, events go. It ends with its parent, and after what nobody foresaw."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C goes to the parent too, which ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    settle(job)
    while True:
        try:
            cell = connection.recv()
        except EOFError:
            return
        load = functools.partial(dataset, cell.training.dataset, job.data, job.device)
        end = attempt(cell, job, Teller(connection.send), load)
        connection.send(end)
        if end.how == "died":
            return


def end_with_parent() -> None:
    """An orphan must not train on beside the run that is typed next."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


class Here:
    """The pool that is this process: one cell after the other, whose errors end the run."""

    def __init__(self, run: Callable[[Cell], None]) -> None:
        self.run = run
        self.ended: list[tuple[Cell, Event]] = []

    def free(self) -> bool:
        """See `Pool`."""
        return not self.ended

    def start(self, cell: Cell) -> None:
        """See `Pool`; comes back when the cell is done."""
        try:
            self.run(cell)
            self.ended.append((cell, End("done")))
        except Held as error:
            self.ended.append((cell, End("held", str(error))))

    def events(self, wait_s: float) -> list[tuple[Cell, Event]]:
        """See `Pool`."""
        ended, self.ended = self.ended, []
        if not ended:
            time.sleep(wait_s)
        return ended


class Workers:
    """A pool of processes on this machine; use as a context. Each has a pipe of its own: a death harms no other."""

    def __init__(self, count: int, job: Job) -> None:
        self.count, self.job = count, job
        self.idle: deque[tuple[Connection, Any]] = deque()
        self.busy: dict[Connection, tuple[Any, Cell]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker; what they had begun can be resumed."""
        for process in [*(process for _, process in self.idle), *(process for process, _ in self.busy.values())]:
            process.kill()
            process.join()

    def free(self) -> bool:
        """See `Pool`."""
        return len(self.busy) < self.count

    def start(self, cell: Cell) -> None:
        """See `Pool`."""
        connection, process = self.idle.popleft() if self.idle else self.begin()
        self.busy[connection] = (process, cell)
        try:
            connection.send(cell)
        except OSError:  # it died idle: `events` finds that out
            return

    def begin(self) -> tuple[Connection, Any]:
        """A new worker."""
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads as locked as they are
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.job), daemon=True)
        with quiet():
            process.start()
        theirs.close()  # so that its death is the end of the pipe
        return ours, process

    def events(self, wait_s: float) -> Iterator[tuple[Cell, Event]]:
        """See `Pool`."""
        if not self.busy:
            time.sleep(wait_s)
        for connection in multiprocessing.connection.wait(list(self.busy), wait_s):
            assert isinstance(connection, Connection)
            process, cell = self.busy[connection]
            try:
                event = connection.recv()
            except (EOFError, OSError):
                process.join()
                event = End("died", died_of(process.exitcode))
            if isinstance(event, End):
                del self.busy[connection]
                if event.how == "died":
                    process.join()
                else:
                    self.idle.append((connection, process))
            yield cell, event


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Processes that begin within hear no Ctrl-C, even before `serve` is reached; this one hears it after."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def died_of(code: int) -> str:
    """What an exit code says of a worker's death."""
    if code == -signal.SIGKILL:
        return "the worker was killed (SIGKILL): out of memory?"
    return f"the worker died of {signal.Signals(-code).name}" if code < 0 else f"the worker ended with exit code {code}"
