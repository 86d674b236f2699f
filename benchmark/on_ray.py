"""Cells on the nodes of a Ray cluster: the same function writes the same files, into the run's folder or sent home."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import click
import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmark.cell import start_over
from benchmark.dispatch import End, Event
from benchmark.locks import NAME, Held, alone
from benchmark.options import pick_device
from benchmark.suite import Cell
from benchmark.workers import Job, Teller, attempt, settle
from zoo.checkpoints import write_whole
from zoo.data import Dataset
from zoo.errors import BadInput

STATE, LAST = "state.safetensors", "records.csv"  # what says that seeds are done is written after all that it speaks of
KEEP_WORKERS = {"kill_idle_workers_interval_ms": 0}  # never: one more takes seconds, and the mailbox counts as too many
Files = dict[str, bytes]


@dataclass(frozen=True)
class Parcel:
    """Files of a cell that have changed, and the names of all there are."""

    changed: Files
    names: set[str]


class Mailbox:
    """An actor beside the driver that keeps what tasks tell until it is taken."""

    def __init__(self) -> None:
        self.letters: list[tuple[int, Event | Parcel]] = []

    def put(self, number: int, letter: Event | Parcel) -> None:
        """Of attempt `number`."""
        self.letters.append((number, letter))

    def take(self) -> list[tuple[int, Event | Parcel]]:
        """All since the last time, in order."""
        letters, self.letters = self.letters, []
        return letters


@dataclass(frozen=True)
class Sender(Teller):
    """A teller that also sends home what has changed in a cell's folder."""

    folder: Path
    post: Callable[[Parcel], None]
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)  # name: time of change, size

    def change(self, cell: Cell, state: str) -> None:
        """See `Listener`."""
        self.send()
        super().change(cell, state)

    def epoch(self, cell: Cell, epoch: int, errors: Any) -> None:
        """See `Listener`."""
        self.send()
        super().epoch(cell, epoch, errors)

    def send(self) -> None:
        """What has changed since the last time."""
        before, now = dict(self.sent), self.look()
        changed = {name: (self.folder / name).read_bytes() for name, mark in now.items() if before.get(name) != mark}
        if changed or now.keys() != before.keys():
            self.post(Parcel(changed, set(now)))

    def look(self) -> dict[str, tuple[int, int]]:
        """Take what is there as sent."""
        there = [(path.name, path.stat()) for path in self.folder.iterdir() if path.is_file() and path.name != NAME]
        self.sent.clear()
        self.sent.update({name: (about.st_mtime_ns, about.st_size) for name, about in there})
        return self.sent


def task(cell: Cell, job: Job, data: Dataset, number: int, mailbox: Any, files: Files | None) -> End:
    """An attempt at a cell on some node; with `files`, what is there of it, in a folder of its own and sent home."""
    settle(job)

    def tell(letter: Event | Parcel) -> None:
        ray.get(mailbox.put.remote(number, letter))  # waits: whatever is told comes before the end

    def load() -> Dataset:
        return data.to(pick_device(job.device))

    if files is None:
        return attempt(cell, job, Teller(tell), load)
    with TemporaryDirectory() as folder:
        own = Path(folder) / "cells" / cell.name
        for name, content in files.items():
            write_whole(own / name, content)
        own.mkdir(parents=True, exist_ok=True)
        sender = Sender(tell, own, tell)
        sender.look()  # home has these: what goes from here goes there, before anything new comes
        end = attempt(cell, replace(job, folder=Path(folder)), sender, load)
        sender.send()
        return replace(end, how="died") if end.how == "stop" else end  # this node's disk is full, not the run's


def sees(path: Path, content: str) -> bool:
    """Whether a file is there, with this in it, on the node that this is asked on."""
    return path.is_file() and path.read_text() == content


def answered(reference: Any) -> Any:
    """A task's result, or None where its node died."""
    try:
        return ray.get(reference)
    except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
        return None


def said(error: RayError) -> str:
    """An error of Ray's in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def reach(address: str) -> None:
    """Raises OSError where nobody listens at a cluster's host:port, or ray://host:port; Ray would ask without end."""
    at = urlsplit(address if "://" in address else f"//{address}")
    if at.hostname and at.port:
        socket.create_connection((at.hostname, at.port), timeout=10).close()


class ClusterLost(click.ClickException):
    """What ends a run, with exit code 1, whose cluster does not answer any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the cluster gave up ({reason}); the same command goes on from here")


class Cluster:
    """A pool of the nodes of a Ray cluster; use as a context. A node that dies gives its cells back."""

    def __init__(self, address: str | None, gpus: float, job: Job, data: Dataset) -> None:
        self.address, self.gpus = address, gpus
        self.job = replace(job, folder=job.folder.resolve(), threads=1)
        self.data = data
        self.running: dict[Any, tuple[int, Cell]] = {}
        self.locks: dict[int, ExitStack] = {}
        self.ended: list[tuple[Cell, End]] = []
        self.begun = 0

    def __enter__(self) -> Self:
        """Join the cluster, or start one here. Raises BadInput where there is none, or none with such GPUs."""
        if self.address is None:
            ray.init("local", log_to_driver=False, logging_level=logging.ERROR, _system_config=KEEP_WORKERS)
        else:
            try:
                reach(self.address)
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ValueError, RuntimeError, OSError) as error:
                raise BadInput(f"--ray-address {self.address!r}: {error}") from error
        most = max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])
        if most < self.gpus:  # Ray would wait for a node that has them
            ray.shutdown()
            raise BadInput(f"--gpus-per-cell {self.gpus:g}: no node of the cluster has more than {most:g} GPUs")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self.data_there = ray.put(self.data)
        # Made once: to Ray each `remote` is another function, for which it takes, and ends, other worker processes.
        self.task: Any = ray.remote(task).options(num_cpus=1, num_gpus=self.gpus, max_retries=0)
        self.shared = self.is_shared()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster, which ends this driver's tasks; what they had begun can be resumed.

        Not `ray.cancel`: a task that ends by itself meanwhile, as by Ctrl-C, makes Ray abort this process.
        Raises ClusterLost where Ray itself gave up.
        """
        for lock in self.locks.values():
            lock.close()
        ray.shutdown()
        if isinstance(error, RayError):
            raise ClusterLost(said(error)) from error

    def is_shared(self) -> bool:
        """Whether every node that answers sees the run's folder: one may be dead and Ray not know it yet."""
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        on = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        ask = ray.remote(sees)
        with alone(self.job.folder, wait=True, linked=True):
            lock = self.job.folder / NAME
            asked = [ask.options(num_cpus=0, scheduling_strategy=at).remote(lock, lock.read_text()) for at in on]
            return all(answer for answer in map(answered, asked) if answer is not None)

    def free(self) -> bool:
        """See `Pool`: a few more than can run at once, so that no node waits."""
        return len(self.running) < 2 * int(ray.cluster_resources().get("CPU", 1)) + 2

    def start(self, cell: Cell) -> None:
        """See `Pool`."""
        folder, files = self.job.folder / "cells" / cell.name, None
        self.begun += 1
        if not self.shared:
            self.locks[self.begun] = ExitStack()
            try:
                self.locks[self.begun].enter_context(alone(folder))
            except Held as error:
                self.ended.append((cell, End("held", str(error))))
                return
            files = packed(folder)
        reference = self.task.remote(cell, self.job, self.data_there, self.begun, self.mailbox, files)
        self.running[reference] = (self.begun, cell)

    def events(self, wait_s: float) -> Iterator[tuple[Cell, Event]]:
        """See `Pool`."""
        if not self.running and not self.ended:
            time.sleep(wait_s)
        done = ray.wait(list(self.running), timeout=wait_s)[0] if self.running else []
        cells = dict(self.running.values())
        for number, letter in ray.get(self.mailbox.take.remote()):
            if number not in cells:  # of an attempt that has been given up
                continue
            if isinstance(letter, Parcel):
                unpack(letter, self.job.folder / "cells" / cells[number].name)
            else:
                yield cells[number], letter
        for reference in done:
            number, cell = self.running.pop(reference)
            try:
                end = ray.get(reference)
            except RayError as error:
                end = End("died", said(error))
            self.locks.pop(number, ExitStack()).close()
            yield cell, end
        ended, self.ended = self.ended, []
        yield from ended


def packed(folder: Path) -> Files:
    """A cell's files, for a task that does not see them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != NAME}


def unpack(parcel: Parcel, folder: Path) -> None:
    """Make a cell's folder what a task's is, at no moment new files beside records that are not of them.

    What is finished needs no state any more; until then it is kept.
    """
    start_over(folder, keep={*parcel.names, STATE})
    for name in sorted(parcel.changed, key=lambda name: name == LAST):
        write_whole(folder / name, parcel.changed[name])
    if STATE not in parcel.names:
        (folder / STATE).unlink(missing_ok=True)
