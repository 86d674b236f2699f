"""Denormals: none in training, kept where a gradient's being zero is measured."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from attacks import measure_fgm
from benchmark.attacking import attack_models
from benchmark.store import RECORDS, read_table
from benchmark.suite import AttackConfig
from zoo.config import ModelConfig, TrainingConfig
from zoo.data import Dataset
from zoo.denormals import flushed, flushing, kept
from zoo.models import create
from zoo.training import Training, train


@pytest.fixture
def in_flushing_process() -> Iterator[None]:
    """As the command `run` is."""
    with flushing():
        yield


def test_the_flag_is_set_within_and_as_before_after(in_flushing_process: None) -> None:
    threads = torch.get_num_threads()
    assert flushed()
    with kept():
        assert not flushed()
        assert torch.get_num_threads() == 1, "OpenMP's threads may have been made to flush"
        with flushing():
            assert flushed()
        assert not flushed()
    assert flushed()
    assert torch.get_num_threads() == threads


def test_nothing_changes_where_denormals_are_numbers_anyway() -> None:
    threads = torch.get_num_threads()
    with kept():
        assert not flushed()
        assert torch.get_num_threads() == threads


def test_a_command_that_trains_attacks_with_gradients_below_the_normal_range(
    tmp_path: Path, in_flushing_process: None
) -> None:
    """A classifier sure by 90 nats: its gradients are near e^-90, 8e-40, and flushing would call all of them zero."""
    model = nn.Linear(4, 2).requires_grad_(False).eval()
    model.weight.copy_(torch.eye(4)[:2])
    model.bias.copy_(torch.tensor([90.0, 0.0]))
    images, labels = torch.full((50, 4), 0.5), torch.zeros(50, dtype=torch.long)
    (measured,) = measure_fgm(model, images, labels, norms=["Linf"], eps=[0.3])
    assert measured.zero_gradient_share == 1, "else this test shows nothing"
    (tmp_path / "records.csv").write_text(",".join(RECORDS) + "\n0,1,test_error,,,,0.0,50,\n", encoding="utf-8")
    data = Dataset("digits", images, labels, images, labels, 2, {})
    config = AttackConfig(norms=("Linf",), eps=(0.3,))
    attack_models(lambda seeds: model, config, [0], data, tmp_path, lambda stage: None)
    records = read_table(tmp_path / "records.csv", RECORDS).set_index("measure")["value"]
    assert records["zero_gradient_share"] == 0


CONFIG = ModelConfig("supervised", (4, 8, 2), statistics="labelled")
TRAINING = TrainingConfig(dataset="digits", labels=2, labelled_batch=2, unlabelled_batch=2, epochs=1, decay_from=0)


def test_the_smoothness_of_a_model_in_training_counts_them(in_flushing_process: None) -> None:
    """Sure by some 100 nats: with p of the other class taken for zero there is no direction, and a cost of zero."""
    torch.manual_seed(0)
    images, labels = torch.rand(2000, 4), torch.arange(2000) % 2
    data = Dataset("digits", images, labels, images, labels, 2, {})
    training = Training(TRAINING, create(CONFIG, [0]), [0], data)
    with torch.no_grad():
        training.model.encoder.scale *= 120
    flushing_costs = Training.costs.__wrapped__(training, images)  # type: ignore[attr-defined]
    found = training.costs(images)
    assert (found[flushing_costs == 0] > 0).any()
    assert (flushing_costs[found == 0] == 0).all()


def test_training_leaves_the_flag_as_it_was() -> None:
    images, labels = torch.rand(4, 4), torch.tensor([0, 1, 0, 1])
    data = Dataset("digits", images, labels, images, labels, 2, {})
    seen = []
    train(CONFIG, TRAINING, [0], data, progress=lambda _: seen.append(flushed()))
    assert seen == [True]
    assert not flushed()
