"""What several test files need."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from golden_run import PROVENANCE, golden
from running import write_suite

import reports.report
from benchmark.command_line import main
from reports import render
from zoo import data

# Tensors this small wait for each other's threads: several times slower on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and their children, ignore it


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST, or a skip that says what is missing; on CI a missing MNIST is a failure."""
    folder = Path(os.environ.get("BENCHMARK_DATA") or data.cache()) / "MNIST" / "raw"
    missing = [file for file in data.FILES if not (folder / file).is_file()]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{folder} lacks {missing[0]}: set BENCHMARK_DATA")
    return data.load_dataset("mnist")


@pytest.fixture(scope="module")
def plain_pictures():
    """Figures that are not drawn, which would take most of a run's time here: for modules that look at other things."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports.report, "images", lambda draw, table, data: (b"png", b"pdf"))
        yield


@pytest.fixture(scope="session")
def files():
    """The report on the made-up run of `golden_run`: name -> bytes, its figures drawn."""
    return render(*golden(), PROVENANCE)


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("run", ...)` as if typed: exit code, lines of stdout, lines of stderr."""

    def typed(*arguments):
        monkeypatch.setattr("sys.argv", ["benchmark", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return typed


@pytest.fixture(scope="module")
def finished(plain_pictures, tmp_path_factory):
    """A complete run, in `run`, and its suite beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["benchmark", "run", "--suite", write_suite(folder), "--out", str(folder / "run")])
        main()
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of the complete run and its suite in the working directory: `tiny.toml`, `run`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"
