"""One line and exit code 2 for whatever is typed wrong, data, suites, folders."""

import itertools
import sys

import pytest
import torch
from running import VAT_ONLY, fails, files, trained, write_suite

pytestmark = pytest.mark.usefixtures("plain_pictures")
MNIST = ('"digits"', '"mnist"')


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--suite", "smoek"), ("'smoek'", "did you mean 'smoke'?")),
        (("report", "--suite", "smoek"), ("'smoek'", "did you mean 'smoke'?")),
        (("run", "--suite", "none.toml"), ("none.toml",)),
        (("run",), ("--suite",)),
        (("rnu",), ("'rnu'",)),
        (("run", "--suite", "smoke", "--modles", "vat"), ("--modles", "--models")),
        (("run", "--suite", "smoke", "--models", "lvanlw"), ("'lvanlw'", "did you mean 'lvan-lw'?")),
        (("run", "--suite", "smoke", "--labels", "20"), ("--labels 20", "50, 100")),
        (("run", "--suite", "smoke", "--labels", "0"), ("--labels 0", "50, 100")),
        (("run", "--suite", "smoke", "--seeds", "a,b"), ("--seeds", "whole numbers", "'a,b'")),
        (("run", "--suite", "smoke", "--seeds", "-1"), ("-1",)),
        (("run", "--suite", "smoke", "--shard", "0/3"), ("--shard", "i/n", "'0/3'")),
        (("run", "--suite", "smoke", "--shard", "4/3"), ("--shard", "i/n", "'4/3'")),
        (("run", "--suite", "smoke", "--shard", "3"), ("--shard", "i/n", "'3'")),
        (("run", "--suite", "smoke", "--shard", "1/" + "9" * 5000), ("--shard", "i/n", "'1/99")),
        (("run", "--suite", "smoke", "--shard", "15/15"), ("--shard", "smoke has fewer cells than parts")),
        (("run", "--suite", "smoke", "--device", "tpu"), ("'tpu'", "cpu", "cuda")),
        (("run", "--suite", "smoke", "--devices", "1"), ("--devices belongs to --dry-run",)),
        (("speed", "--suite", "smoke", "--labels", "0"), ("--labels 0", "50, 100")),
        (("speed", "--suite", "smoke", "--engine-mode", "reference", "--precision", "bfloat16"), ("is float32",)),
        (("attack", "--suite", "smoke", "--data", ""), ("--data", "got an empty name")),
        (("attack", "--model", "a:b", "--data", ""), ("--data", "got an empty name")),
        (("run", "--suite", "smoke", "--out", ""), ("--out", "expected a folder, got an empty name")),
        (("report", "--suite", "smoke", "--merge", ""), ("--merge", "expected a folder, got an empty name")),
        (("run", "--suite", "smoke", "--out", "a\udcff"), ("--out", r"expected a name in UTF-8, got 'a\udcff'")),
        (("speed", "--suite", "smoke", "--seeds", "1,1000000000000"), ("--seeds", "from 1 to 1000")),
        (("tune", "--suite", "smoke", "--count", "1000000000"), ("--count", "2<=x<=1000")),
        (("tune", "--suite", "smoke", "--updates", "10000000000000"), ("--updates", "1<=x<=1000000000")),
        (("tune", "--suite", "smoke", "--eps", "1e300"), ("--eps", "at most 1e+30")),
        (("run", "--suite", "smoke", "--engine", "ray", "--gpus-per-cell", "1.5"), ("--gpus-per-cell 1.5", "whole")),
        (("run", "--suite", "smoke", "--engine", "ray", "--gpus-per-cell", "nan"), ("--gpus-per-cell nan", "whole")),
        (("run", "--suite", "smoke", "--engine", "ray", "--gpus-per-cell", "inf"), ("--gpus-per-cell inf", "whole")),
    ],
)
def test_what_is_typed_wrong(tmp_path, monkeypatch, call, arguments, said):
    monkeypatch.chdir(tmp_path)
    fails(call(*arguments), *said)


@pytest.mark.parametrize("value", ["", ",", " "])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        *itertools.product(["run", "attack", "tune"], ["--models", "--labels", "--seeds"]),
        *itertools.product(["speed"], ["--models", "--seeds"]),
    ],
)
def test_a_list_of_nothing_is_not_everything(tmp_path, monkeypatch, call, command, option, value):
    """`--models "$MODELS"` of an unset variable would train for days; without the option all are meant."""
    monkeypatch.chdir(tmp_path)
    fails(call(command, "--suite", "smoke", option, value), option, "or the option left out", repr(value))
    assert files(tmp_path) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA, so asking for it is right")
def test_cuda_where_there_is_none(tmp_path, call):
    outcome = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--device", "cuda")
    fails(outcome, "--device cuda", "--device cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_data_that_is_not_there(tmp_path, call, dry):
    (tmp_path / "empty").mkdir()
    suite = write_suite(tmp_path, MNIST)
    outcome = call("run", "--suite", suite, "--out", tmp_path / "run", "--data", tmp_path / "empty", *dry)
    fails(outcome, tmp_path / "empty", "MNIST", "missing", "--data")
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_fetched(tmp_path, call, monkeypatch):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as beside a torch of another build
    outcome = call("run", "--suite", write_suite(tmp_path, MNIST), "--out", tmp_path / "run")
    fails(outcome, "torchvision", "does not load", torch.__version__, "--data")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("[labels.50]", "[labels.55]")], "55"),
        ([("[labels.50]", "[labels.0]")], "labels"),
        ([("15, 10]", "15, 5]")], "widths"),
        ([("15, 10]", "15, 12]")], "widths"),
        ([("unlabelled_batch = 200", "unlabelled_batch = 1298")], "unlabelled_batch"),
        ([("eps = [0.1]", "eps = [-0.1]")], "-0.1"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(tmp_path, call, changes, said, dry):
    suite = write_suite(tmp_path, VAT_ONLY, *changes)
    outcome = call("run", "--suite", suite, "--out", tmp_path / "run", *dry)
    fails(outcome, said)
    assert trained(outcome[1]) == []


DEEP = ".".join(["a"] * 3000)
HUGE = 10**400


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("power_iterations = 1", f"power_iterations = 1\nxi.{DEEP} = 1", "[model.xi]: "),
        ("decay_from = 1", f"decay_from = 1\nlearning_rate.{DEEP} = 1", "learning_rate: "),
        ("[model]\n", f"[model.vat.{DEEP}]\nz = 1\n[model]\n", "a"),
        ("[model]\n", f"[model]\nvat = [{{{DEEP} = 1}}]\n", "model.vat: expected a table"),
        ("epochs = 2", f"epochs = {HUGE}", "epochs"),
        ("decay_from = 1", f"decay_from = 1\nepoch_updates = {10**30}", "epoch_updates"),
        ("smoothness_images = 100", f"smoothness_images = {HUGE}", "smoothness_images"),
        ("decay_from = 1", f"decay_from = 1\nsmoothness_every = {HUGE}", "smoothness_every"),
        ("decay_from = 1", f"decay_from = 1\nsmoothness_iterations = {HUGE}", "smoothness_iterations"),
        ("decay_from = 1", f"decay_from = 1\nvalidation = {HUGE}", "validation"),
        ("power_iterations = 1", f"power_iterations = 1\nperturbations = {10**8}", "perturbations"),
        ("[labels.50]", f"[labels.{10**30}]", "labels"),
        ("eps = [0.1]", f"eps = [0.1]\nvirtual_images = {HUGE}", "virtual_images"),
        ("eps = [0.1]", f"eps = [0.1]\n[attack.audit]\nimages = {HUGE}", "audit.images"),
        ("eps = [0.1]", "eps = [0.1]\naudit.eps = { L2 = [1e300] }", "audit.eps.L2.0"),
        ("eps = [0.1]", "eps = [1e300]", "attack.eps.0"),
        ("power_iterations = 1", "power_iterations = 1\nhidden_sd = 1e300", "hidden_sd"),
        ("eps = [1.0]", "eps = [1e300]", "hyperparameters.vat.eps.0"),
        ("decay_from = 1", "decay_from = 1\nlearning_rate = 1e300", "learning_rate"),
    ],
)
def test_a_suite_of_enormous_values_is_refused_in_a_short_line(tmp_path, call, old, new, said, dry):
    suite = write_suite(tmp_path, VAT_ONLY, (old, new))
    outcome = call("run", "--suite", suite, "--out", tmp_path / "run", *dry)
    fails(outcome, suite, said)
    assert len(outcome[2][0]) < 600 + len(suite)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", ["file", "file/run"])
@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run"), ("report",), ("attack",), ("tune",), ("speed",)])
def test_a_folder_that_cannot_be_written(tmp_path, call, monkeypatch, below, command):
    monkeypatch.setattr("benchmark.command_line.measure", None)  # minutes, which must not be spent before
    (tmp_path / "file").write_text("mine")
    outcome = call(*command, "--suite", write_suite(tmp_path), "--out", tmp_path / below)
    fails(outcome, f"--out {tmp_path / below}: {tmp_path / 'file'} is a file", "expected a folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("epochs = 2", "epochs = 3", "training.epochs was 2 and is 3 in the suite"),
        ("power_iterations = 1", "power_iterations = 2", "model.power_iterations was 1 and is 2 in the suite"),
        ("[20, 15, 10]", "[20, 16, 10]", "model.widths"),
        ("eps = [1.0]", "eps = [2.0]", "model.hyperparameters"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_another_configuration_is_refused_and_the_field_named(copy, call, old, new, field, dry):
    before = files(copy)
    fails(call("run", "--suite", write_suite(copy.parent, (old, new)), "--out", "run", *dry), field, "--out")
    assert files(copy) == before
