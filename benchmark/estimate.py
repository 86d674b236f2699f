"""How long cells will take: real steps of each kind of cell, timed on this machine."""

from collections.abc import Sequence
from dataclasses import replace

from benchmark.speed import begin, seconds_a_step
from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.training import Training


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
            known[work] = timed(begin(replace(cell, seeds=seeds), data))
        steps = cell.training.updates(len(data.images))
        estimates.append(known[work] * steps * len(cell.seeds) / len(seeds))
    return estimates


def timed(training: Training) -> float:
    """Seconds a step, after a first one that is not counted."""
    training.steps = 1
    training.run_epoch()
    return seconds_a_step(training)
