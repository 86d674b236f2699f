"""The training loop: seeds apart, schedule, Adam, statistics and errors against NumPy."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from small_trainings import CONFIG, DIGITS, WIDTHS, begin, config_of, generators, state_of
from test_losses import RELEASED

import zoo
from zoo.config import (
    MODELS,
    ModelConfig,
    TrainingConfig,
    appendix_a,
)
from zoo.layers import Encoder
from zoo.models import create
from zoo.training import Training, error_rate, train

# ----------------------------------------------------------------------------------- seeds do not see each other


def after_20_steps(name, seeds, dtype):
    """A training in a precision of choice, on batches of 50 + 60."""
    data = replace(DIGITS, images=DIGITS.images.to(dtype))
    model = create(config_of(name), seeds).to(dtype)
    training = Training(replace(CONFIG, unlabelled_batch=60), model, seeds, data)
    step = training.step
    training.step = lambda batch, noise: step(batch, {key: value.to(dtype) for key, value in noise.items()})
    training.steps = 20
    training.run_epoch()
    return training


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [*[(name, torch.float64, 1e-11) for name in MODELS], *[(name, torch.float32, 5e-5) for name in MODELS[:3]]],
)
def test_a_seed_trains_alike_in_any_company(name, dtype, tolerance):
    """To rounding; in float64, where no rounding error grows large by moving a unit across the leaky ReLU's kink."""
    pair, *alone = (after_20_steps(name, seeds, dtype) for seeds in ([0, 1], [0], [1]))
    for index, single in enumerate(alone):
        for key, value in single.model.state_dict().items():
            together = pair.model.state_dict()[key][index]
            assert (together - value[0]).abs().max() <= tolerance * (1 + value.abs().max()), key
        for (key, one), two in zip(single.model.named_parameters(), pair.model.parameters(), strict=True):
            assert (two.grad[index] - one.grad[0]).norm() <= 10 * tolerance * one.grad.norm(), key  # Adam hides size
        rows = [row for row in pair.history if row[0] == single.seeds[0]]
        assert [row[:3] for row in rows] == [row[:3] for row in single.history]
        np.testing.assert_allclose([row[3] for row in rows], [row[3] for row in single.history], rtol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_seeds_differ_and_all_that_a_model_has_is_trained(name):
    """Else the test above would hold for a training that does nothing."""
    before, after = begin(name, [0, 1]).model.state_dict(), after_20_steps(name, [0, 1], torch.float32).model
    for key, trained in after.named_parameters():
        assert (trained[0] - trained[1]).abs().max() > 1e-3, key
        assert (trained - before[key]).abs().amax(tuple(range(1, trained.ndim))).min() > 1e-3, key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_seed_leaves_the_other_exactly_alone(name, value):
    healthy, half_diverged = begin(name, [0, 1]), begin(name, [0, 1])
    with torch.no_grad():
        half_diverged.model.encoder.weight[0][0] = value
    for training in (healthy, half_diverged):
        training.run_epoch()
        training.evaluate()
    wanted, found = state_of(healthy), state_of(half_diverged)
    for key in healthy.model.state_dict():
        assert torch.equal(wanted[key][1], found[key][1]), key
    assert not found["encoder.weight.1"][0].isfinite().any()
    assert [row for row in half_diverged.history if row[0] == 1] == [row for row in healthy.history if row[0] == 1]
    diverged = {name: number for seed, _, name, number in half_diverged.history if seed == 0}
    assert np.isnan(list(diverged.values())).all()
    assert {"test_error", "smoothness", "loss/cross_entropy"} <= diverged.keys()


# ------------------------------------------------------------------------------------------------- the optimiser


@pytest.mark.parametrize(("epochs", "decay_from"), [(4, 2), (5, 0), (3, 3)])
def test_learning_rate_is_constant_then_linear_to_zero(epochs, decay_from):
    training = begin("supervised", [0], replace(CONFIG, epochs=epochs, decay_from=decay_from, learning_rate=0.01))
    training.steps, used = 1, []
    for _ in range(epochs):
        training.run_epoch()
        used.append(training.optimizer.param_groups[0]["lr"])
    wanted = np.full(epochs, 0.01)
    wanted[decay_from:] = 0.01 * np.linspace(1, 0, epochs - decay_from + 1)[:-1]
    np.testing.assert_allclose(used, wanted, rtol=1e-12)


def test_full_schedule_of_the_paper():
    """250 epochs, 0.002, linear to zero from epoch 200: half of it after epoch 225, a fiftieth in the last."""
    config = replace(CONFIG, epochs=250, decay_from=200)
    found = [config.rate(epoch) for epoch in (0, 199, 200, 225, 249)]
    np.testing.assert_allclose(found, [0.002, 0.002, 0.002, 0.001, 0.00004], rtol=1e-12)


def test_three_steps_of_adam_against_numpy():
    """Kingma & Ba, Algorithm 1, with beta 0.9 and 0.999 and epsilon 1e-8, on the gradients that each step met."""
    training = begin("lvac-lw", [0, 1], replace(CONFIG, learning_rate=0.003))
    parameters = dict(training.model.named_parameters())
    start = {name: value.detach().double().numpy().copy() for name, value in parameters.items()}
    gradients, step = [], training.step

    def spy(batch, noise):
        terms = step(batch, noise)
        gradients.append({name: value.grad.double().numpy().copy() for name, value in parameters.items()})
        return terms

    training.step, training.steps = spy, 3
    training.run_epoch()
    for name, value in parameters.items():
        wanted, m, v = start[name], 0.0, 0.0
        for t, gradient in enumerate([g[name] for g in gradients], start=1):
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            wanted = wanted - 0.003 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert np.abs(wanted - start[name]).max() > 1e-3
        np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-5, atol=1e-6, err_msg=name)


# ------------------------------------------------------------------------------------- statistics at test time


@pytest.mark.parametrize(
    ("name", "statistics"),
    [
        *(("supervised", "labelled"), ("vat", "unlabelled"), ("ladder", "labelled"), ("lvan", "unlabelled")),
        *(("vat", "corrupted"), ("vat, noise on activations", "corrupted"), ("ladder", "corrupted")),
    ],
)
def test_running_statistics_are_bias_corrected_averages_of_passes(name, statistics):
    """Of t batches: sum of 0.99^(t - i) s_i over sum of 0.99^(t - i), with s_i of a NumPy pass: clean, or noisy."""
    name, behind = name.split(",")[0], "activations" in name
    network = RELEASED if behind else {}
    training, met, depth = begin(name, [0, 1], statistics=statistics, **network), [[], []], len(WIDTHS) - 1
    step = training.step

    def spy(batch, noise):
        state = {key: value.double().numpy().copy() for key, value in training.model.state_dict().items()}
        for seed in range(2):
            parameters = {"scale": state["encoder.scale"][seed, 0]}
            parameters |= {"noise_on_activation": np.float64(1)} if behind else {}
            for layer in range(1, depth + 1):
                parameters[f"weight_{layer}"] = state[f"encoder.weight.{layer - 1}"][seed]
                parameters[f"shift_{layer}"] = state[f"encoder.shift.{layer - 1}"][seed, 0]
                if behind and layer < depth:
                    parameters[f"scale_{layer}"] = state[f"encoder.hidden_scale.{layer - 1}"][seed, 0]
            group, extra = statistics, oracle.no_noise(parameters)
            if statistics == "corrupted":
                group, kind, sd = "labelled", *(("corruption", 0.3) if name == "ladder" else ("hidden", 0.5))
                names = [f"labelled/{kind}/{layer}" for layer in range(depth + 1)]
                extra = [sd * noise[each][seed].numpy() if each in noise else None for each in names]
            met[seed].append(oracle.encode(parameters, batch[group][seed].numpy(), extra).statistics)
        return step(batch, noise)

    training.step = spy
    training.run_epoch()
    weights = 0.99 ** np.arange(len(met[0]))[::-1]
    assert len(weights) == 6
    for seed in range(2):
        for layer, averages in enumerate(training.model.encoder.running_statistics(), start=1):
            for part, average in enumerate(averages):
                wanted = np.average([batch[layer][part] for batch in met[seed]], axis=0, weights=weights)
                np.testing.assert_allclose(average[seed, 0].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_running_statistics_forget_their_start_over_many_batches():
    encoder = Encoder((5, 24, 24), generators(0, 1))
    batches = np.random.default_rng(0).normal(3, 1, (300, 2, 1, 24)).astype(np.float32)
    for batch in batches:
        value = torch.from_numpy(batch)
        encoder.track([(value, value.square())] * 2)
    weights = 0.99 ** np.arange(300)[::-1]
    for found, values in ((encoder.mean_1, batches), (encoder.variance_1, batches.astype(np.float64) ** 2)):
        np.testing.assert_allclose(found.numpy(), np.average(values, axis=0, weights=weights), rtol=1e-5)


# ------------------------------------------------------------------------------------------------- measurements


@pytest.mark.parametrize("batch", [1, 37, 500, 1000])
def test_error_rate_against_a_loop(batch):
    training = begin("ladder", [0, 1, 2])
    training.run_epoch()
    images, labels = DIGITS.test_images[:200], DIGITS.test_labels[:200]
    logits = training.model(images).detach().numpy()
    wanted = [
        sum(int(row.argmax()) != int(label) for row, label in zip(of, labels, strict=True)) / 200 for of in logits
    ]
    found = error_rate(training.model, images, labels, batch)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    assert 0 < min(wanted) < max(wanted) < 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_error_of_a_seed_that_is_not_finite_is_nan_for_that_seed_alone(value):
    training = begin("ladder", [0, 1, 2])
    wanted = error_rate(training.model, DIGITS.test_images, DIGITS.test_labels)
    with torch.no_grad():
        training.model.encoder.shift[-1][1, 0, 3] = value
    found = error_rate(training.model, DIGITS.test_images, DIGITS.test_labels, batch=100)
    np.testing.assert_allclose(found.numpy(), [wanted[0], np.nan, wanted[2]], rtol=1e-12)


def test_measurements_are_made_when_they_are_due():
    config = replace(CONFIG, epochs=5, evaluate_every=2, smoothness_every=3)
    training = train(config_of("supervised"), config, [4, 7], DIGITS)
    met = {name: [row[:2] for row in training.history if row[2] == name] for name in ("test_error", "smoothness")}
    assert met["test_error"] == [(seed, epoch) for epoch in (2, 4, 5) for seed in (4, 7)]
    assert met["smoothness"] == [(seed, epoch) for epoch in (3, 5) for seed in (4, 7)]
    assert [row[1] for row in training.history if row[2] == "loss/cross_entropy"] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_recorded_losses_are_means_over_the_epochs_steps():
    training = begin("lvac-lw", [0, 1])
    step, met = training.step, []

    def spy(batch, noise):
        terms = step(batch, noise)
        met.append({name: value.detach().double().numpy().copy() for name, value in terms.items()})
        return terms

    training.step = spy
    training.run_epoch()
    for name in met[0]:
        found = [value for _, _, measure, value in training.history if measure == f"loss/{name}"]
        np.testing.assert_allclose(found, np.mean([terms[name] for terms in met], axis=0), rtol=1e-5)


# -------------------------------------------------------------------------------------------------------- MNIST


@pytest.mark.slow
@pytest.mark.mnist
def test_ladder_learns_mnist_from_100_labels_in_two_epochs(mnist):
    """Loose on purpose: plain PyTorch ladders reach about 3 % after 8 such epochs; chance is 90 %."""
    data, hyperparameters = mnist, appendix_a("ladder", 100)
    model = ModelConfig("ladder", (784, 1000, 500, 250, 250, 250, 10), hyperparameters)
    config = TrainingConfig("mnist", labels=100, labelled_batch=100, unlabelled_batch=100, epochs=2, decay_from=2)
    training = train(model, config, [0], data)
    assert training.steps == 600
    (error,) = [value for _, epoch, name, value in training.history if name == "test_error" and epoch == 2]
    assert error < 0.09


@pytest.mark.parametrize(
    ("seeds", "changes", "options", "said"),
    [
        ([0], {"unlabelled_batch": 5000}, {}, "unlabelled_batch = 5000 exceeds the 1297 images to train on"),
        ([0], {"unlabelled_batch": 5000, "epoch_updates": 3}, {}, "exceeds the 1297 images"),
        ([0], {"dataset": "mnist"}, {}, "dataset = 'mnist': the data given are 'digits'"),
        ([0], {"precision": "bfloat16"}, {"engine": "reference"}, "the reference engine knows float32 alone"),
        ([0], {}, {"engine": "fast"}, "unknown engine 'fast'"),
        ([], {}, {}, "seeds: expected one or more, each once, got []"),
        ([1, 1], {}, {}, "seeds: expected one or more, each once, got [1, 1]"),
        ([0], {}, {"widths": (64, 24, 12)}, "widths: expected 64 inputs and 10 classes, got [64, 24, 12]"),
        ([0], {}, {"widths": (784, 24, 10)}, "widths: expected 64 inputs and 10 classes, got [784, 24, 10]"),
    ],
)
def test_what_does_not_fit_together_is_refused(seeds, changes, options, said):
    with pytest.raises(zoo.BadInput) as error:
        begin("vat", seeds, replace(CONFIG, **changes), **options)
    assert said in str(error.value)
