"""The command line from end to end on tiny suites: files, numbers, resumption."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from running import ROOT, VAT_ONLY, files, results, stages, trained, write_suite
from safetensors import safe_open

import benchmark.cell
import zoo
from benchmark.progress import Progress

pytestmark = pytest.mark.usefixtures("plain_pictures")


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
from benchmark.command_line import main
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


def test_interrupted_before_anything_is_imported(tmp_path):
    """Ends by the signal, as a shell expects, without a traceback."""
    code = "import os, signal, sys, benchmark.__main__ as main\n"
    code += "class Finder:\n    def find_spec(self, *_): os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Finder())\nmain.main()\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


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


def test_where_there_is_no_git_the_command_works(tmp_path):
    """Foolbox imports a package that ends where there is none."""
    command, where = [sys.executable, "-m", "benchmark", "list"], {"PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "suite    smoke" in done.stdout


def test_a_closed_standard_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with Progress([], []) as progress:
        assert not progress.terminal
