"""tune: what is typed wrong, what is not to be compared, two at once."""

import json
import threading
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from running import ROOT, TINY, fails

from benchmark import tune as module
from benchmark.plan import plan
from benchmark.store import merge, read_table
from benchmark.suite import load_suite
from reports.cells import TUNING
from reports.tuned import means
from zoo.config import Hyperparameters, appendix_a
from zoo.data import load_dataset

SUITE = TINY.replace("[training]", "[ranges]\nvat = [0.1, 4.0]\n[training]")
TUNE = ("tune", "--suite", "tiny.toml", "--out", "run")
OPTIONS = (*TUNE, "--models", "vat", "--eps", "0.5,1", "--updates", "4", "--validation", "100")


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A path to the suite, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def trained(monkeypatch):
    """The eps of each training that was asked for; none is made, its error is eps / 10."""
    met = []

    def instead(model, config, seeds, data, **options):
        (eps,) = model.hyperparameters.eps
        met.append(eps)
        rows = [(seed, config.epochs, name, eps / 10) for seed in seeds for name in ("test_error", "smoothness")]
        return SimpleNamespace(history=rows)

    monkeypatch.setattr(module, "train", instead)
    return met


def change(path, *changes):
    """Exchange (old, new) pieces of the suite's text."""
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


# --------------------------------------------------------------------------------------------------- two at once


def test_two_at_once_lose_nothing(suite, trained, monkeypatch):
    def slow(*arguments):
        time.sleep(0.1)  # between reading and writing: the moment when another's rows were lost
        return merge(*arguments)

    monkeypatch.setattr(module, "merge", slow)
    tunable = module.with_any_eps(load_suite("tiny.toml"))
    (cell,) = plan(tunable, "tiny.toml", models=["vat"], seeds=[0])
    data = module.without_test(load_dataset("digits"), 100)
    budgeted = module.with_budget(cell.training, len(data.images), 4)
    table = suite.parent / "run/tuning/tuning.csv"
    eps = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    halves = [list(module.candidates(cell, budgeted, own, (1.0,), ())) for own in (eps[::2], eps[1::2])]

    def work(own):
        for candidate in own:
            module.measure(candidate, [0], data, table, "eager")

    threads = [threading.Thread(target=work, args=(own,)) for own in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(read_table(table, TUNING)["eps"])) == eps
    assert len(json.loads((table.parent / "provenance.json").read_text())["stages"]) == 6
    assert {path.name for path in table.parent.iterdir()} == {"tuning.csv", "provenance.json", "config.json"}


def test_what_another_measured_meanwhile_by_another_configuration_is_not_mixed_in(suite, trained, call, monkeypatch):
    instead = module.train

    def meanwhile(*arguments, **options):
        (suite.parent / "run/tuning").mkdir(parents=True, exist_ok=True)
        (suite.parent / "run/tuning/config.json").write_text('{"vat-50": {"training.precision": "tf32"}}')
        return instead(*arguments, **options)

    monkeypatch.setattr(module, "train", meanwhile)
    fails(call(*OPTIONS), "run/tuning/config.json", "vat-50")
    assert not (suite.parent / "run/tuning/tuning.csv").exists()


# ------------------------------------------------------------------------------------ what may not be compared


OTHERWISE = {
    "a learning rate": ([("[training]", "[training]\nlearning_rate = 0.01")], "training.learning_rate was 0.002 and"),
    "noise": ([("[model]", "[model]\nhidden_sd = 0.1")], "model.hidden_sd was 0.5 and is 0.1"),
    "a field that came later": ([("[model]", "[model]\nleaky_slope = 0")], "model.leaky_slope was 0.1 and is 0.0"),
    "widths": ([("[20, 15, 10]", "[20, 16, 10]")], "model.widths was [64, 20, 15, 10] and is [64, 20, 16, 10]"),
    "batches": ([("labelled_batch = 50", "labelled_batch = 25")], "training.labelled_batch was 50 and is 25"),
    "a schedule": ([("decay_from = 1", "decay_from = 2")], "training.decay_from was 1 and is 2"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_another_configuration_is_refused_in_the_same_folder(suite, trained, call, case):
    changes, said = OTHERWISE[case]
    assert call(*OPTIONS)[0] == 0
    before = (suite.parent / "run/tuning/tuning.csv").read_bytes()
    change(suite, *changes)
    for models in ("vat", "ladder,vat"):
        fails(call(*OPTIONS, "--models", models), "run/tuning/config.json", f"vat-50: {said}", "choose another --out")
    assert len(trained) == 2
    assert (suite.parent / "run/tuning/tuning.csv").read_bytes() == before


def test_another_precision_is_refused_in_the_same_folder(suite, trained, call):
    assert call(*OPTIONS)[0] == 0
    fails(call(*OPTIONS, "--precision", "bfloat16"), "training.precision was 'float32' and is 'bfloat16'")


def test_what_changes_no_candidate_is_no_other_configuration(suite, trained, call):
    assert call(*OPTIONS)[0] == 0
    measured = "[training]\nevaluate_every = 2\nsmoothness_every = 2\nvalidation = 200\ntrain_images = 10"
    change(suite, ("eps = [1.0]", "eps = [2.0]\nalpha = 2"), ("power_iterations = 1", "power_iterations = [1, 2]"))
    change(suite, ("[training]", measured), ("seeds = [0, 1]", "seeds = [7]"))
    assert call(*OPTIONS)[0] == 0
    assert call(*OPTIONS, "--updates", "8")[0] == 0
    assert trained == [0.5, 1.0, 0.5, 1.0]


def test_a_folder_of_earlier_days_is_taken_as_it_is(suite, trained, call):
    assert call(*OPTIONS)[0] == 0
    (suite.parent / "run/tuning/config.json").unlink()
    assert call(*OPTIONS)[0] == 0
    assert len(trained) == 2
    (suite.parent / "run/tuning/config.json").write_text('{"vat-50": 3}')
    fails(call(*OPTIONS), "run/tuning/config.json", "no configuration of vat-50")


def test_other_numbers_of_held_out_images_stand_apart(suite, trained, call, plain_pictures):
    assert call(*OPTIONS)[0] == 0
    assert call(*OPTIONS, "--validation", "200", "--eps", "1,2")[0] == 0
    _, out, _ = call(*OPTIONS)
    assert trained == [0.5, 1.0, 1.0, 2.0], "what is measured is not measured again"
    assert "vat-50: eps 1, alpha 1, K 1: validation error 10.00 % of 200 images, 4 updates, 1 seed(s)" in out
    table = pd.read_csv(suite.parent / "run/tuning/tuning.csv")
    errors = table[table["measure"] == "validation_error"]
    assert errors[["eps", "n"]].values.tolist() == [[0.5, 100], [1, 100], [1, 200], [2, 200]]
    found = means(table.astype(TUNING))
    assert found[found["measure"] == "validation_error"][["eps", "n"]].values.tolist() == [[1, 1], [2, 1]]
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0


@pytest.mark.parametrize("run", ["vat-quick", "vat-figures"])
def test_published_tuning_is_read_whole(run):
    table = read_table(ROOT / "published" / run / "tuning/tuning.csv", TUNING)
    assert len(merge(table, [], TUNING)) == len(table) > 0
    assert len(means(table)) > 0


# --------------------------------------------------------------------------------------------- what is typed wrong


NO_SIZES = [(option, value) for option in ("--eps", "--alpha") for value in ("-1", "nan", "inf")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *((size, (size[0], "finite numbers from 0 up", f"got {size[1]!r}")) for size in NO_SIZES),
        (("--power-iterations", "-1"), ("--power-iterations", "from 0 to 1000")),
        (("--power-iterations", "100000"), ("--power-iterations", "from 0 to 1000")),
        (("--validation", "1296"), ("1296 validation images of 1297 leave 1,", "vat-50 needs 200", "--validation")),
        (("--validation", "1200"), ("1200 validation images of 1297 leave 97,", "vat-50 needs 200")),
        (("--engine-mode", "reference", "--precision", "bfloat16"), ("reference is float32", "vat-50", "bfloat16")),
    ],
)
def test_what_no_candidate_can_have_is_told_before_any_is_trained(suite, trained, call, options, said):
    fails(call(*OPTIONS, *options), *said)
    assert trained == []
    assert not (suite.parent / "run").exists()


def test_the_suites_own_updates_are_counted_on_what_is_not_held_out(suite, trained, call):
    fails(call(*TUNE, "--models", "vat", "--validation", "1200"), "1200 validation images of 1297", "--validation")
    change(suite, ("unlabelled_batch = 200", "unlabelled_batch = 90"), ("epochs = 2", "epochs = 2\nvalidation = 1290"))
    assert call(*TUNE, "--models", "vat", "--validation", "1200")[0] == 0
    assert set(pd.read_csv(suite.parent / "run/tuning/tuning.csv")["updates"]) == {2}


def test_more_labels_than_are_left_are_refused(suite, trained, call):
    change(suite, ("[labels.50]", "[labels.1100]"), ('"ladder", ', ""))
    fails(call(*OPTIONS, "--validation", "300"), "leave 997, but vat-1100 needs 1100")


def test_all_labels_are_all_that_are_left(suite, trained, call):
    change(suite, ('dataset = "digits"', 'dataset = "moons"'), ("15, 10]", "15, 2]"), ('"ladder", ', ""))
    change(suite, ("[labels.50]", "[labels.1000]"))
    assert call(*OPTIONS)[0] == 0
    assert set(pd.read_csv(suite.parent / "run/tuning/tuning.csv")["labels"]) == {1000}


@pytest.mark.parametrize("ends", ["[0, 4.0]", "[-1, 4.0]", "[4.0, 0.1]", "[1.0, 1.0]"])
def test_a_range_that_cannot_be_divided_in_logarithm_is_refused_on_load(suite, call, ends):
    change(suite, ("[0.1, 4.0]", ends))
    fails(call("run", "--suite", "tiny.toml"), "tiny.toml: ranges.vat: expected 0 < low < high, at most 1e+30, got [")


@pytest.mark.parametrize("ends", ["[1.0, inf]", "[nan, 1.0]"])
def test_a_range_without_an_end_is_refused_on_load(suite, call, ends):
    change(suite, ("[0.1, 4.0]", ends))
    fails(call("run", "--suite", "tiny.toml"), "tiny.toml: ranges.vat", "finite number")


@pytest.mark.parametrize("option", ["--alpha", "--seeds", "--eps"])
def test_an_empty_list_is_refused(suite, trained, call, option):
    fails(call(*OPTIONS, option, ""), option, "or the option left out")
    assert not trained


def test_where_nothing_can_be_chosen_it_is_said_and_no_suite_is_written(suite, trained, call):
    code, out, _ = call(*OPTIONS, "--power-iterations", "2")
    assert code == 0
    assert out == ["vat-50: nothing to choose from: no setting with the suite's K, 1, that did not diverge"]
    assert not (suite.parent / "run/tuning/tiny.toml").exists()


def test_a_model_that_is_not_tuned_now_needs_no_values(suite, trained, call):
    change(suite, ('["ladder", "vat"]', '["rpt", "vat"]'))
    assert call(*OPTIONS)[0] == 0
    assert load_suite("run/tuning/tiny.toml").hyperparameters["vat-50"].eps == (0.5,)


# ------------------------------------------------------------------------------------------ the suite with the choice


@pytest.mark.parametrize("ranges", ["", "lvac = [0.1, 0.5]\n"])
def test_what_a_model_needs_beside_eps_is_written_too(suite, trained, call, ranges):
    change(suite, ('"ladder", "vat"', '"lvac", "vat"'), ("[ranges]\n", f"[ranges]\n{ranges}"))
    assert call(*TUNE, "--models", "lvac", "--eps", "0.1,0.5", "--validation", "100")[0] == 0
    (cell,) = plan(load_suite("run/tuning/tiny.toml"), "", models=["lvac"])
    published = appendix_a("lvac", 50).denoising_weights
    assert cell.model.hyperparameters == Hyperparameters(published, (0.1,))


def test_a_suite_that_cannot_be_planned_is_not_written(suite, trained, call, monkeypatch):
    monkeypatch.setattr(module, "with_chosen", lambda text, chosen: text.replace("epochs = 2", "epochs = 0"))
    fails(call(*OPTIONS), "run/tuning/tiny.toml", "epochs")
    assert not (suite.parent / "run/tuning/tiny.toml").exists()
