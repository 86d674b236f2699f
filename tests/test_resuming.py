"""Trainings that were cut off and taken up again: the same to the bit; what cannot be taken up is named."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_trainings import CONFIG, DIGITS, assert_same_bits, begin, config_of

import zoo
from zoo.checkpoints import read_tensors
from zoo.training import train


class PowerCut(Exception):
    """Ends a training from within."""


def interrupt_after(epoch):
    """A `progress` that ends the training after an epoch."""

    def progress(training):
        if training.epoch == epoch:
            raise PowerCut

    return progress


def interrupted(state, name="lvan-lw", config=CONFIG, seeds=(0, 1), after=2):
    """Leave the state of a training that was cut off."""
    with pytest.raises(PowerCut):
        train(config_of(name), config, seeds, DIGITS, state=state, save_every_s=0, progress=interrupt_after(after))
    assert read_tensors(state)[1]["epoch"] == after


@pytest.mark.parametrize("name", ["supervised", "vat", "lvac", "lvan-lw"])
def test_resumed_is_bit_identical(tmp_path, name):
    straight = train(config_of(name), CONFIG, [0, 1], DIGITS)
    interrupted(tmp_path / "state", name)
    epochs = []
    resumed = train(
        config_of(name),
        CONFIG,
        [0, 1],
        DIGITS,
        state=tmp_path / "state",
        progress=lambda training: epochs.append(training.epoch),
    )
    assert epochs == [3, 4]
    assert_same_bits(resumed, straight)
    assert not torch.equal(*straight.model.encoder.weight[0])


def train_slowly(state):
    """What the killed process runs: time enough between epochs to be killed in."""
    pause = {"save_every_s": 0, "progress": lambda training: time.sleep(0.5)}
    train(config_of("lvan-lw"), CONFIG, [0, 1], DIGITS, state=Path(state), **pause)


def test_killed_and_resumed_is_bit_identical(tmp_path):
    state = tmp_path / "state"
    script = "import sys, test_resuming; test_resuming.train_slowly(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", script, str(state)], cwd=Path(__file__).parent) as process:
        deadline = time.monotonic() + 120
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 1 <= read_tensors(state)[1]["epoch"] < CONFIG.epochs
    resumed = train(config_of("lvan-lw"), CONFIG, [0, 1], DIGITS, state=state)
    assert_same_bits(resumed, train(config_of("lvan-lw"), CONFIG, [0, 1], DIGITS))


@pytest.mark.parametrize("other", ["model", "training", "seeds", "order of seeds"])
def test_a_state_of_another_configuration_is_not_resumed(tmp_path, other):
    interrupted(tmp_path / "state", "vat")
    model = config_of("vat", power_iterations=1) if other == "model" else config_of("vat")
    config = replace(CONFIG, learning_rate=0.001) if other == "training" else CONFIG
    seeds = {"seeds": [0, 2], "order of seeds": [1, 0]}.get(other, [0, 1])
    epochs = []
    found = train(model, config, seeds, DIGITS, state=tmp_path / "state", progress=lambda t: epochs.append(t.epoch))
    assert epochs == [1, 2, 3, 4]
    assert_same_bits(found, train(model, config, seeds, DIGITS))


@pytest.mark.parametrize("keep", [0, 7, 0.5, -1])
def test_a_truncated_state_is_named_in_one_line(tmp_path, keep):
    state = tmp_path / "state"
    interrupted(state, after=1)
    content = state.read_bytes()
    state.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(zoo.BadInput) as error:
        train(config_of("lvan-lw"), CONFIG, [0, 1], DIGITS, state=state)
    assert str(state) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_altered_state_is_not_trained_on(tmp_path):
    state = tmp_path / "state"
    interrupted(state, after=1)
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(zoo.BadInput, match="other numbers than were saved"):
        train(config_of("lvan-lw"), CONFIG, [0, 1], DIGITS, state=state)


def test_a_checkpoint_in_the_states_place_is_named_in_one_line(tmp_path):
    zoo.checkpoints.save_seed(tmp_path / "state", begin("vat", [0]).model, 0, {})
    with pytest.raises(zoo.BadInput, match="state"):
        train(config_of("vat"), CONFIG, [0], DIGITS, state=tmp_path / "state")


def test_the_state_is_saved_no_more_often_than_asked(tmp_path):
    train(config_of("supervised"), CONFIG, [0], DIGITS, state=tmp_path / "state", save_every_s=1e6)
    assert not (tmp_path / "state").exists()
