"""Large plans: what the command line itself takes, in seconds of CPU time, so that a busy machine is no failure."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from scale import enough, large, record, stub

from benchmark.estimate import Cost
from benchmark.plan import plan
from benchmark.progress import Progress
from benchmark.publish import renew_report
from benchmark.suite import load_suite

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def digits():
    return enough()


def test_ten_thousand_cells_are_listed(tmp_path, call, monkeypatch, digits):
    """In 0.9 s when written, where nothing else ran; the bar is 2 s."""
    monkeypatch.setattr("benchmark.todo.costs", lambda cells, *_: [Cost(60.0, 2**30)] * len(cells))
    monkeypatch.setattr("benchmark.options.load_dataset", lambda name, root: digits)
    suite = large(tmp_path, 1429, 2)
    started = time.process_time()
    code, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--devices", "100")
    assert (code, sum("to train" in line for line in out)) == (0, 10_003)
    assert out[-2] == "on 100 devices like this one, a cell on each: 16:50:00"
    assert time.process_time() - started < 2


def test_what_is_around_a_cell_is_less_than_a_hundredth_of_one(tmp_path, call, monkeypatch, digits):
    """Locks, messages, files: 14 ms of CPU time when written. The shortest cell of `quick` trains for 75 s."""
    monkeypatch.setattr("benchmark.run.run_cell", stub)
    monkeypatch.setattr("benchmark.run.renew_report", lambda *_: None)
    monkeypatch.setattr("benchmark.options.load_dataset", lambda name, root: digits)
    suite = large(tmp_path, 5, 2)
    started = time.process_time()
    code, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run")
    spent = time.process_time() - started
    assert (code, sum(line.endswith(": complete") for line in out)) == (0, 35)
    assert spent / 35 < 0.2 < 75 / 100


def test_the_live_table_of_many_cells_shows_those_under_way_and_counts_the_rest(tmp_path):
    suite = large(tmp_path, 15, 2)
    cells = plan(load_suite(suite), suite)
    progress = Progress(cells, ["complete"] * 5 + ["to train"] * 100)
    progress.change(cells[70], "training")
    progress.epoch(cells[70], 3, [0.1])
    progress.change(cells[60], "training")
    progress.change(cells[60], "complete")
    table = progress.table()
    names = list(table.columns[0].cells)
    assert (names[0], len(names)) == (cells[70].name, 40)
    assert table.caption == "and 65 more: 64 to train, 1 complete"
    few = Progress(cells[:40], ["to train"] * 40).table()
    assert (few.row_count, few.caption) == (40, None)


@pytest.mark.slow
@pytest.mark.parametrize(("counts", "seeds"), [(1429, 2), (3, 476)], ids=["10,003 cells", "9,996 models in 21 cells"])
def test_ten_thousand_are_reported_on_within_a_minute(tmp_path, digits, counts, seeds):
    suite = large(tmp_path, counts, seeds)
    for cell in plan(load_suite(suite), suite):
        record(cell, tmp_path / "run/cells" / cell.name, digits)
    started = time.process_time()
    renew_report(suite, tmp_path / "run")
    assert time.process_time() - started < 60
    page = (tmp_path / "run/report/report.md").read_text()
    assert f"training has ended: {7 * counts} of {7 * counts} planned" in page
    assert ("Shown are 10 of 1,429 label counts (digits: 50, " in page) == (counts > 10)
    assert len(pd.read_csv(tmp_path / "run/report/table1.csv")) == 2 * 7 * counts


@pytest.mark.slow
def test_a_large_plan_under_ray_with_a_stub_for_a_trainer():
    """What `python tests/scale.py` does for 10,003 cells, here for 105: all are run, none is left to do."""
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    command = [sys.executable, str(HERE / "scale.py"), "15"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0].startswith("105 cells listed in ")
    assert said[2].startswith("630 files in 105 folders, ")
    assert said[4].startswith("105 complete cells listed in ")
