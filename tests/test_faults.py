"""Killed, out of disk, two at once: nothing finished is lost or done twice; the bytes are the same."""

import errno
import functools
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from running import ROOT, VAT_ONLY, fails, files, results, said_by, stages, typed, until, write_suite

import benchmark.cell
from benchmark.locks import alone

pytestmark = pytest.mark.usefixtures("plain_pictures")

SIX = (("epochs = 2", "epochs = 6"), ("decay_from = 1", "decay_from = 4"))
LONG = (("epochs = 2", "epochs = 60"), ("decay_from = 1", "decay_from = 40"))


def worker_of(cell):
    """The process that has a cell, from its lock."""
    return int(re.match(r"process (\d+) on ", (cell / "lock").read_text())[1])


# ------------------------------------------------------------------------------------------------- killed


@pytest.mark.slow
def test_killed_at_thirty_moments_and_run_again(tmp_path):
    suite, kills = write_suite(tmp_path, VAT_ONLY, *SIX), 30
    command = [sys.executable, "-W", "error", "faults.py", suite, tmp_path, str(kills)]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT / "tests", capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = results(tmp_path / "undisturbed")
    assert len(wanted) == 4
    reports = files(tmp_path / "undisturbed/report", "table1.csv", "smoothness.csv", "report.md").keys()
    for index, trial in enumerate(trials):
        run = tmp_path / f"killed-{index}"
        assert trial["code"] == 0, trial
        assert results(run) == wanted
        assert not [path for path in files(run) if re.search(r"partial|lock|state\.", path)]
        assert files(run / "report").keys() >= reports
        began = trial["there"].pop("report")
        for cell, was in trial["there"].items():
            epochs = [int(line.split()[2]) for line in trial["said"] if line.startswith(f"{cell}: epoch")]
            assert epochs == ([] if was["trained"] else list(range(was["epoch"] + 1, 7)))
            assert (f"{cell}: attacking" in trial["said"]) == (not was["attacked"])
        if began:
            assert not [line for line in trial["said"] if "training" in line or "attacking" in line]
    assert len(trials) == kills
    assert [trial["killed"] for trial in trials].count(-signal.SIGKILL) > kills * 0.6
    seen = [was for trial in trials for was in trial["there"].values()]
    assert any(0 < was["epoch"] < 6 for was in seen)
    assert any(was["trained"] and not was["attacked"] for was in seen)
    assert any(was["attacked"] for was in seen)


@pytest.mark.slow
def test_a_killed_worker_costs_a_cell_an_attempt_and_the_run_nothing(tmp_path):
    suite, run = write_suite(tmp_path, *LONG), tmp_path / "run"
    command = ("run", "--suite", suite, "--out", run, "--jobs", "2")
    with typed(*command) as child:
        until(child, "vat-50: epoch 3 ")
        os.kill(worker_of(run / "cells/vat-50"), signal.SIGKILL)
        until(child, r"vat-50: once more, the worker was killed \(SIGKILL\)")
        until(child, "vat-50: epoch 3 ")
        os.kill(worker_of(run / "cells/vat-50"), signal.SIGKILL)
        outcome = said_by(child)
    fails(outcome, "1 of 2 cells failed: vat-50 (the worker was killed (SIGKILL): out of memory?)", code=1)
    assert "vat-50: failed" in outcome[1]
    assert not (run / "cells/ladder-50/failed.json").exists()
    assert "vat-50: the worker was killed (SIGKILL)" in (run / "report/report.md").read_text()
    looked = said_by(typed(*command, "--dry-run"))
    assert any(line.startswith("vat-50 failed: the worker was killed") for line in looked[1])
    code, out, err = said_by(typed(*command))
    assert (code, err) == (0, [])
    assert not [line for line in out if line.startswith("ladder-50")]
    assert not (run / "cells/vat-50/failed.json").exists()
    assert "Failed" not in (run / "report/report.md").read_text()
    assert said_by(typed("run", "--suite", suite, "--out", tmp_path / "alone"))[0] == 0
    assert results(run) == results(tmp_path / "alone")


@pytest.mark.slow
def test_workers_end_with_their_run_and_the_next_one_goes_on(tmp_path):
    suite, run = write_suite(tmp_path, *LONG), tmp_path / "run"
    command = ("run", "--suite", suite, "--out", run, "--jobs", "2")
    with typed(*command) as child:
        until(child, "vat-50: epoch 3 ")
        orphan = worker_of(run / "cells/vat-50")
        child.kill()
    code, _, err = said_by(typed(*command))
    assert (code, err) == (0, [])
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)
    assert {path.name for path in (run / "cells/vat-50").iterdir()} == {
        "config.json", "history.csv", "provenance.json", "records.csv", "seed-0.safetensors", "seed-1.safetensors",
    }  # fmt: skip


@pytest.mark.slow
def test_two_runs_on_one_folder_do_nothing_twice(tmp_path):
    suite, run = write_suite(tmp_path, *LONG), tmp_path / "run"
    command = ("run", "--suite", suite, "--out", run)
    with typed(*command) as first, typed(*command, "--jobs", "2") as second:
        outcomes = [said_by(second), said_by(first)]
    assert [(code, err) for code, _, err in outcomes] == [(0, []), (0, [])]
    for cell in ("ladder-50", "vat-50"):
        assert stages(run / "cells" / cell) == [("training", [0, 1]), ("attack", [0, 1])]
    assert said_by(typed("run", "--suite", suite, "--out", tmp_path / "alone"))[0] == 0
    assert results(run) == results(tmp_path / "alone")
    assert files(run / "report", "table1.csv") == files(tmp_path / "alone/report", "table1.csv")


@pytest.mark.parametrize("jobs", [(), pytest.param(("--jobs", "1"), marks=pytest.mark.slow)])
def test_a_run_takes_other_cells_and_then_waits_for_what_is_held(tmp_path, jobs):
    suite, run = write_suite(tmp_path), tmp_path / "run"
    with alone(run / "cells/ladder-50"):
        child = typed("run", "--suite", suite, "--out", run, *jobs)
        until(child, f"ladder-50: waiting, process {os.getpid()} on .* has it")
        until(child, "vat-50: complete")
        assert not (run / "cells/ladder-50/config.json").exists()
    code, out, err = said_by(child)
    assert (code, err) == (0, [])
    assert "ladder-50: complete" in out
    assert len(results(run)) == 8


# ---------------------------------------------------------------------------------------------- the disk


@pytest.mark.slow
def test_a_full_disk_at_any_write_is_one_line_and_loses_nothing(tmp_path, call, monkeypatch):
    suite = write_suite(tmp_path, VAT_ONLY)
    monkeypatch.setattr(benchmark.cell, "train", functools.partial(benchmark.cell.train, save_every_s=0))
    assert call("run", "--suite", suite, "--out", tmp_path / "undisturbed")[0] == 0
    wanted, whole, run = results(tmp_path / "undisturbed"), Path.write_bytes, tmp_path / "run"
    for full_at in itertools.count(1):
        count = itertools.count(1)

        def half(path, content, count=count, full_at=full_at):
            if next(count) == full_at:
                whole(path, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(path, content)

        monkeypatch.setattr(Path, "write_bytes", half)
        outcome = call("run", "--suite", suite, "--out", run)
        if outcome[0] == 0:
            break
        fails(outcome, "No space left on device", run)
        assert not list(run.rglob("*.partial"))
    assert full_at > 5  # each attempt came further than the one before
    assert results(run) == wanted


@pytest.mark.slow
def test_a_full_disk_ends_a_run_of_workers(tmp_path, call):
    """A limit on the size of files is the disk that is full: workers inherit it, and a checkpoint does not fit."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)); sys.argv[0] = 'benchmark';"
        "from benchmark.command_line import main; main()"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-c", code, "run", "--suite", write_suite(tmp_path, VAT_ONLY), "--out", run]
    done = subprocess.run(
        [*map(str, command), "--jobs", "1"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    fails((done.returncode, done.stdout.splitlines(), done.stderr.splitlines()), "File too large", run / "cells/vat-50")
    assert not list(run.rglob("*.partial"))


# ------------------------------------------------------------------------------------- clock and permissions


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, call, finished, monkeypatch):
    """Whoever asked the time of day would wait, or save, or count hours, to the wrong side."""
    hours, saved, whole = itertools.count(1), [], Path.write_bytes
    monkeypatch.setattr(time, "time", lambda: 2e9 - 3600.0 * next(hours))
    monkeypatch.setattr(time, "time_ns", lambda: int(2e18 - 3.6e12 * next(hours)))
    monkeypatch.setattr(benchmark.cell, "train", functools.partial(benchmark.cell.train, save_every_s=1e-9))
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: (saved.append(path.name), whole(path, content))[1])
    assert call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run")[0] == 0
    assert results(tmp_path / "run") == results(finished / "run")
    assert sum(name.startswith("state.safetensors") for name in saved) == 2  # after the first of two epochs, both cells
    for cell in ("ladder-50", "vat-50"):
        noted = json.loads((tmp_path / "run/cells" / cell / "provenance.json").read_text())["stages"]
        assert all(0 < stage["hours"] < 0.1 for stage in noted)


@pytest.mark.parametrize("given", ["XDG_CACHE_HOME", "HOME"])
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, call, monkeypatch, given):
    """In /proc not even root can make a folder. torchvision is a stand-in: beside a torch of another build it fails."""
    fetch = SimpleNamespace(MNIST=lambda root, download: (Path(root) / "MNIST").mkdir(parents=download))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=fetch))
    for name in ("BENCHMARK_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(given, "/proc/self")
    with pytest.raises(OSError, match="/proc/self/nothing"):
        Path("/proc/self/nothing").mkdir()
    suite = write_suite(tmp_path, ('"digits"', '"mnist"'), ("[20, 15, 10]", "[20, 10]"))
    fails(
        call("run", "--suite", suite, "--out", tmp_path / "run"),
        "mnist could not be downloaded",
        "/proc/self",
        "--data",
    )
    assert not (tmp_path / "run").exists()


UNPRIVILEGED = """
import contextlib, io, json, os, sys
from benchmark.command_line import main
import reports.report

def say(line):
    sys.argv = ["benchmark", *line]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue().splitlines(), err.getvalue().splitlines()]))

reports.report.images = lambda draw, table, data: (b"png", b"pdf")
first, *rest = json.loads(sys.argv[1])
say(first)  # imports what may be closed to others
if os.getuid() == 0:  # whom no permission binds
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for line in rest:
    say(line)
"""


def test_without_permission_there_is_one_line_and_what_is_there_stays(copy, call):
    """The folder is the caller's, others may read: as another user where the caller is root, else read-only."""
    (copy / "cells/vat-50/records.csv").unlink()
    there = [copy.parent, *copy.parent.rglob("*")]
    for path in there:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files(copy)
    suite = ("--suite", "tiny.toml", "--out")
    looking = ("run", *suite, "run", "--dry-run")
    lines = [looking, ("run", *suite, "new"), ("run", *suite, "run"), ("report", *suite, "run"), looking]
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, json.dumps(lines)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=copy.parent,
    )  # fmt: skip
    for path in there:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    before_it, new, run, report, looked = map(json.loads, done.stdout.splitlines())
    fails(new, "Permission denied", "new")
    fails(run, "Permission denied", "run")
    fails(report, "Permission denied", "run")
    assert before_it[::2] == looked[::2] == [0, []]
    assert files(copy) == before
    assert not Path("new").exists()
    assert call("run", *suite, "run")[0] == 0
