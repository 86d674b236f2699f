"""One line and exit code 2 for whatever is wrong: what is typed, data, folders, files."""

import itertools
import json
import sys
from pathlib import Path

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
    fails(call("run", "--suite", write_suite(tmp_path, MNIST), "--out", tmp_path / "run"), "mnist", "--data")


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


DAMAGE = {
    "cut": lambda old: old[: len(old) // 2],
    "garbage": lambda old: b"\xff\x00garbage\n",
    "empty": lambda old: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["records.csv", "history.csv", "config.json", "provenance.json"])
@pytest.mark.parametrize("command", ["run", "report"])
def test_a_damaged_file_is_named_and_left_alone(copy, call, name, damage, command):
    path = copy / "cells/vat-50" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = files(copy)
    fails(call(command, "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50") / name, "not readable")
    assert files(copy) == before


@pytest.mark.parametrize("value", ["1e308", "1.01", "-0.01", "inf"])
@pytest.mark.parametrize("command", ["run", "report"])
def test_an_error_that_can_be_none_is_named_with_its_line(copy, call, value, command):
    path = copy / "cells/vat-50/records.csv"
    lines = path.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if ",attacked_error," in line)
    fields = lines[at].split(",")
    lines[at] = ",".join([*fields[:6], value, *fields[7:]])
    path.write_text("\n".join([*lines, ""]))
    said = f"(line {at + 1}: attacked_error {float(value):g}, expected 0 to 1"
    fails(call(command, "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/records.csv"), said)


def test_a_cost_that_can_be_none_is_named_with_its_line(copy, call):
    path = copy / "cells/vat-50/history.csv"
    lines = path.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if ",smoothness," in line)
    lines[at] = lines[at].rpartition(",")[0] + ",-1e308"
    path.write_text("\n".join([*lines, ""]))
    said = f"(line {at + 1}: smoothness -1e+308, expected at most 1e+39 in size"
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/history.csv"), said)


@pytest.mark.parametrize("name", ["cells", "report", "cells/vat-50"])
@pytest.mark.parametrize("command", [("run",), ("run", "--jobs", "1"), ("attack",), ("report",)])
def test_nothing_is_written_through_a_link_in_a_run(copy, call, name, command):
    """A run's folder from elsewhere might lead anywhere; where nothing is written, it may be read."""
    away, link = copy.parent / "away", copy / name
    link.rename(away)
    link.symlink_to(away)
    for path in copy.glob("cells/*/records.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if ",short_share," not in line))  # so that it is attacked again
    before = files(away)
    code, _, err = call(*command, "--suite", "tiny.toml", "--out", "run")
    assert files(away) == before
    if command != ("report",) or name == "report":
        fails((code, [], err), f"{Path('run') / name} is a link")


def test_a_run_may_be_reached_through_a_link(copy, call):
    copy.rename(copy.parent / "disk")
    copy.symlink_to(copy.parent / "disk")
    (copy / "cells/vat-50/records.csv").unlink()
    assert call("run", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert (copy.parent / "disk/cells/vat-50/records.csv").is_file()


@pytest.mark.parametrize("name", ["config.json", "provenance.json"])
@pytest.mark.parametrize("content", ["[1]", "null"])
def test_json_of_another_kind_is_named(copy, call, name, content):
    (copy / "cells/vat-50" / name).write_text(content)
    fails(call("run", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50") / name)


def test_a_damaged_history_is_named_before_training(copy, call):
    cell = copy / "cells/vat-50"
    (cell / "history.csv").write_text("garbage\n")
    (cell / "seed-1.safetensors").unlink()
    outcome = call("run", "--suite", "tiny.toml", "--out", "run")
    fails(outcome, "history.csv")
    assert trained(outcome[1]) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named(copy, call, damage):
    path = copy / "cells/vat-50/seed-1.safetensors"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    suite = write_suite(copy.parent, ("eps = [0.1]", "eps = [0.1, 0.2]"))
    fails(call("run", "--suite", suite, "--out", "run"), Path("run/cells/vat-50/seed-1.safetensors"), "run again")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("vat-50/seed-1", "seed was 0 and is 1"),
        ("ladder-50/seed-0", "model.name was 'vat' and is 'ladder'"),
        ("longer/seed-0", "training.epochs was 2 and is 3"),
        ("altered", "has other numbers than were saved"),
    ],
)
@pytest.mark.parametrize("command", ["run", "attack"])
def test_a_checkpoint_that_was_exchanged_is_named_before_it_is_attacked(copy, call, source, said, command):
    path = copy / "cells/vat-50/seed-0.safetensors"
    if source == "altered":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif source == "longer/seed-0":
        suite = write_suite(copy.parent, VAT_ONLY, ("epochs = 2", "epochs = 3"))
        assert call("run", "--suite", suite, "--out", "longer")[0] == 0
        path.write_bytes(Path("longer/cells/vat-50/seed-0.safetensors").read_bytes())
    else:
        path.write_bytes((copy / "cells" / f"{source}.safetensors").read_bytes())
    suite = write_suite(copy.parent, ("eps = [0.1]", "eps = [0.1, 0.2]"))
    before = (copy / "cells/vat-50/records.csv").read_bytes()
    fails(call(command, "--suite", suite, "--out", "run"), Path("run/cells/vat-50/seed-0.safetensors"), said)
    assert (copy / "cells/vat-50/records.csv").read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_named(tmp_path, call, damage):
    state = tmp_path / "run/cells/vat-50/state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(DAMAGE[damage](b"0123456789"))
    outcome = call("run", "--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    fails(outcome, state, "delete it")


def test_a_precision_is_stored_shown_and_not_mixed(tmp_path, call):
    suite = ("--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    assert call("run", *suite, "--precision", "bfloat16")[0] == 0
    config = json.loads((tmp_path / "run/cells/vat-50/config.json").read_text())
    assert config["training"]["precision"] == "bfloat16"
    assert "bfloat16 products" in (tmp_path / "run/report/report.md").read_text()
    assert call("report", *suite, "--check")[0] == 0
    outcome = call("run", *suite)
    fails(outcome, "precision was 'bfloat16' and is 'float32': give the same --precision")
    assert "in the suite" not in outcome[2][0]
    fails(call("run", *suite, "--precision", "float16"), "float16")
    fails(call("run", *suite, "--precision", "bfloat16", "--engine-mode", "reference"), "reference is float32")


def test_the_reference_engine_is_recorded(tmp_path, call):
    suite = ("--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    assert call("run", *suite, "--engine-mode", "reference")[0] == 0
    noted = json.loads((tmp_path / "run/cells/vat-50/provenance.json").read_text())["stages"][0]
    assert [sitting["engine"] for sitting in noted["sittings"]] == ["reference"]


@pytest.mark.parametrize("stored", ['{"training": "x"}', '{"training": {"precision": "float7"}}', '{"training": []}'])
def test_report_on_a_damaged_configuration_is_one_line(copy, call, stored):
    (copy / "cells/vat-50/config.json").write_text(stored)
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), "vat-50/config.json")
