"""No more cells at once than there is memory for, in made-up amounts."""

import math
import resource
from dataclasses import replace

import pytest
import torch
from running import cells_of, fails, write_suite

from benchmark import memory
from benchmark.cell import run_cell
from benchmark.estimate import costs, least, size
from benchmark.memory import at_once, available, fitting, granted
from benchmark.speed import begin
from zoo.data import load_dataset
from zoo.errors import BadInput

GIB = 2**30
NEEDS = [2 * GIB, GIB, 4 * GIB, GIB]


@pytest.mark.parametrize(
    ("jobs", "left", "most"),
    [(4, 8, 4), (4, 7.9, 3), (3, 7, 3), (4, 6.9, 2), (4, 5.9, 1), (4, 0, 1), (1, 8, 1), (9, 99, 4), (2, math.inf, 2)],
)
def test_the_largest_cells_fit_together_and_one_always_runs(jobs, left, most):
    assert at_once(jobs, NEEDS, left * GIB) == most


def test_fewer_than_asked_for_are_announced(monkeypatch, capsys):
    data, cells = load_dataset("digits"), cells_of("smoke", labels=(50,))[:3]
    monkeypatch.setattr(memory, "of_process", lambda: 3 * GIB + size(data))
    monkeypatch.setattr(memory, "bytes_of", lambda cells, data: [GIB] * len(cells))
    monkeypatch.setattr(memory, "free", lambda device: 8.5 * GIB)
    assert fitting(5, cells, data) == 2
    assert capsys.readouterr().out == (
        "--jobs 5: a cell takes up to 4.00 GiB of memory, 8.50 GiB are free, hence 2 at once\n"
    )
    assert fitting(2, cells, data) == 2
    assert fitting(1, cells, data) == 1
    monkeypatch.setattr(memory, "free", lambda device: 12.0 * GIB)
    assert fitting(5, cells, data) == 3
    assert capsys.readouterr().out == ""


def test_what_a_cell_takes_is_the_estimate_of_a_dry_run():
    data, cells = load_dataset("digits"), cells_of("smoke", labels=(50,))[:2]
    assert memory.bytes_of(cells, data) == [cost.bytes for cost in costs(cells, data)]


def test_a_run_starts_as_many_workers_as_fit(tmp_path, call, monkeypatch):
    def refuse(count, job):
        raise BadInput(f"{count} workers, {job.threads} threads")

    monkeypatch.setattr("benchmark.run.Workers", refuse)
    command = ("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--jobs", "2")
    threads = max(1, torch.get_num_threads() // 2)  # with less memory too: results depend on them
    for left, workers, said in ((0.0, 1, True), (math.inf, 2, False)):
        monkeypatch.setattr(memory, "free", lambda device, left=left: left)
        code, out, err = call(*command)
        assert (code, err) == (2, [f"error: {workers} workers, {threads} threads"])
        assert any(line.startswith("--jobs 2: a cell takes up to ") for line in out) == said


@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")])
def test_seeds_that_no_memory_here_can_hold_are_refused_before_any_cell_trains(tmp_path, call, monkeypatch, jobs):
    """Without a process of its own for each cell, the machine would be the one that dies."""
    monkeypatch.setattr(memory, "whole", lambda device: 2.0**38)
    wide = ("[20, 15, 10]", "[9000, 9000, 10]"), ("seeds = [0, 1]", f"seeds = {[*range(1000)]}")
    command = ("run", "--suite", write_suite(tmp_path, *wide), "--out", tmp_path / "run", *jobs)
    fails(call(*command), "ladder-50: 1000 seeds at once take at least ", " GiB of memory", "--seeds")
    assert not (tmp_path / "run").exists()


def test_seeds_that_fill_a_node_are_refused_there(tmp_path, monkeypatch):
    cell = cells_of("smoke", labels=(50,))[0]
    monkeypatch.setattr(memory, "whole", lambda device: 1000.0)
    with pytest.raises(BadInput, match=f"{cell.name}: .* GiB in all: give fewer with --seeds"):
        run_cell(cell, load_dataset("digits"), tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_the_least_a_seed_takes_is_the_estimate_without_the_backward_pass():
    for cell in cells_of("smoke", labels=(50,)):
        training = begin(replace(cell, seeds=cell.seeds[:1]), load_dataset("digits"), "eager")
        own = 4 * sum(each.nbytes for each in training.model.parameters()) + training.flat_noise.nbytes
        assert least(cell.model, cell.training.labelled_batch, cell.training.unlabelled_batch) == own


def test_the_machines_free_memory_is_linuxs_estimate(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    3000 kB\n")
    assert available(tmp_path / "meminfo") == 3000 * 1024
    assert available(tmp_path / "meminfo", "MemTotal:") == 8000 * 1024
    assert available(tmp_path / "none") == math.inf


def test_a_batch_systems_limit_counts_wherever_it_is_set(tmp_path):
    (tmp_path / "own").write_text("3:memory:/old\n0::/batch/job\n")
    job = tmp_path / "root/batch/job"
    job.mkdir(parents=True)
    assert granted(tmp_path / "own", tmp_path / "root") == math.inf
    for group, most, current in ((job, "max", 100), (job.parent, "5000", 3000)):
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text(f"{current}\n")
    (job.parent / "memory.stat").write_text("anon 2000\ninactive_file 700\n")
    assert granted(tmp_path / "own", tmp_path / "root") == 5000 - 3000 + 700
    (job / "memory.max").write_text("1500\n")
    assert granted(tmp_path / "own", tmp_path / "root") == 1400
    assert granted(tmp_path / "own", tmp_path / "root", memory._most) == 1500
    assert granted(tmp_path / "none", tmp_path / "root") == math.inf


@pytest.mark.skipif(not memory.PROC.is_dir(), reason="this system has no /proc: it does not tell")
def test_this_process_has_what_the_kernel_counts():
    assert 0 < memory.free(torch.device("cpu")) <= memory.whole(torch.device("cpu"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.2 * peak < memory.of_process() <= 1.01 * peak
