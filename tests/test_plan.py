"""What the command line shows without training: plans, shards, estimates, everything there is."""

import itertools
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from running import VAT_ONLY, cells_of, fails, files, write_suite

import benchmark.cell
import zoo
from attacks import MEANINGS, NORMS
from benchmark.attack import AUDITED
from benchmark.estimate import Cost, by_work, costs, makespan
from benchmark.store import write_json
from benchmark.suite import BUILT_IN, load_suite
from zoo.checkpoints import write_tensors
from zoo.config import MODELS
from zoo.data import DATASETS

pytestmark = pytest.mark.usefixtures("plain_pictures")


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
    monkeypatch.setattr("benchmark.todo.costs", lambda cells, *_: [Cost(300.0, 3 * 2**30), Cost(900.0, 2**29)])
    suite = write_suite(tmp_path)
    _, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--devices", "2")
    assert out[-2] == "on 2 devices like this one, a cell on each: 0:30:00"
    assert out[-1].startswith("training: 0:40:00 estimated from single steps on ")
    assert out[-1].endswith("tensors up to 3.00 GiB a cell")
    assert [line.split()[-2] for line in out if "-50 " in line] == ["GiB", "GiB"]


SECOND = Cost(1.0, 2**20)  # an epoch


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize(
    ("begun", "left"), [([0, 1], "0:00:10"), ([1, 0], "0:00:10"), ([0], "0:00:55"), ([7], "0:01:40"), ([], "0:01:40")]
)
def test_epochs_that_are_done_count_for_the_seeds_that_have_done_them(tmp_path, call, monkeypatch, begun, left, failed):
    """Two seeds are to do a hundred epochs; a failed cell goes on from its state as an interrupted one does."""
    monkeypatch.setattr("benchmark.todo.costs", lambda cells, *_: [SECOND] * len(cells))
    suite = write_suite(tmp_path, VAT_ONLY, ("epochs = 2", "epochs = 100"))
    cell = tmp_path / "run/cells/vat-50"
    write_tensors(cell / "state.safetensors", {}, {"epoch": 90, "seeds": begun})
    if failed:
        write_json(cell / "failed.json", {"reason": "killed"})
    _, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run")
    assert out[-1].startswith(f"training: {left} estimated ")
    assert any(("failed" if failed else "to resume") in line for line in out)


def test_a_damaged_state_is_refused_unless_it_is_why_the_cell_failed(tmp_path, call):
    suite, cell = write_suite(tmp_path, VAT_ONLY), tmp_path / "run/cells/vat-50"
    cell.mkdir(parents=True)
    (cell / "state.safetensors").write_text("garbage")
    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run")
    fails(call(*command), cell / "state.safetensors", "delete it")
    write_json(cell / "failed.json", {"reason": "a damaged state"})
    code, out, err = call(*command)
    assert (code, err) == (0, [])
    assert "vat-50 failed: a damaged state" in out


def test_a_cell_that_starts_over_has_done_nothing(copy, call, monkeypatch):
    monkeypatch.setattr("benchmark.todo.costs", lambda cells, *_: [SECOND] * len(cells))
    write_tensors(copy / "cells/vat-50/state.safetensors", {}, {"epoch": 1, "seeds": [0, 1]})
    suite = write_suite(copy.parent, ("epochs = 2", "epochs = 30"))
    _, out, _ = call("run", "--suite", suite, "--out", "run", "--models", "vat", "--fresh", "--dry-run")
    assert out[-1].startswith("training: 0:00:30 estimated ")


@pytest.mark.parametrize(
    ("mode", "epochs", "timed", "said"),
    [
        ("reference", 20_000, "reference", 0),
        ("eager", 20_000, "eager", 0),
        ("compiled", 2, "eager", 1),
        ("auto", 20_000, "eager", 1),
        ("auto", 2, "eager", 0),
    ],
)
def test_the_engine_that_will_train_is_timed_or_said_not_to_be(tmp_path, call, monkeypatch, mode, epochs, timed, said):
    """Compiling for an estimate would take a minute a cell."""
    engines = []
    monkeypatch.setattr("benchmark.todo.costs", lambda cells, data, engine: engines.append(engine) or [SECOND])
    monkeypatch.setenv("CXX", "true")  # as if there were a compiler
    suite = write_suite(tmp_path, VAT_ONLY, ("epochs = 2", f"epochs = {epochs}"))
    code, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--engine-mode", mode)
    assert (code, engines) == (0, [timed])
    assert sum(line.startswith("1 of these cells will be compiled") for line in out) == said


def test_an_estimate_is_of_steps_of_the_engine():
    cells, data = cells_of("smoke", labels=(50,), models=("vat",)), zoo.load_dataset("digits")
    for engine in ("reference", "eager"):
        assert by_work(cells, data, engine, lambda training: training.engine) == [(engine, 2)]


def test_the_longest_cells_are_given_out_first():
    assert makespan([1, 1, 1, 3], 2) == 3
    assert makespan([4, 3, 3, 2, 2], 2) == 8
    assert makespan([], 3) == 0
    assert makespan([4, 3], 10**12) == 4


def test_memory_is_what_the_tensors_take():
    cell = next(cell for cell in cells_of("quick", labels=(100,), seeds=(0, 1)) if cell.model.name == "supervised")
    weights = sum(a * b for a, b in pairwise(cell.model.widths)) + sum(cell.model.widths[1:]) + 10
    data = zoo.load_dataset("digits")
    model, training = replace(cell.model, widths=(64, *cell.model.widths[1:])), replace(cell.training, dataset="digits")
    small = replace(cell, model=model, training=training)
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
