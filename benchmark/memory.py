"""How many cells at once there is memory for. All figures are in bytes."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import torch

from benchmark.estimate import bytes_of, least, size
from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.errors import BadInput

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def fitting(jobs: int, cells: Sequence[Cell], data: Dataset) -> int:
    """As many of `jobs` as there is memory for, whichever cells meet; fewer than asked for are announced.

    A worker on the CPU takes what this process has, which has loaded the same, and its cell's tensors. On a GPU tensors
    alone are counted.
    """
    if min(jobs, len(cells)) <= 1:
        return 1
    tensors = bytes_of(cells, data)
    around = 0 if data.images.is_cuda else max(0, of_process() - size(data))
    needs, left = [around + each for each in tensors], free(data.images.device)
    most = at_once(jobs, needs, left)
    if most < min(jobs, len(cells)):
        said = f"a cell takes up to {max(needs) / 2**30:.2f} GiB of memory, {max(0, left) / 2**30:.2f} GiB are free"
        print(f"--jobs {jobs}: {said}, hence {most} at once", flush=True)
    return most


def check_room(cell: Cell, seeds: Sequence[int], device: torch.device) -> None:
    """Raises BadInput for seeds that can never train together here, whatever else is in memory."""
    needs = len(seeds) * least(cell.model, cell.training.labelled_batch, cell.training.unlabelled_batch)
    if needs > (most := whole(device)):
        takes = f"{len(seeds)} seeds at once take at least {needs / 2**30:.2f} GiB of memory"
        raise BadInput(f"{cell.name}: {takes}, there are {most / 2**30:.2f} GiB in all: give fewer with --seeds")


def at_once(jobs: int, needs: Sequence[int], left: float) -> int:
    """How many fit together, whichever they are; at least one."""
    largest = sorted(needs, reverse=True)[:jobs]
    return max(1, sum(together <= left for together in accumulate(largest)))


def free(device: torch.device) -> float:
    """What new processes can take: of a GPU's memory, or of the machine's and of what a container or batch system
    grants. Infinite where the system does not tell.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(available(PROC / "meminfo"), granted(PROC / "self" / "cgroup", CGROUPS))


def whole(device: torch.device) -> float:
    """All that a process could ever have. Infinite where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    return min(available(PROC / "meminfo", "MemTotal:"), granted(PROC / "self" / "cgroup", CGROUPS, _most))


def available(meminfo: Path, what: str = "MemAvailable:") -> float:
    """Linux's own estimate, or another of its figures."""
    if not meminfo.is_file():
        return math.inf
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return next((1024.0 * int(words[1]) for words in lines if words[0] == what), math.inf)


def granted(own: Path, root: Path, of: Callable[[Path], float] | None = None) -> float:
    """What the control groups (version 2) of this process have left; cached files that can be dropped count as left.

    `of`: another figure of a group, instead.
    """
    name = next((line[4:] for line in _lines(own) if line.startswith("0::/")), None)
    if name is None:
        return math.inf
    inner = root / name
    return min((of or _left)(group) for group in (inner, *inner.parents) if group == root or root in group.parents)


def of_process() -> int:
    """What this process has in memory now; zero where the system does not tell."""
    status = (line.split() for line in _lines(PROC / "self" / "status"))
    return next((1024 * int(words[1]) for words in status if words[0] == "VmRSS:"), 0)


def _most(group: Path) -> float:
    most = _lines(group / "memory.max")
    return float(most[0]) if most and most[0] != "max" else math.inf


def _left(group: Path) -> float:
    most, current = _most(group), _lines(group / "memory.current")
    if most == math.inf or not current:
        return math.inf
    files = (line.split() for line in _lines(group / "memory.stat") if line.startswith("inactive_file "))
    return most - float(current[0]) + next((float(words[1]) for words in files), 0.0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
