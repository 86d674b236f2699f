"""How long cells will take: real steps of each kind of cell, timed on this machine."""

import time
from collections.abc import Sequence

import torch

from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.models import create
from zoo.training import Training

TIMED_STEPS = 3


def seconds_of_epochs(cells: Sequence[Cell], data: Dataset) -> list[float]:
    """Estimated seconds that one epoch of each cell takes; cells of equal work are timed once.

    On a CPU one seed is timed and counted once a seed: there the time is proportional. Evaluation is left out.
    """
    known: dict[object, float] = {}
    estimates = []
    for cell in cells:
        seeds = cell.seeds if data.images.is_cuda else cell.seeds[:1]
        work = (cell.model.name, cell.training.labelled_batch, cell.training.unlabelled_batch, len(seeds))
        if work not in known:
            known[work] = timed(Training(cell.training, create(cell.model, seeds), seeds, data))
        steps = len(data.images) // cell.training.unlabelled_batch
        estimates.append(known[work] * steps * len(cell.seeds) / len(seeds))
    return estimates


def timed(training: Training) -> float:
    """Seconds a step, after a first one that is not counted."""
    training.steps = 1
    training.run_epoch()
    training.steps = TIMED_STEPS
    synchronise(training.device)
    started = time.perf_counter()
    training.run_epoch()
    synchronise(training.device)
    return (time.perf_counter() - started) / TIMED_STEPS


def synchronise(device: torch.device) -> None:
    """Wait for a GPU's queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
