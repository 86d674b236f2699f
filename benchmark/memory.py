"""How many cells at once there is memory for. All figures are in bytes."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch

from benchmark.estimate import bytes_of, size
from benchmark.suite import Cell
from zoo.data import Dataset

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


def available(meminfo: Path) -> float:
    """Linux's own estimate."""
    if not meminfo.is_file():
        return math.inf
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return next((1024.0 * int(words[1]) for words in lines if words[0] == "MemAvailable:"), math.inf)


def granted(own: Path, root: Path) -> float:
    """What the control groups (version 2) of this process have left; cached files that can be dropped count as left."""
    name = next((line[4:] for line in _lines(own) if line.startswith("0::/")), None)
    if name is None:
        return math.inf
    inner = root / name
    return min(_left(group) for group in (inner, *inner.parents) if group == root or root in group.parents)


def of_process() -> int:
    """What this process has in memory now; zero where the system does not tell."""
    status = (line.split() for line in _lines(PROC / "self" / "status"))
    return next((1024 * int(words[1]) for words in status if words[0] == "VmRSS:"), 0)


def _left(group: Path) -> float:
    most, current = (_lines(group / f"memory.{name}") for name in ("max", "current"))
    if not most or not current or most[0] == "max":
        return math.inf
    files = (line.split() for line in _lines(group / "memory.stat") if line.startswith("inactive_file "))
    return float(most[0]) - float(current[0]) + next((float(words[1]) for words in files), 0.0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
