"""How long cells will take and what memory they need: real steps of each kind of cell, measured on this machine."""

import functools
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from benchmark.speed import STEPS, begin, kept_for_backward, seconds_a_step
from benchmark.suite import Cell
from zoo.config import ModelConfig
from zoo.data import Dataset
from zoo.models import create
from zoo.randomness import amount
from zoo.training import Engine, Training

T = TypeVar("T")
COPIES = 4  # of every parameter: itself, its gradient, Adam's two moments


@dataclass(frozen=True)
class Cost:
    """Of training a cell."""

    seconds: float  # an epoch, evaluation left out
    bytes: int  # tensors at once: data, parameters, noise, what the backward pass needs; not the process around them


def costs(cells: Sequence[Cell], data: Dataset, engine: Engine = "eager") -> list[Cost]:
    """What each cell costs. On a CPU time and memory are proportional to the seeds, and one seed is measured."""
    found = []
    for cell, (step, times) in zip(cells, by_work(cells, data, engine, measured), strict=True):
        steps = cell.training.updates(len(data.images))
        found.append(Cost(step.seconds * steps * times, step.bytes * times + size(data)))
    return found


def bytes_of(cells: Sequence[Cell], data: Dataset) -> list[int]:
    """The bytes of `costs` alone, for which a single step a kind of cell is begun."""
    return [each * times + size(data) for each, times in by_work(cells, data, "eager", tensors)]


def by_work(
    cells: Sequence[Cell], data: Dataset, engine: Engine, measure: Callable[[Training], T]
) -> list[tuple[T, int]]:
    """What is measured of each cell, and how many times its seeds are it; cells of equal work are measured once."""
    known: dict[object, T] = {}
    found = []
    for cell in cells:
        seeds = cell.seeds if data.images.is_cuda else cell.seeds[:1]
        work = (cell.model.name, cell.training.labelled_batch, cell.training.unlabelled_batch, len(seeds))
        if work not in known:
            known[work] = measure(begin(replace(cell, seeds=seeds), data, engine))
        found.append((known[work], len(cell.seeds) // len(seeds)))
    return found


def measured(training: Training) -> Cost:
    """Of a step, the mean of two (on a GPU of fifty), after a first one that is not timed; without the data."""
    memory = tensors(training)
    training.steps = 1
    training.run_epoch()
    return Cost(seconds_a_step(training, STEPS["cuda"] if training.device.type == "cuda" else 2), memory)


def tensors(training: Training) -> int:
    """Bytes that a training has at once: parameters, noise, what the backward pass needs; without the data."""
    own = COPIES * sum(parameter.nbytes for parameter in training.model.parameters()) + training.flat_noise.nbytes
    return own + kept_for_backward(training)


@functools.lru_cache(maxsize=1000)
def least(model: ModelConfig, labelled: int, unlabelled: int) -> int:
    """Bytes that training a seed takes at least: `tensors` without the backward pass; nothing is allocated."""
    with torch.device("meta"):
        of = create(model)
    noise = amount(of.noise_shapes({"labelled": labelled, "unlabelled": unlabelled}))
    return COPIES * sum(parameter.nbytes for parameter in of.parameters()) + torch.float32.itemsize * noise


def size(data: Dataset) -> int:
    """Bytes of a data set."""
    return sum(tensor.nbytes for tensor in (data.images, data.labels, data.test_images, data.test_labels))


def makespan(seconds: Iterable[float], devices: int) -> float:
    """When the last of so many devices is done, each taking the longest cell that is left."""
    longest = sorted(seconds, reverse=True)
    busy = [0.0] * min(devices, max(1, len(longest)))  # more would have nothing to do
    for each in longest:
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)
