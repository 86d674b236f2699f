"""A cell's checkpoints by other test-time statistics than their averages: how much of a figure is of the statistics."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks import measure_fgm
from attacks.checks import batches
from attacks.measurement import wrong
from benchmark.attacking import STATISTICS, checkpoint, finish, recorded, store
from benchmark.suite import Cell
from zoo.checkpoints import load_checkpoint
from zoo.classifier import Classifier
from zoo.data import Dataset, divided
from zoo.denormals import kept
from zoo.normalisation import averaged_over
from zoo.randomness import stream

STAGE, COST = "statistics", "virtual_adversarial_cost"
OWN, LABELLED, CORRUPTED, IN_BATCH = (STATISTICS + kind for kind in ("own", "labelled", "corrupted", "batch"))
BATCH = 250  # test images that are normalised together, where the statistics are the batch's


def unnormalised(cell: Cell, folder: Path) -> list[int]:
    """The cell's seeds that lack a record by other statistics; none where the suite does not ask for them."""
    if not cell.attack.other_statistics:
        return []
    have = recorded(folder, "attacked_error") | recorded(folder, COST)
    radii = [(norm, eps) for norm in cell.attack.norms for eps in cell.attack.eps]
    wanted = [(kind, *radius) for kind in (LABELLED, CORRUPTED) for radius in radii]
    wanted += [(kind, "L2", cell.training.smoothness_eps) for kind in (OWN, LABELLED, CORRUPTED, IN_BATCH)]
    return [seed for seed in cell.seeds if any((seed, *each) not in have for each in wanted)]


@kept()
def store_normalised(cell: Cell, data: Dataset, folder: Path, seeds: Sequence[int]) -> None:
    """What some seeds' checkpoints err, under the paper's attack too, and cost, by each kind of statistics."""
    started = time.monotonic()
    training = cell.training
    _, subsets, _ = divided(data, training.labels, training.validation, seeds)
    rows: dict[int, list[Any]] = {}
    for seed, subset in zip(seeds, subsets.to(data.images.device), strict=True):
        model, images = load_checkpoint(checkpoint(folder, seed), data.images.device), data.images[subset]
        rows[seed] = [*cost_rows(OWN, model, cell, seed, data), *cost_rows(IN_BATCH, model, cell, seed, data)]
        rows[seed].append(row("clean_error", IN_BATCH, "", math.nan, error_in_batches(model, data), data.test_labels))
        for kind, noise in ((LABELLED, False), (CORRUPTED, True)):
            other = averaged_over(model, images, training.labelled_batch, seed, noise=noise)
            rows[seed] += [*error_rows(kind, other, cell, data), *cost_rows(kind, other, cell, seed, data)]
    finish(STAGE, seeds, started, data, folder)
    store(folder, rows)


def row(measure: str, kind: str, norm: str, eps: float, value: float, images: Tensor) -> tuple[Any, ...]:
    """Of the records."""
    return measure, kind, norm, eps, value, len(images)


def error_rows(kind: str, model: Classifier, cell: Cell, data: Dataset) -> Iterator[tuple[Any, ...]]:
    """The test error, and under the fast gradient method in the paper's meaning at the suite's norms and eps."""
    x, y, attack = data.test_images, data.test_labels, cell.attack
    found = measure_fgm(model, x, y, norms=attack.norms, eps=attack.eps)
    yield row("clean_error", kind, "", math.nan, found[0].clean_error, y)
    for each in found:
        yield row("attacked_error", kind, each.norm, each.eps, each.attacked_error, y)


def cost_rows(kind: str, model: Classifier, cell: Cell, seed: int, data: Dataset) -> Iterator[tuple[Any, ...]]:
    """The virtual adversarial cost of the images, and from the directions, that training measures smoothness by."""
    training = cell.training
    x = data.test_images[: training.smoothness_images]
    start = torch.randn(x.shape, generator=stream(seed, "smoothness", 0, x.device), device=x.device)
    size = BATCH if kind == IN_BATCH else len(x)
    how = training.smoothness_eps, training.smoothness_iterations, kind == IN_BATCH
    costs = torch.cat([model.costs(x[part], start[part], *how) for part in batches(len(x), size)])
    yield row(COST, kind, "L2", training.smoothness_eps, costs.mean().item(), x)


@torch.no_grad()
def error_in_batches(model: Classifier, data: Dataset) -> float:
    """The test error where each batch is normalised by itself, so that an answer depends on its neighbours."""
    x, y = data.test_images, data.test_labels
    return (
        torch.cat([wrong(model.in_batch(x[part]), y[part]) for part in batches(len(x), BATCH)]).double().mean().item()
    )
