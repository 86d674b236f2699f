"""A cell's checkpoints by other test-time statistics than their averages: how much of a figure is of the statistics."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import measure_fgm
from attacks.checks import batches
from benchmark.attacking import STATISTICS, finish, forget, load_seed, recorded, store
from benchmark.suite import Cell
from zoo.classifier import Classifier
from zoo.data import Dataset, divided
from zoo.denormals import kept
from zoo.normalisation import InBatch, averaged_over
from zoo.randomness import stream

STAGE, COST = "statistics", "virtual_adversarial_cost"
OWN, UNLABELLED, LABELLED, CORRUPTED, IN_BATCH, TRAINING = (
    STATISTICS + kind for kind in ("own", "unlabelled", "labelled", "corrupted", "batch", "training")
)
BATCH = 100  # test images that are normalised together, where the statistics are the batch's


def unnormalised(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that lack a record by other statistics; none where the suite does not ask for them."""
    if not cell.attack.other_statistics:
        return []
    have = recorded(folder, "attacked_error") | recorded(folder, COST)
    radii = [(norm, eps) for norm in cell.attack.norms for eps in cell.attack.eps]
    averages = [kind for kind, *_ in averaged(cell)]
    wanted = [(kind, *radius) for kind in (*averages, IN_BATCH, TRAINING) for radius in radii]
    wanted += [(kind, "L2", cell.training.smoothness_eps) for kind in (OWN, *averages, IN_BATCH)]
    return [seed for seed in cell.seeds if any((seed, *each) not in have for each in wanted)]


def averaged(cell: Cell) -> list[tuple[str, bool, bool]]:
    """The averages that are not the model's own: kind, whether over labelled images, whether with noise."""
    kinds = [(UNLABELLED, False, False), (LABELLED, True, False), (CORRUPTED, True, True)]
    return [kind for kind in kinds if kind[0] != STATISTICS + cell.model.statistics]


@kept()
def store_normalised(cell: Cell, data: Dataset, folder: Path, seeds: Sequence[int]) -> None:
    """What some seeds' checkpoints err, under the paper's attack too, and cost, by each kind of statistics."""
    started = time.monotonic()
    training, device = cell.training, data.images.device
    pool, subsets, _ = divided(data, training.labels, training.validation, seeds)
    rows: dict[int, list[Any]] = {}
    for seed, subset in zip(seeds, subsets.to(device), strict=True):
        model = load_seed(folder, seed, device)
        rows[seed] = [*cost_rows(OWN, model, cell, seed, data), *cost_rows(IN_BATCH, model, cell, seed, data)]
        for kind, labelled, noise in averaged(cell):
            images = data.images[subset if labelled else pool.to(device)]
            batch = training.labelled_batch if labelled else training.unlabelled_batch
            other = averaged_over(model, images, batch, seed, noise=noise)
            rows[seed] += [*error_rows(kind, other, cell, data), *cost_rows(kind, other, cell, seed, data)]
        noisy = InBatch(model, stream(seed, "statistics/training", 0, device))
        rows[seed] += [*error_rows(IN_BATCH, InBatch(model), cell, data), *error_rows(TRAINING, noisy, cell, data)]
    forget(folder, seeds, lambda attack: attack.startswith(STATISTICS))  # of kinds that are made no more
    finish(STAGE, seeds, started, data, folder)
    store(folder, rows)


def error_rows(kind: str, model: nn.Module, cell: Cell, data: Dataset) -> Iterator[tuple[Any, ...]]:
    """The test error, and under the fast gradient method in the paper's meaning at the suite's norms and eps."""
    x, y, attack = data.test_images, data.test_labels, cell.attack
    found = measure_fgm(model, x, y, norms=attack.norms, eps=attack.eps, batch_size=BATCH)
    yield "clean_error", kind, "", math.nan, found[0].clean_error, len(y)
    for each in found:
        yield "attacked_error", kind, each.norm, each.eps, each.attacked_error, len(y)


def cost_rows(kind: str, model: Classifier, cell: Cell, seed: int, data: Dataset) -> Iterator[tuple[Any, ...]]:
    """The virtual adversarial cost of the images, and from the directions, that training measures smoothness by."""
    training = cell.training
    x = data.test_images[: training.smoothness_images]
    start = torch.randn(x.shape, generator=stream(seed, "smoothness", 0, x.device), device=x.device)
    how = training.smoothness_eps, training.smoothness_iterations, kind == IN_BATCH

    def costs(part: slice) -> Tensor:
        return model.costs(x[part], start[part], *how)

    found = torch.cat([costs(part) for part in batches(len(x), BATCH if kind == IN_BATCH else len(x))])
    yield COST, kind, "L2", training.smoothness_eps, found.mean().item(), len(x)
