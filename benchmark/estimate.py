"""How long cells will take and what memory they need: real steps of each kind of cell, measured on this machine."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmark.speed import begin, kept_for_backward, seconds_a_step
from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.training import Training

COPIES = 4  # of every parameter: itself, its gradient, Adam's two moments


@dataclass(frozen=True)
class Cost:
    """Of training a cell."""

    seconds: float  # an epoch, evaluation left out
    bytes: int  # tensors at once: data, parameters, noise, what the backward pass needs; not the process around them


def costs(cells: Sequence[Cell], data: Dataset) -> list[Cost]:
    """What each cell costs; cells of equal work are measured once.

    On a CPU one seed is measured and counted once a seed: there time and memory are proportional.
    """
    known: dict[object, Cost] = {}
    found = []
    for cell in cells:
        seeds = cell.seeds if data.images.is_cuda else cell.seeds[:1]
        work = (cell.model.name, cell.training.labelled_batch, cell.training.unlabelled_batch, len(seeds))
        if work not in known:
            known[work] = measured(begin(replace(cell, seeds=seeds), data))
        steps = cell.training.updates(len(data.images))
        times = len(cell.seeds) // len(seeds)
        step = known[work]
        found.append(Cost(step.seconds * steps * times, step.bytes * times + size(data)))
    return found


def measured(training: Training) -> Cost:
    """Of one step, after a first one that is not timed; without the data."""
    own = COPIES * sum(parameter.nbytes for parameter in training.model.parameters()) + training.flat_noise.nbytes
    memory = own + kept_for_backward(training)
    training.steps = 1
    training.run_epoch()
    return Cost(seconds_a_step(training), memory)


def size(data: Dataset) -> int:
    """Bytes of a data set."""
    return sum(tensor.nbytes for tensor in (data.images, data.labels, data.test_images, data.test_labels))


def makespan(seconds: Iterable[float], devices: int) -> float:
    """When the last of so many devices is done, each taking the longest cell that is left."""
    busy = [0.0] * devices
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)
