"""How long cells will take: real steps of each kind of cell, timed on this machine."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.models import create
from zoo.training import Training

TIMED_STEPS = 3


def seconds_of_training(cells: Sequence[Cell], data: Dataset) -> list[float]:
    """Estimated seconds to train each cell from nothing; cells that differ in labels alone are timed once.

    On a CPU one seed is timed and counted once a seed: there the time is proportional. Evaluation is left out.
    """
    known: dict[object, float] = {}
    estimates = []
    for cell in cells:
        seeds = cell.seeds if data.images.is_cuda else cell.seeds[:1]
        config = replace(cell.training, labels=cell.training.labelled_batch)
        key = (cell.model.name, config.labelled_batch, config.unlabelled_batch, len(seeds))
        training = Training(config, create(cell.model, seeds), seeds, data)
        steps = training.steps * cell.training.epochs * len(cell.seeds) / len(seeds)
        if key not in known:
            known[key] = timed(training)
        estimates.append(known[key] * steps)
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
