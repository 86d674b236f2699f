"""Other test-time statistics, against float64 NumPy: of the labelled images, and of the batch itself."""

import math

import numpy as np
import oracle
import oracle_perturbation
import pandas as pd
import pytest
import torch
from running import AUDIT, records, stages, write_suite
from small_trainings import config_of
from synthetic import attacked, error
from test_losses import RELEASED, build, oracle_parameters

import zoo
from attacks.gradients import input_gradient
from benchmark import normalised
from reports import render
from reports.cells import RECORDS, checked
from reports.normalised import compared, tables
from zoo.checkpoints import load_checkpoint, of_seed, save_small
from zoo.config import plain
from zoo.models import create
from zoo.normalisation import BATCHES, InBatch, averaged_over, labelled_noise
from zoo.randomness import permutations, stream

pytestmark = pytest.mark.usefixtures("plain_pictures")

DIGITS = zoo.load_dataset("digits")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def single(name="lvan", **options):
    """A model without a seed axis, the oracle's names for its parameters, eight labelled images and twelve others."""
    model, batch, _ = build(name, seeds=(3,), **options)
    one = create(model.config).double()
    one.load_state_dict(of_seed(model.state_dict(), 0))
    return one.eval(), oracle_parameters(model, 0), batch.labelled[0], batch.unlabelled[0]


def by(parameters, x, of):
    """Logits of x normalised by the statistics of other images, each batch of those of the same weight."""
    clean = oracle.no_noise(parameters)
    return oracle.encode(parameters, x, clean, statistics=oracle.encode(parameters, of, clean).statistics).logits


# ------------------------------------------------------------------------------------------- the averages


def test_of_all_labelled_images_at_once():
    model, parameters, labelled, x = single()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = averaged_over(model, labelled, len(labelled), seed=7, noise=False)
    np.testing.assert_allclose(other(x).detach(), by(parameters, x.numpy(), labelled.numpy()), **CLOSE)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_of_batches_weighted_as_training_weighs_them():
    model, parameters, labelled, _ = single("supervised")
    other = averaged_over(model, labelled, 3, seed=7, noise=False)
    order = permutations(7, "statistics", 0, len(labelled), 3 * BATCHES).view(-1, 3)
    clean = oracle.no_noise(parameters)
    found = [oracle.encode(parameters, labelled[rows].numpy(), clean).statistics for rows in order]
    weights = 0.99 ** np.arange(BATCHES)[::-1]
    for layer, running in enumerate(other.encoder.running_statistics(), start=1):
        for k, average in enumerate(running):
            expected = np.average([each[layer][k] for each in found], axis=0, weights=weights)
            np.testing.assert_allclose(average[0], expected, **CLOSE)


def test_of_the_corrupted_path():
    """Of eight equal images a projection varies by the noise of the input alone: sd 0.3, unbiased 8/7 of the mean."""
    model, parameters, labelled, _ = single("ladder")
    alike = labelled[:1].expand(8, -1)
    mean, variance = averaged_over(model, alike, 8, seed=1, noise=True).encoder.running_statistics()[0]
    projected = alike[0].numpy() @ parameters["weight_1"]
    length = np.square(parameters["weight_1"]).sum(0)
    np.testing.assert_allclose(variance[0], 7 / 8 * 0.3**2 * length, rtol=0.2)
    assert np.abs(mean[0].numpy() - projected).max() < 0.1 * np.sqrt(length.max())
    clean = averaged_over(model, alike, 8, seed=1, noise=False).encoder.running_statistics()[0]
    np.testing.assert_allclose(clean[1], 0, atol=1e-12)


def test_of_the_baselines_own_noise():
    """Noise of hidden layers leaves the first projection alone; of eight equal images the second varies by it."""
    model, parameters, labelled, _ = single("supervised")
    alike = labelled[:1].expand(8, -1)
    (_, first), (_, second), *_ = averaged_over(model, alike, 8, seed=1, noise=True).encoder.running_statistics()
    np.testing.assert_allclose(first[0], 0, atol=1e-12)
    assert (second > 0.01).all()
    sd, slope = model.config.hidden_sd, model.config.leaky_slope
    shift = parameters["shift_1"]
    draws = np.random.default_rng(0).normal(size=(20_000, len(shift)))
    h = oracle.leaky_relu(sd * draws + shift, slope)
    np.testing.assert_allclose(second[0], 7 / 8 * (h @ parameters["weight_2"]).var(0), rtol=0.2)


# ---------------------------------------------------------------------------------------- the batch's own


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_cost_where_statistics_move_with_the_batch(iterations):
    model, parameters, _, x = single("vat")
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    clean = oracle.no_noise(parameters)
    r = oracle_perturbation.perturbation(parameters, x.numpy(), 0, clean, direction.numpy(), 0.7, iterations)
    path = oracle.encode(parameters, x.numpy(), clean)
    expected = oracle_perturbation.virtual_adversarial_each(parameters, path, 0, clean, r)
    np.testing.assert_allclose(model.costs(x, direction, 0.7, iterations, in_batch=True), expected, rtol=1e-6)
    assert not np.allclose(model.costs(x, direction, 0.7, iterations), expected, rtol=0.01)


def test_gradient_of_an_image_through_its_neighbours():
    """Of the summed cross-entropy at the model's own predictions: J' (p - h), J over the whole batch."""
    model, parameters, _, x = single("ladder")
    clean = oracle.no_noise(parameters)
    logits = oracle.encode(parameters, x.numpy(), clean).logits
    slope = oracle.softmax(logits) - np.eye(logits.shape[1])[logits.argmax(1)]
    expected = np.einsum("ncmi,nc->mi", oracle_perturbation.jacobian(parameters, x.numpy(), 0, clean), slope)
    found = input_gradient(InBatch(model), x, None).gradient
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", [{}, RELEASED])
def test_noise_of_training_is_drawn_anew_in_every_pass(options):
    model, parameters, _, x = single("vat", **options)
    noisy, same = InBatch(model, torch.Generator().manual_seed(4)), torch.Generator().manual_seed(4)
    for _ in range(2):
        drawn = {name: value.numpy() for name, value in labelled_noise(model, len(x), same).items()}
        scaled = [drawn.get(f"labelled/hidden/{layer}") for layer in range(oracle.depth(parameters) + 1)]
        scaled = [None if noise is None else model.config.hidden_sd * noise for noise in scaled]
        assert [noise is None for noise in scaled] == [True, False, False, False, True]
        expected = oracle.encode(parameters, x.numpy(), scaled).logits
        np.testing.assert_allclose(noisy(x).detach(), expected, **CLOSE)


# ----------------------------------------------------------------------------------------------- a run


OTHER = ("eps = [0.1]\n", "eps = [0.1]\nother_statistics = true\n")


@pytest.mark.parametrize("name", ["ladder", "lvan"])
def test_an_encoder_alone_has_no_training_pass(tmp_path, name):
    """A small checkpoint is no ladder: its noisy pass would be another than the corrupted path."""
    whole, images = create(config_of(name)), DIGITS.images[:8]
    whole.card = {"model": plain(whole.config)}
    save_small(tmp_path / "small", whole)
    small = load_checkpoint(tmp_path / "small")
    assert averaged_over(small, images, 8, 3, noise=False)(images).isfinite().all()
    for noisy in (
        lambda: averaged_over(small, images, 8, 3, noise=True),
        lambda: InBatch(small, stream(3, "any", 0))(images),
    ):
        with pytest.raises(zoo.BadInput, match=f"small checkpoint of '{name}' has no training pass"):
            noisy()


def test_a_finished_run_gets_them_without_training_anew(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ("run", "--suite", write_suite(tmp_path), "--out", "run")
    assert call(*typed)[0] == 0
    before = {name: records(tmp_path / "run/cells" / name) for name in ("vat-50", "ladder-50")}
    write_suite(tmp_path, OTHER)
    code, lines, _ = call(*typed, "--dry-run")
    assert code == 0
    assert sum("to attack" in line for line in lines) == 2
    assert call(*typed)[0] == 0
    for name, old in before.items():
        folder = tmp_path / "run/cells" / name
        assert [stage for stage, _ in stages(folder)] == ["training", "attack", "statistics"]
        new = records(folder)
        kept = new[~new["attack"].str.startswith("statistics/")].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, old)
    assert call(*typed)[1][0].endswith("nothing to do")
    write_suite(tmp_path, AUDIT, OTHER)
    assert call("attack", *typed[1:])[0] == 0
    after = records(tmp_path / "run/cells/vat-50")
    assert after["attack"].str.startswith("statistics/").sum() == 2 * (4 * 3 + 4)  # an audit leaves them


def test_what_a_run_records(tmp_path, call):
    """Each figure of a checkpoint computed anew, in float64 NumPy where it is no attack's."""
    name = write_suite(tmp_path, OTHER)
    assert call("run", "--suite", name, "--models", "vat", "--out", str(tmp_path / "run"))[0] == 0
    folder = tmp_path / "run/cells/vat-50"
    found = records(folder).set_index(["seed", "measure", "attack", "norm"])["value"]
    history = pd.read_csv(folder / "history.csv")
    x, y = DIGITS.test_images.double().numpy(), DIGITS.test_labels.numpy()
    for seed in (0, 1):
        model = load_checkpoint(folder / f"seed-{seed}.safetensors")
        parameters = of_checkpoint(model)
        own = history[(history["seed"] == seed) & (history["measure"] == "smoothness")]["value"].iloc[-1]
        assert found[seed, "virtual_adversarial_cost", "statistics/own", "L2"] == own
        _, subsets, _ = zoo.data.divided(DIGITS, 50, 0, [seed])
        logits = by(parameters, x, DIGITS.images[subsets[0]].double().numpy())
        errors = (logits.argmax(1) != y).mean()
        (recorded,) = found[seed, "clean_error", "statistics/labelled"]
        assert recorded == pytest.approx(errors, abs=1 / len(y))
        parts = [slice(at, at + normalised.BATCH) for at in range(0, len(x), normalised.BATCH)]
        clean = oracle.no_noise(parameters)
        wrong = [oracle.encode(parameters, x[part], clean).logits.argmax(1) != y[part] for part in parts]
        (recorded,) = found[seed, "clean_error", "statistics/batch"]
        assert recorded == pytest.approx(np.concatenate(wrong).mean(), abs=1 / len(y))
        for kind in ("labelled", "corrupted", "batch", "training"):
            (clean_error,) = found[seed, "clean_error", f"statistics/{kind}"]
            assert found[seed, "attacked_error", f"statistics/{kind}", "Linf"] > clean_error


@pytest.mark.parametrize("own", ["labelled", "corrupted"])
def test_a_model_of_labelled_averages_is_tried_by_the_others(tmp_path, call, own):
    labelled = ("power_iterations = 1\n", f'power_iterations = 1\nstatistics = "{own}"\n')
    name = write_suite(tmp_path, OTHER, labelled)
    assert call("run", "--suite", name, "--models", "vat", "--out", str(tmp_path / "run"))[0] == 0
    folder = tmp_path / "run/cells/vat-50"
    found = records(folder).set_index(["seed", "measure", "attack"])["value"]
    kinds = {attack for *_, attack in found.index if attack.startswith("statistics/")}
    (other,) = {"labelled", "corrupted"} - {own}
    assert kinds == {f"statistics/{kind}" for kind in ("own", "unlabelled", other, "batch", "training")}
    model = load_checkpoint(folder / "seed-0.safetensors")
    other = averaged_over(model, DIGITS.images, 200, 0, noise=False)
    error_rate = (other(DIGITS.test_images).argmax(1) != DIGITS.test_labels).double().mean()
    assert found[0, "clean_error", "statistics/unlabelled"].item() == error_rate
    assert call("run", "--suite", name, "--models", "vat", "--out", str(tmp_path / "run"))[1][0].endswith("to do")


def of_checkpoint(model):
    """The oracle's names for the parameters of a checkpoint."""
    encoder = model.encoder
    found = {"scale": encoder.scale[0].double().numpy(), "leaky_slope": np.float64(model.config.leaky_slope)}
    for layer, (weight, shift) in enumerate(zip(encoder.weight, encoder.shift, strict=True), start=1):
        found |= {f"weight_{layer}": weight.double().numpy(), f"shift_{layer}": shift[0].double().numpy()}
    return found


# -------------------------------------------------------------------------------------------- the report


def tried(kind, seed, value, norm="", eps=math.nan, measure="attacked_error"):
    return attacked("vat", seed, value, norm, eps, attack=f"statistics/{kind}", measure=measure)


ROWS = [error("vat", seed, 0.1 + 0.02 * seed) for seed in (0, 1)]
ROWS += [attacked("vat", seed, 0.5, "Linf", eps) for seed in (0, 1) for eps in (0.2, 0.3)]
ROWS += [error("ladder", 0, 0.7), attacked("ladder", 0, 0.7, "Linf", 0.3)]  # no other statistics: no row
for own_seed in (0, 1):
    ROWS += [tried("labelled", own_seed, 0.2, measure="clean_error"), tried("labelled", own_seed, 0.3, "Linf", 0.3)]
    ROWS += [tried("batch", own_seed, 0.04, measure="clean_error")]
    ROWS += [
        tried(kind, own_seed, cost + own_seed, "L2", 5.0, "virtual_adversarial_cost")
        for kind, cost in (("own", 20), ("labelled", 3), ("batch", 0.25))
    ]


def test_table_by_hand():
    found = compared(checked(pd.DataFrame(ROWS), RECORDS, ""))
    assert set(found["model"]) == {"vat"}
    (table,) = tables(found)
    assert table.name == "statistics-digits-50"
    assert table.rows() == [
        ["model", "statistics", "clean", "Linf 0.3", "cost, eps 5"],
        ["vat", "own averages", "11.00 ± 1.41", "50.00 ± 0.00", "20.50 ± 0.71"],
        ["vat", "labelled images", "20.00 ± 0.00", "30.00 ± 0.00", "3.50 ± 0.71"],
        ["vat", "each batch's own", "4.00 ± 0.00", "-", "0.75 ± 0.71"],
    ]


def test_report_without_any():
    files = render(pd.DataFrame(ROWS[:6]), pd.DataFrame(), pd.DataFrame(), {})
    assert "statistics.csv" not in files
    assert "statistics.csv" in render(pd.DataFrame(ROWS), pd.DataFrame(), pd.DataFrame(), {})
