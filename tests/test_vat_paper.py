"""The VAT paper's own: closed forms of its perturbations, equation 21, schedules and what is held out."""

from dataclasses import replace

import numpy as np
import oracle_vat
import pytest
import torch
from small_trainings import CONFIG, DIGITS, begin

from zoo.classifier import Batch
from zoo.config import ADVERSARIAL, FIXED, Hyperparameters, ModelConfig, TrainingConfig
from zoo.data import held_out, labelled_subset
from zoo.deviation import deviations, flat, normalised_deviation
from zoo.models import create
from zoo.perturbation import Linearised

EPS, INPUTS = 0.25, 30
GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(INPUTS, 2, generator=GENERATOR, dtype=torch.float64)
APART = WEIGHT[:, 1] - WEIGHT[:, 0]  # what moves the margin of class 1 over class 0


def linear(name, **options):
    """A model whose encoder is softmax regression with two classes."""
    config = ModelConfig(name, (INPUTS, 3, 2), Hyperparameters(eps=(EPS,)), **options | FIXED.get(name, {}))
    model = create(config, [0])
    weight = WEIGHT.clone()

    def linearise(x, **_):
        w = weight.to(x.dtype)
        return Linearised(x @ w, lambda d: d @ w, lambda v: v @ w.mT)

    model.encoder.linearise = linearise
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_perturbations_of_a_linear_model(name, dtype):
    """Equations 3 and 4: away from the label along w; the margin falls by exactly eps times the dual norm of w.

    Inputs are 3 times a pixel's range: there p(label) rounds to 1 in float32, and the step must not fail.
    """
    x = (3 * torch.randn(1, 40, INPUTS, generator=GENERATOR)).to(dtype)
    labels = torch.arange(40)[None] % 2
    model = linear(name)
    noise = model.hidden_noise({"labelled/hidden/1": torch.zeros(1, 40, 3)}, "labelled")
    r = model.perturbation(Batch(x, labels, x), noise).double()
    sign = 1.0 - 2.0 * labels[..., None]
    wanted = EPS * sign * (APART / APART.norm() if name == "adversarial-l2" else APART.sign())
    torch.testing.assert_close(r, wanted, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)
    dual = APART.norm() if name == "adversarial-l2" else APART.abs().sum()
    margins = r @ APART * sign[..., 0]
    torch.testing.assert_close(margins, torch.full_like(margins, EPS * dual.item()), rtol=1e-5, atol=0)


def test_random_perturbations_are_uniform_on_the_sphere_and_virtual_ones_are_not():
    """Equation 16. On a linear model E (w r)^2 = eps^2 |w|^2 / inputs with K = 0; one iteration gives all of it."""
    n = 20_000
    x = 0.1 * torch.randn(1, n, INPUTS, generator=GENERATOR, dtype=torch.float64)
    start = torch.randn(1, n, INPUTS, generator=GENERATOR, dtype=torch.float64)
    noise = {"unlabelled/direction/0": start, "unlabelled/find/0/hidden/1": torch.zeros(1, n, 3)}
    r = linear("rpt").perturbation(0, x, noise, "unlabelled")
    torch.testing.assert_close(r, EPS * start / start.norm(dim=-1, keepdim=True), rtol=1e-12, atol=0)
    share = (r @ APART).square() / (EPS * APART.norm()).square()  # squared cosine: Beta(1/2, (inputs - 1) / 2)
    error = (2 * (INPUTS - 1) / (INPUTS**2 * (INPUTS + 2)) / n) ** 0.5
    assert abs(share.mean().item() - 1 / INPUTS) < 4 * error
    assert abs(r.mean()) < 4 * EPS / (INPUTS * n * INPUTS) ** 0.5
    virtual = linear("vat", power_iterations=1).perturbation(0, x, noise, "unlabelled")
    torch.testing.assert_close((virtual @ APART).abs(), torch.full_like(share, EPS * APART.norm()), rtol=1e-9, atol=0)


def test_a_name_says_what_it_is():
    for name, fields in FIXED.items():
        for field, value in fields.items():
            other = {"statistics": "unlabelled", "norm": "L2", "power_iterations": 2, "perturbations": 3}[field]
            other = "Linf" if value == "L2" else other
            eps = () if name == "supervised" else (1.0,)
            with pytest.raises(ValueError, match=f"{field} of '{name}': expected {value!r}, got {other!r}"):
                ModelConfig(name, (9, 8, 7), Hyperparameters(eps=eps), **fields | {field: other})
    with pytest.raises(ValueError, match="alpha has no meaning for model 'lvan'"):
        ModelConfig("lvan", (9, 8, 7), Hyperparameters((1.0,), (1.0,), alpha=0.5))


# -------------------------------------------------------------------------------------------------- equation 21


def test_equation_21_against_a_numpy_loop():
    draws = 3 + 10 * torch.randn(25, 2, 40, generator=GENERATOR, dtype=torch.float64)
    found = normalised_deviation(draws)
    wanted = [oracle_vat.normalised_deviation(draws[:, seed].numpy()) for seed in range(2)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    assert normalised_deviation(draws[:1].expand(5, 2, 40)).abs().max() < 1e-7, "draws that are alike do not deviate"


@pytest.mark.parametrize("perturbed", ["unlabelled", "labelled"])
def test_deviations_in_training_are_of_the_regularisers_own_gradients(perturbed):
    """Batches and noise as `deviations` drew them; gradients by differences of the loss; K = 0 and 1 as in RPT, VAT."""
    training = begin("vat", [0, 1], perturbed=perturbed, widths=(64, 6, 10))
    generators, met = [torch.Generator().manual_seed(seed) for seed in (5, 6)], []

    def remembered():
        met.append(training.random_batch(generators))
        return met[-1]

    found = deviations(training.model, remembered, draws=4)
    state = [value.clone() for value in training.model.state_dict().values()]
    for number, (name, iterations) in enumerate((("rpt", 0), ("vat", 1))):
        other = begin(name, [0, 1], perturbed=perturbed, widths=(64, 6, 10), power_iterations=iterations).model
        other.load_state_dict(training.model.state_dict())
        parameters = list(other.encoder.parameters())
        gradients = torch.stack([flat(other, parameters, *draw) for draw in met[4 * number : 4 * number + 4]])
        wanted = [oracle_vat.normalised_deviation(gradients[:, seed].numpy()) for seed in range(2)]
        np.testing.assert_allclose(found[iterations].numpy(), wanted, rtol=1e-4)
    assert (found[0] != found[1]).all()
    assert all(torch.equal(*pair) for pair in zip(state, training.model.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("name", "xi", "there"), [("vat", None, 2), ("rpt", None, 2), ("rpt", 0.01, 2), ("supervised", None, 0)]
)
def test_deviations_are_recorded_of_vat_and_rpt_alone(name, xi, there):
    training = begin(name, [0], replace(CONFIG, deviation_every=4, epochs=4), widths=(64, 6, 10), xi=xi)
    training.epoch = 4
    training.evaluate()
    rows = [row for row in training.history if row[2].startswith("gradient_deviation/")]
    assert len(rows) == there
    assert all(row[3] > 0 for row in rows)


# ---------------------------------------------------------------------------------------- schedule, validation


def test_appendix_a_decays_by_0_9_every_600_updates():
    config = TrainingConfig("mnist", 60_000, 100, 100, 100, 0, decay="exponential", epoch_updates=600)
    used = [config.rate(epoch) for epoch in (0, 1, 10, 99)]
    np.testing.assert_allclose(used, [0.002, 0.0018, 0.002 * 0.9**10, 0.002 * 0.9**99], rtol=1e-12)
    assert config.epochs * config.updates(60_000) == 60_000


def test_appendix_c_decays_linearly_after_half_of_100_000_updates():
    config = TrainingConfig("mnist", 100, 64, 256, 400, 200, epoch_updates=250, validation=1000)
    assert [config.rate(epoch) for epoch in (0, 199, 300)] == [0.002, 0.002, 0.001]
    assert (config.epochs * config.updates(60_000), config.decay_from * config.updates(60_000)) == (100_000, 50_000)
    assert replace(config, epoch_updates=None).updates(60_000) == 59_000 // 256


def test_held_out_images_are_never_trained_on_and_give_the_validation_error():
    """Every index that a step meets in epochs longer than the images; the error by a loop."""
    config = replace(CONFIG, validation=900, epoch_updates=9, unlabelled_batch=60, labels=30, labelled_batch=20)
    training = begin("vat", [0, 7], config)
    trained_on, validation = held_out(len(DIGITS.images), 900)
    assert sorted([*trained_on.tolist(), *validation.tolist()]) == list(range(len(DIGITS.images)))
    met, step = {"labelled": [], "unlabelled": []}, training.step

    def spy(batch, noise):
        for name, indices in training.chosen.items():
            met[name].append(indices.clone())
            assert torch.equal(batch[name], DIGITS.images[indices])
        assert torch.equal(batch.labels, DIGITS.labels[training.chosen["labelled"]])
        return step(batch, noise)

    training.step = spy
    training.run_epoch()
    training.evaluate()
    assert len(met["unlabelled"]) == 9
    for index in range(2):
        seen = {name: torch.cat([each[index] for each in indices]) for name, indices in met.items()}
        assert set(seen["unlabelled"].tolist()) == set(trained_on.tolist())
        assert len(set(seen["labelled"].tolist())) == 30
        assert set(seen["labelled"].tolist()) <= set(trained_on.tolist())
        assert (DIGITS.labels[seen["labelled"].unique()].bincount() == 3).all()
    wrong = [row[3] for row in training.history if row[2] == "validation_error"]
    logits = training.model(DIGITS.images[validation])
    labels = DIGITS.labels[validation].tolist()
    loop = [sum(a != b for a, b in zip(of, labels, strict=True)) / 900 for of in logits.argmax(-1).tolist()]
    np.testing.assert_allclose(wrong, loop, rtol=1e-12)


def test_all_labels_are_all_labels():
    """60,000 of 60,000 are not balanced."""
    assert torch.equal(labelled_subset(DIGITS.labels, len(DIGITS.labels), 10, 3), torch.arange(len(DIGITS.labels)))
