"""What each step of a training sees: which images in which order, and whose noise."""

from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from small_trainings import DIGITS, begin, generators

from zoo.data import labelled_subset
from zoo.randomness import draw

NUMBERED = replace(DIGITS, images=torch.arange(1200.0)[:, None].expand(1200, 64), labels=DIGITS.labels[:1200])
"""1200 images, each filled with its own index."""


def batches_of(name, seeds, epochs=2):
    """Indices and labels that each step of each epoch sees: three arrays (epochs, steps, seeds, batch)."""
    training = begin(name, seeds, data=NUMBERED)
    met = []

    def spy(batch, noise):
        met.append((batch.labelled[..., 0].long(), batch.labels, batch.unlabelled[..., 0].long()))
        return {"none": torch.zeros(len(training.seeds))}

    training.step = spy
    for _ in range(epochs):
        training.run_epoch()
    assert training.steps == 6
    return [torch.stack(column).unflatten(0, (epochs, -1)).numpy() for column in zip(*met, strict=True)]


def test_an_epoch_sees_every_unlabelled_image_once():
    _, _, unlabelled = batches_of("vat", [0, 1])
    assert unlabelled.shape == (2, 6, 2, 200)
    for epoch in range(2):
        for seed in range(2):
            assert sorted(unlabelled[epoch, :, seed].ravel()) == list(range(1200))


def test_labelled_batches_use_the_subset_alone_and_all_of_it_equally():
    indices, labels, _ = batches_of("vat", [0, 1])
    assert indices.shape == (2, 6, 2, 50)
    assert np.array_equal(labels, NUMBERED.labels.numpy()[indices])
    for position, seed in enumerate([0, 1]):
        subset = labelled_subset(NUMBERED.labels, 100, 10, seed).tolist()
        for epoch in range(2):
            times = np.bincount(indices[epoch, :, position].ravel(), minlength=1200)
            assert np.flatnonzero(times).tolist() == subset
            assert set(times[subset]) == {3}  # 6 steps of 50, a subset of 100


def test_order_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    pair = batches_of("lvan-lw", [0, 1])
    torch.manual_seed(2)
    alone = batches_of("supervised", [1])
    for together, single in zip(pair, alone, strict=True):
        assert np.array_equal(together[:, :, 1], single[:, :, 0])
    for column in (pair[0], pair[2]):
        assert not np.array_equal(column[0], column[1])
        assert not np.array_equal(column[:, :, 0], column[:, :, 1])


# -------------------------------------------------------------------------------------------------------- noise


def test_noise_of_a_seed_does_not_depend_on_its_companions():
    shapes = {"a": (3, 7), "b": (50, 20), "c": (1, 1)}
    alone, beside = draw(generators(5), shapes), draw(generators(1, 5, 9), shapes)
    for name, shape in shapes.items():
        assert beside[name].shape == (3, *shape)
        assert torch.equal(alone[name][0], beside[name][1])
        assert not torch.equal(beside[name][0], beside[name][1])


def test_noise_is_standard_gaussian_and_never_used_twice():
    seeds = generators(0, 1)
    drawn = [draw(seeds, {"a": (200, 100), "b": (200, 100)}) for _ in range(2)]
    rows = np.stack([step[name][seed].numpy().ravel() for step in drawn for name in "ab" for seed in range(2)])
    for row in rows:  # of 20,000
        assert abs(row.mean()) < 5 / np.sqrt(20000)
        assert abs(row.var() - 1) < 5 * np.sqrt(2 / 20000)
        assert stats.kstest(row, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(rows) - np.eye(8)).max() < 5 / np.sqrt(20000)
