"""The command line from end to end on tiny suites: files, resumption, numbers, reports, one line for every error."""

import functools
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import VAT_ONLY, cells_of, fails, files, results, stages, trained, write_suite
from safetensors import safe_open

import benchmark.cell
import zoo
from attacks import MEANINGS, NORMS
from benchmark import store
from benchmark.attack import AUDITED
from benchmark.estimate import Cost, costs, makespan
from benchmark.suite import BUILT_IN, load_suite
from zoo.checkpoints import write_tensors
from zoo.config import MODELS
from zoo.data import DATASETS

pytestmark = pytest.mark.usefixtures("plain_pictures")
MNIST = ('"digits"', '"mnist"')


# ----------------------------------------------------------------------------------------------- what is there


def test_a_run_leaves_the_files_of_the_design(finished):
    run = finished / "run"
    cell = {"config.json", "history.csv", "provenance.json", "records.csv", "seed-0.safetensors", "seed-1.safetensors"}
    for name in ("ladder-50", "vat-50"):
        assert {path.name for path in (run / "cells" / name).iterdir()} == cell
    assert {path.name for path in run.iterdir()} == {"suite.json", "cells", "report"}
    tables = ("table1", "table2", "comparison", "pairs", "findings", "provenance")
    report = {"report.md", "report.html"} | {f"{name}.{kind}" for name in tables for kind in ("md", "tex", "csv")}
    report |= {f"{figure}.{kind}" for figure in ("smoothness", "robustness") for kind in ("png", "pdf", "csv")}
    assert {path.name for path in (run / "report").iterdir()} == report
    suite = json.loads((run / "suite.json").read_text())
    assert set(suite["cells"]) == {"ladder-50", "vat-50"}
    assert suite["cells"]["vat-50"]["training"]["epochs"] == 2
    assert {"command", "environment", "checksums"} < suite.keys()


def test_records_hold_every_measure_once(finished):
    for name in ("ladder-50", "vat-50"):
        records = pd.read_csv(finished / "run/cells" / name / "records.csv")
        assert (records["n"] == 500).all()
        counts = records.groupby(["seed", "measure"]).size().unstack()
        assert list(counts.index) == [0, 1]
        assert (counts[["test_error", "lowest_test_error"]] == 1).all(axis=None)
        assert (counts[["attacked_error", "clean_error", "mean_norm_ratio", "zero_gradient_share"]] == 2).all(axis=None)
        assert records.groupby("seed")["subset"].nunique().tolist() == [1, 1]
        assert records["subset"].nunique() == 2


def test_the_subset_in_the_records_is_the_one_of_the_card(finished):
    folder = finished / "run/cells/vat-50"
    records = pd.read_csv(folder / "records.csv")
    for seed in (0, 1):
        with safe_open(folder / f"seed-{seed}.safetensors", "pt") as file:
            card = json.loads(file.metadata()["card"])
        own = records[(records["seed"] == seed)]
        assert {card["subset"]} == set(own["subset"])
        assert card["test_error"] == own.loc[own["measure"] == "test_error", "value"].item()
        assert (card["seed"], card["training"]["labels"], card["model"]["name"]) == (seed, 50, "vat")


@pytest.mark.parametrize("model", ["ladder", "vat"])
@pytest.mark.parametrize("seed", [0, 1])
def test_recorded_errors_are_those_of_the_checkpoint(finished, model, seed):
    records = pd.read_csv(finished / f"run/cells/{model}-50/records.csv").query(f"seed == {seed}")
    loaded, data = zoo.load(finished / "run", model, labels=50, seed=seed), zoo.load_dataset("digits")
    truth = data.test_labels.numpy()
    x = data.test_images.clone().requires_grad_()
    logits = loaded(x)
    predicted = logits.argmax(1)
    clean = np.count_nonzero(predicted.numpy() != truth) / 500
    assert records.loc[records["measure"] == "test_error", "value"].item() == clean
    assert (records.loc[records["measure"] == "clean_error", "value"] == clean).all()
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, predicted, reduction="sum"), x)
    image, g = data.test_images.numpy().astype(np.float64), gradient.numpy().astype(np.float64)
    steps = {"Linf": np.sign(g), "L2": g / np.sqrt((g**2).sum(1, keepdims=True))}
    for norm, step in steps.items():
        moved = loaded(torch.from_numpy((image + 0.1 * step).astype(np.float32))).argmax(1).numpy()
        recorded = records.query(f"measure == 'attacked_error' and norm == '{norm}'")["value"].item()
        assert abs(recorded - np.count_nonzero(moved != truth) / 500) <= 1 / 500 + 1e-12
        assert recorded != clean or norm == "L2"


@pytest.mark.parametrize("model", ["ladder", "vat"])
def test_recorded_errors_are_those_of_the_history(finished, model):
    folder = finished / f"run/cells/{model}-50"
    history, records = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "records.csv")
    for seed in (0, 1):
        errors = history.query(f"seed == {seed} and measure == 'test_error'").set_index("epoch")["value"]
        assert list(errors.index) == [1, 2]
        own = records.query(f"seed == {seed}").set_index("measure")
        assert own.loc["test_error", "value"] == errors[2]
        assert own.loc["lowest_test_error", "value"] == errors.min()
        assert own.loc["lowest_test_error", "epoch"] == errors.idxmin()


# ---------------------------------------------------------------------------------------------- again and anew


def test_run_again_does_nothing_but_say_so(copy, call):
    before = files(copy)
    code, out, err = call("run", "--suite", "tiny.toml", "--out", "run")
    assert (code, err) == (0, [])
    assert out[0] == "run: all 2 cells are complete, nothing to do"
    assert out[1:] == [f"report: {Path('run/report/report.md')}"]
    after = files(copy)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name] and not name.startswith("report")] == []


def test_the_same_command_gives_the_same_bytes_anywhere(copy, call):
    code, out, err = call("run", "--suite", "tiny.toml", "--out", "other")
    assert (code, err) == (0, [])
    assert results(Path("other")) == results(copy)
    assert len(results(copy)) == 8
    assert "vat-50: training" in out
    assert any(line.startswith("vat-50: epoch 1 of 2, ") and "test error " in line for line in out)
    assert out[-2:] == ["vat-50: complete", f"report: {Path('other/report/report.md')}"]


def test_a_new_seed_trains_alone(tmp_path, call):
    run, suite = tmp_path / "run", write_suite(tmp_path, VAT_ONLY)
    cell = run / "cells/vat-50"
    assert call("run", "--suite", suite, "--out", run, "--seeds", "0")[0] == 0
    before, rows = files(cell), (cell / "records.csv").read_text().splitlines()
    assert call("run", "--suite", suite, "--out", run, "--seeds", "0,1")[0] == 0
    assert stages(cell) == [("training", [0]), ("attack", [0]), ("training", [1]), ("attack", [1])]
    after = files(cell)
    assert after["seed-0.safetensors"] == before["seed-0.safetensors"]
    assert after["config.json"] == before["config.json"]
    assert after["records.csv"].decode().splitlines()[: len(rows)] == rows
    assert len(after["records.csv"].decode().splitlines()) == 2 * len(rows) - 1
    assert after["history.csv"].startswith(before["history.csv"])


def test_a_new_eps_attacks_alone(copy, call):
    before = files(copy / "cells")
    suite = write_suite(copy.parent, ("eps = [0.1]", "eps = [0.1, 0.25]"))
    code, out, _ = call("run", "--suite", suite, "--out", "run")
    assert (code, trained(out)) == (0, [])
    after = files(copy / "cells")
    for name in before:
        if name.endswith("records.csv"):
            assert set(before[name].splitlines()) < set(after[name].splitlines())
            assert pd.read_csv(copy / "cells" / name).groupby("eps")["value"].size().tolist() == [24, 24]
        elif not name.endswith("provenance.json"):
            assert after[name] == before[name]
    assert stages(copy / "cells/vat-50")[-1:] == [("attack", [0, 1])]


def test_a_deleted_checkpoint_is_trained_again_to_the_same_bytes(tmp_path, call):
    run, suite = tmp_path / "run", write_suite(tmp_path, VAT_ONLY)
    command = ("run", "--suite", suite, "--out", run, "--seeds", "1")
    assert call(*command)[0] == 0
    before = results(run)
    (run / "cells/vat-50/seed-1.safetensors").unlink()
    assert trained(call(*command)[1]) == ["vat-50"]
    assert results(run) == before


def test_a_seed_trained_again_leaves_nothing_of_its_old_records(tmp_path, call):
    run, suite = tmp_path / "run", write_suite(tmp_path, VAT_ONLY)
    command = ("run", "--suite", suite, "--out", run, "--seeds", "1")
    assert call(*command)[0] == 0
    before, path = results(run), run / "cells/vat-50/records.csv"
    old = pd.read_csv(path, keep_default_na=False).astype({"value": object})
    old.loc[old["measure"] == "attacked_error", "value"] = "0.001"  # as if of other weights
    old.loc[old["measure"] == "lowest_test_error", "epoch"] = 3 - old["epoch"].min()
    old.to_csv(path, index=False)
    (path.parent / "seed-1.safetensors").unlink()
    assert call(*command)[0] == 0
    assert results(run) == before


def test_a_diverged_seed_is_said_to_be_so_and_enters_no_mean(tmp_path, call):
    suite = write_suite(tmp_path, VAT_ONLY, ("decay_from", "learning_rate = 1e30\ndecay_from"))
    assert call("run", "--suite", suite, "--out", tmp_path / "run")[0] == 0
    records = pd.read_csv(tmp_path / "run/cells/vat-50/records.csv")
    assert records.loc[records["measure"].str.endswith("test_error"), "value"].isna().all()
    for table in ("table1", "table2"):
        cells = pd.read_csv(tmp_path / f"run/report/{table}.csv")
        errors = cells[cells["measure"].str.endswith("error")]
        assert len(errors) > 0
        assert errors["mean"].isna().all()
        assert (errors["diverged"] == 2).all()


INTERRUPTIBLE = """
import functools
import benchmark.cell
from benchmark.__main__ import main
benchmark.cell.train = functools.partial(benchmark.cell.train, save_every_s=0)
main()
"""


def test_killed_and_run_again_is_as_if_nothing_had_happened(tmp_path, call):
    suite = write_suite(tmp_path, VAT_ONLY, ("epochs = 2", "epochs = 40"), ("decay_from = 1", "decay_from = 30"))
    killed, cell = tmp_path / "killed", tmp_path / "killed/cells/vat-50"
    command = ["run", "--suite", suite, "--out"]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *command, str(killed)], stdout=subprocess.PIPE, text=True
    )
    with child:
        for line in child.stdout:
            if line.startswith("vat-50: epoch 5 of 40"):
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    assert (cell / "state.safetensors").is_file()
    assert not (cell / "records.csv").exists()
    code, out, _ = call(*command, killed)
    assert code == 0
    epochs = [int(line.split()[2]) for line in out if line.startswith("vat-50: epoch")]
    assert epochs == list(range(epochs[0], 41))
    assert epochs[0] > 4
    assert not (cell / "state.safetensors").exists()
    assert call(*command, tmp_path / "undisturbed")[0] == 0
    assert results(killed) == results(tmp_path / "undisturbed")


def test_interrupted_by_the_user(tmp_path, call, monkeypatch):
    def interrupt(training):
        raise KeyboardInterrupt

    often = functools.partial(benchmark.cell.train, save_every_s=0)
    monkeypatch.setattr(benchmark.cell, "train", lambda *a, progress, **k: often(*a, progress=interrupt, **k))
    code, _, err = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run")
    assert code == 130
    assert [line for line in err if line] == ["error: interrupted; the same command goes on from here"]
    assert (tmp_path / "run/cells/ladder-50/state.safetensors").is_file()


def test_from_a_shell(tmp_path, finished):
    write_suite(tmp_path)
    command = [sys.executable, "-m", "benchmark", "run", "--suite", "tiny.toml", "--models", "vat"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if "epoch" not in line] == [
        "vat-50: training",
        "vat-50: attacking",
        "vat-50: complete",
        f"report: {Path('runs/tiny/report/report.md')}",
    ]
    assert sum(line.startswith("vat-50: epoch ") and "test error " in line for line in lines) == 2
    assert done.stderr == ""
    assert results(tmp_path / "runs/tiny/cells/vat-50") == results(finished / "run/cells/vat-50")
    for figure in ("smoothness", "robustness"):
        assert (tmp_path / f"runs/tiny/report/{figure}.png").read_bytes().startswith(b"\x89PNG\r\n")
        assert (tmp_path / f"runs/tiny/report/{figure}.pdf").read_bytes().startswith(b"%PDF")


# ------------------------------------------------------------------------------------------------ looking only


def test_a_dry_run_trains_nothing_and_writes_nothing(tmp_path, call, monkeypatch):
    monkeypatch.setattr(benchmark.cell, "train", None)
    code, out, _ = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--dry-run")
    assert code == 0
    shown = {row[1]: row[2:] for row in (line.replace("│", "|").split("|") for line in out) if len(row) > 5}
    assert {name.strip(): [cell.strip() for cell in row[:3]] for name, row in shown.items() if "-50" in name} == {
        "ladder-50": ["2", "2", "to train"],
        "vat-50": ["2", "2", "to train"],
    }
    assert out[-1].startswith("training: 0:00:0")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_the_state_of_every_cell(copy, call):
    suite = ("run", "--suite", "tiny.toml", "--out", "run", "--dry-run")
    assert [line.count("complete") for line in call(*suite)[1]].count(1) == 2
    (copy / "cells/ladder-50/seed-1.safetensors").unlink()
    before = files(copy)
    out = "\n".join(call(*suite)[1])
    assert "to train" in out.split("ladder-50")[1].splitlines()[0]
    assert "complete" in out.split("vat-50")[1].splitlines()[0]
    write_suite(copy.parent, ("eps = [0.1]", "eps = [0.2]"))
    assert "to attack" in "\n".join(call(*suite)[1]).split("vat-50")[1].splitlines()[0]
    assert files(copy) == before


def test_a_dry_run_counts_what_is_to_be_resumed(tmp_path, call):
    changes = VAT_ONLY, ("epochs = 2", "epochs = 20000")
    state = tmp_path / "run/cells/vat-50/state.safetensors"
    write_tensors(state, {}, {"epoch": 1, "seeds": [0, 1]})
    _, out, _ = call("run", "--suite", write_suite(tmp_path, *changes), "--out", tmp_path / "run", "--dry-run")
    assert "to resume" in "\n".join(out)
    assert not out[-1].startswith("training: 0:00:00 ")


@pytest.mark.parametrize("parts", [1, 2, 5, 14])
def test_shards_are_disjoint_and_complete(tmp_path, call, parts):
    shown = []
    for part in range(1, parts + 1):
        code, out, _ = call("run", "--suite", "smoke", "--out", tmp_path, "--shard", f"{part}/{parts}", "--dry-run")
        assert code == 0
        shown.append([line.split()[1] for line in out if re.search(r"-(50|100) ", line)])
    assert max(map(len, shown)) - min(map(len, shown)) <= 1
    models = load_suite("smoke").models
    assert sorted(itertools.chain(*shown)) == sorted(f"{model}-{labels}" for model in models for labels in (50, 100))


def test_a_dry_run_on_several_devices(tmp_path, call, monkeypatch):
    monkeypatch.setattr("benchmark.run.costs", lambda cells, data: [Cost(300.0, 3 * 2**30), Cost(900.0, 2**29)])
    suite = write_suite(tmp_path)
    _, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--devices", "2")
    assert out[-2] == "on 2 devices like this one, a cell on each: 0:30:00"
    assert out[-1].startswith("training: 0:40:00 estimated from single steps on ")
    assert out[-1].endswith("tensors up to 3.00 GiB a cell")
    assert [line.split()[-2] for line in out if "-50 " in line] == ["GiB", "GiB"]


def test_the_longest_cells_are_given_out_first():
    assert makespan([1, 1, 1, 3], 2) == 3
    assert makespan([4, 3, 3, 2, 2], 2) == 8
    assert makespan([], 3) == 0


def test_memory_is_what_the_tensors_take():
    cell = next(cell for cell in cells_of("quick", labels=(100,), seeds=(0, 1)) if cell.model.name == "supervised")
    weights = sum(a * b for a, b in pairwise(cell.model.widths)) + sum(cell.model.widths[1:]) + 10
    data = zoo.load_dataset("digits")
    small = replace(cell, model=replace(cell.model, widths=(64, *cell.model.widths[1:])))
    (cost,) = costs([small], data)
    weights -= (784 - 64) * 1000
    images = 4 * 64 * 1797 + 8 * 1797
    assert cost.bytes > images + 2 * 4 * 4 * weights
    assert cost.bytes < images + 2 * (4 * 4 * weights + 40 * 4 * 350 * sum(small.model.widths))


def test_a_dry_run_takes_every_batch_that_a_run_takes(tmp_path, call):
    suite = write_suite(tmp_path, VAT_ONLY, ("labelled_batch = 50", "labelled_batch = 45"))
    code, _, err = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run")
    assert (code, err) == (0, [])


def test_list_shows_everything_there_is(call):
    code, out, err = call("list")
    assert (code, err) == (0, [])
    shown = {(line.split()[0], line[9:].split("  ")[0].strip()) for line in out}
    attacked = [*(f"fgm {norm}" for norm in NORMS), *MEANINGS[1:], *AUDITED]
    wanted = [("suite", BUILT_IN), ("model", MODELS), ("data", DATASETS), ("attack", attacked)]
    assert shown == {(kind, name) for kind, names in wanted for name in names}


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_shows_the_commands(call, arguments):
    _, out, err = call(*arguments)
    assert {"run", "report", "list"} <= {line.split()[0] for line in out + err if line.strip()}


# ----------------------------------------------------------------------------------------------------- reports


def test_report_check_of_a_fresh_report(copy, call):
    before = files(copy)
    code, out, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    # The suite of the finished run lay elsewhere: where its file lies is not what the records give.
    assert (code, out, err) == (0, [f"{Path('run/report')}: what the records give"], [])
    assert files(copy) == before


def test_report_check_of_an_edited_report(copy, call):
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    table, extra = copy / "report/table1.md", copy / "report/notes.md"
    table.write_text(table.read_text().replace("vat", "VAT"))
    extra.write_text("")
    before = files(copy)
    code, out, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert (code, out) == (1, [])
    assert err[0] == f"{Path('run/report')}: not what the records give; run the same without --check"
    assert err[1:3] == ["--- run/report/table1.md, there", "+++ run/report/table1.md, from records"]
    assert any(line.startswith("-| VAT ") for line in err)
    assert any(line.startswith("+| vat ") for line in err)
    assert not any("notes.md" in line or line.startswith("--- run/report/table2") for line in err)
    assert files(copy) == before
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert call("report", "--suite", "tiny.toml", "--out", "run", "--check")[0] == 0


def test_report_check_of_no_report(copy, call):
    shutil.rmtree(copy / "report")
    code, _, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert code == 1
    assert {line.split(": ")[1] for line in err[1:]} == {"missing"}
    assert not (copy / "report").exists()


def test_report_of_changed_records(copy, call):
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    path = copy / "cells/vat-50/records.csv"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("0,2,test_error"))
    lines[at] = ",".join("0.9" if i == 6 else cell for i, cell in enumerate(lines[at].split(",")))
    path.write_text("\n".join(lines) + "\n")
    code, _, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert code == 1
    assert "--- run/report/table1.csv, there" in err


def test_report_of_a_partial_run_shows_what_is_missing(tmp_path, call):
    suite, run = write_suite(tmp_path), tmp_path / "run"
    assert call("run", "--suite", suite, "--out", run, "--models", "vat", "--seeds", "0")[0] == 0
    code, out, _ = call("report", "--suite", suite, "--out", run)
    assert (code, out) == (0, [f"report: {run / 'report' / 'report.md'}"])
    page = (run / "report/report.md").read_text()
    assert "vat, 50 labels, digits: 1 of 2 seeds" in page
    assert "ladder, 50 labels, digits: 0 of 2 seeds" in page
    assert "complete: 0 of 2 planned" in page


def test_report_has_the_means_of_the_records(finished):
    table = pd.read_csv(finished / "run/report/table1.csv").query("measure == 'test_error'").set_index("model")
    for model in ("ladder", "vat"):
        records = pd.read_csv(finished / f"run/cells/{model}-50/records.csv")
        first, second = records.loc[records["measure"] == "test_error", "value"]
        assert table.loc[model, "mean"] == pytest.approx((first + second) / 2, abs=1e-9)
        assert table.loc[model, "sd"] == pytest.approx(abs(first - second) / math.sqrt(2), abs=1e-9)
        assert table.loc[model, "n"] == 2


def test_report_outside_a_checkout_claims_no_changes(tmp_path, call, monkeypatch):
    monkeypatch.setattr(store, "git", lambda *arguments: None)
    store.environment.cache_clear()
    assert call("run", "--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")[0] == 0
    store.environment.cache_clear()
    assert "uncommitted" not in (tmp_path / "run/report/report.md").read_text()


def test_report_of_another_suite_is_refused(copy, call):
    suite = write_suite(copy.parent, ("epochs = 2", "epochs = 3"))
    fails(call("report", "--suite", suite, "--out", "run"), "epochs", 2, 3, "--out")


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_report_of_a_missing_folder(tmp_path, call, check):
    outcome = call("report", "--suite", write_suite(tmp_path), "--out", tmp_path / "none", *check)
    fails(outcome, tmp_path / "none", "missing", "--out")
    assert not (tmp_path / "none").exists()


# ------------------------------------------------------------------------------------------------------ errors


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
        (("run", "--suite", "smoke", "--shard", "15/15"), ("--shard", "smoke has fewer cells than parts")),
        (("run", "--suite", "smoke", "--device", "tpu"), ("'tpu'", "cpu", "cuda")),
    ],
)
def test_what_is_typed_wrong(tmp_path, monkeypatch, call, arguments, said):
    monkeypatch.chdir(tmp_path)
    fails(call(*arguments), *said)


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


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_a_folder_that_cannot_be_written(tmp_path, call, below):
    (tmp_path / "file").write_text("mine")
    outcome = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / below)
    fails(outcome, tmp_path / "file")
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
    fails(call("run", *suite), "precision was 'bfloat16' and is 'float32'")
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
