"""Trainings of small models on digits, for tests of the training loop."""

from dataclasses import replace

import torch

import zoo
from zoo.config import (
    FIXED,
    LADDERS,
    LAYER_WISE,
    Hyperparameters,
    ModelConfig,
    TrainingConfig,
)
from zoo.models import create
from zoo.training import Training

WIDTHS = (64, 24, 16, 12, 10)
DIGITS = zoo.load_dataset("digits")
CONFIG = TrainingConfig("digits", labels=100, labelled_batch=50, unlabelled_batch=200, epochs=4, decay_from=2)


def config_of(name, widths=WIDTHS, **options):
    """A small model by name."""
    hyperparameters = Hyperparameters(
        denoising_weights=(1000.0, 10.0, 0.1) if name in LADDERS else (),
        eps=() if name in ("supervised", "ladder") else (0.5, 0.3, 0.1) if name in LAYER_WISE else (0.5,),
    )
    if name == "adversarial-linf":  # a sign turns with the last digit: a large step would hide what is compared
        hyperparameters = replace(hyperparameters, eps=(0.1,))
    return ModelConfig(name, widths, hyperparameters, **options | FIXED.get(name, {}))


def begin(name, seeds, config=CONFIG, data=DIGITS, engine="eager", **options):
    """A training that has not taken a step."""
    return Training(config, create(config_of(name, **options), seeds), seeds, data, engine)


def generators(*seeds):
    """One a seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def state_of(training):
    """Every weight and running statistic, and every moment of Adam: name -> tensor."""
    moments = training.optimizer.state_dict()["state"]
    adam = {f"adam/{index}/{name}": value for index, entry in moments.items() for name, value in entry.items()}
    return {name: value.clone() for name, value in (training.model.state_dict() | adam).items()}


def assert_same_bits(one, two):
    """Weights, statistics, moments, epochs done and history of two trainings."""
    first, second = state_of(one), state_of(two)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert (one.epoch, one.history) == (two.epoch, two.history)
