"""tune: chooses by the validation error alone, never sees a test image, measures nothing twice."""

import pandas as pd
import pytest
import torch
from running import TINY, fails

from benchmark import tune as module
from benchmark.plan import plan
from benchmark.suite import load_suite
from benchmark.tune import with_any_eps, with_budget
from zoo.data import held_out, load_dataset

SUITE = TINY.replace('models = ["ladder", "vat"]', 'models = ["supervised", "rpt", "vat"]').replace(
    "[training]", "[ranges]\nrpt = [0.1, 4.0]\nvat = [0.1, 4.0]\n[training]"
)
OPTIONS = ("--suite", "tiny.toml", "--out", "run", "--validation", "300", "--updates", "12", "--seeds", "0,1")


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """The tiny suite in the working directory, with ranges instead of most values."""
    (tmp_path / "tiny.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_choice_is_the_lowest_validation_error_and_no_test_image_is_seen(suite, call, monkeypatch):
    data, met, train = load_dataset("digits"), [], module.train
    rest, held = held_out(len(data.images), 300)

    def spy(model, config, seeds, given, **options):
        met.append((model, config, list(seeds)))
        assert torch.equal(given.images, data.images[rest])
        assert torch.equal(given.test_images, data.images[held])
        assert torch.equal(given.test_labels, data.labels[held])
        return train(model, config, seeds, given, **options)

    monkeypatch.setattr(module, "train", spy)
    assert call("tune", *OPTIONS, "--count", "3")[0] == 0
    assert [(model.name, model.eps()[0]) for model, _, _ in met] == [
        (name, eps) for name in ("rpt", "vat") for eps in (0.1, 0.632, 4.0)
    ]
    assert all(config.epochs * config.epoch_updates == 12 for _, config, _ in met)
    table = pd.read_csv(suite / "run/tuning/tuning.csv")
    assert set(table["updates"]) == {12}
    errors = table[table["measure"] == "validation_error"].groupby(["model", "eps"])["value"].mean()
    chosen = load_suite("run/tuning/tiny.toml")
    for cell in plan(chosen, "tiny", models=["rpt", "vat"]):
        assert cell.model.eps()[0] == errors[cell.model.name].idxmin()
    assert call("tune", *OPTIONS, "--count", "3")[0] == 0
    assert len(met) == 6, "what is measured is not measured again"
    assert (
        call("tune", *OPTIONS, "--models", "vat", "--eps", "0.5", "--power-iterations", "0,2", "--alpha", "1,2")[0] == 0
    )
    swept = [(m.power_iterations, m.hyperparameters.alpha, c.smoothness_iterations) for m, c, _ in met[6:]]
    assert swept == [(0, 1, 0), (2, 1, 2), (0, 2, 0), (2, 2, 2)]


def test_a_table_of_another_configuration_is_not_reported(suite, call):
    assert call("tune", *OPTIONS, "--models", "vat", "--eps", "0.5,1")[0] == 0
    typed = ("report", "--suite", "run/tuning/tiny.toml", "--out", "run")
    assert call(*typed)[0] == 0
    path = suite / "run/tuning/config.json"
    path.write_text(path.read_text().replace('"training.learning_rate": 0.002', '"training.learning_rate": 0.5'))
    fails(call(*typed), "run/tuning/config.json: vat-50: training.learning_rate was 0.5 and is 0.002")


def test_a_suite_is_refused_until_it_is_tuned(suite, call):
    said = ("'rpt' at 50 labels", "add [hyperparameters.rpt]", "tune --suite tiny.toml")
    fails(call("run", "--suite", "tiny.toml", "--out", "run"), *said)
    assert call("tune", *OPTIONS, "--count", "2")[0] == 0
    assert call("run", "--suite", "run/tuning/tiny.toml", "--out", "run", "--models", "rpt")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--validation", "1297"), ("1297 validation images of 1297", "--validation")),
        (("--models", "supervised"), ("no model with an eps",)),
        (("--models", "vatt"), ("did you mean 'vat'",)),
        (("--eps", "a"), ("--eps", "expected finite numbers from 0 up, at most 1e+30, separated by commas")),
    ],
)
def test_what_cannot_be_tuned_is_told(suite, call, options, said):
    fails(call("tune", "--suite", "tiny.toml", "--out", "run", *options), *said)


def test_a_budget_shortens_the_schedule_in_proportion():
    (semi,) = plan(with_any_eps(load_suite("vat-semi")), "vat-semi", models=["vat"], labels=[100])
    whole, short = (with_budget(semi.training, 59_000, updates) for updates in (None, 4000))
    assert (whole.epochs, whole.updates(59_000), whole.decay_from) == (400, 250, 200)
    assert (short.epochs, short.updates(59_000), short.decay_from) == (400, 10, 200)
    assert (short.validation, short.labels) == (0, 100)
    tiny = with_budget(semi.training, 59_000, 20)
    assert (tiny.epochs, tiny.updates(59_000), tiny.decay_from) == (20, 1, 10)
