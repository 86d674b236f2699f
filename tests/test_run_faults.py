"""Suites in which some cells wait for `tune`, and terminals that cannot show everything."""

import errno
import io
import json
import os
import subprocess
import sys

import pytest
from running import AUDIT, VAT_ONLY, fails, results, trained, write_suite

from benchmark import speed
from zoo.compiler import compiler_fault

pytestmark = pytest.mark.usefixtures("plain_pictures")
UNCHOSEN = ('models = ["ladder", "vat"]', 'ranges = { rpt = [0.1, 1.0] }\nmodels = ["ladder", "rpt", "vat"]')


def test_what_is_chosen_runs_and_is_attacked_before_the_rest_is(tmp_path, call):
    suite = ("--suite", write_suite(tmp_path, UNCHOSEN, AUDIT), "--out", tmp_path / "run")
    for whole in ((), ("--models", "rpt"), ("--models", "vat,rpt"), ("--dry-run",)):
        fails(call("run", *suite, *whole), "no values for 'rpt' at 50 labels", "`tune --suite")
    fails(call("run", *suite, "--models", "rpt", "--dry-run"), "no values for 'rpt' at 50 labels")
    code, out, err = call("run", *suite, "--models", "ladder,vat", "--no-audit")
    assert (code, err, trained(out)) == (0, [], ["ladder-50", "vat-50"])
    assert json.loads((tmp_path / "run/suite.json").read_text())["cells"].keys() == {"ladder-50", "vat-50"}
    fails(call("attack", *suite, "--models", "rpt"), "no values for 'rpt' at 50 labels")
    for models in (("--models", "vat"), ()):
        code, out, err = call("attack", *suite, *models)
        assert (code, err) == (0, [])
    assert "ladder-50: complete" in out
    assert ",transfer/ladder," in (tmp_path / "run/cells/vat-50/records.csv").read_text()


def test_what_is_chosen_is_timed_before_the_rest_is(tmp_path, call, monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "STEPS", {"cpu": 1})
    (tmp_path / "disk").mkdir()
    (tmp_path / "speed").symlink_to(tmp_path / "disk")
    suite = ("--suite", write_suite(tmp_path, UNCHOSEN), "--out", tmp_path / "speed", "--engine-mode", "eager")
    for models in ((), ("--models", "rpt")):
        fails(call("speed", *suite, *models), "no values for 'rpt' at 50 labels")
    code, out, err = call("speed", *suite, "--models", "vat", "--seeds", "1")
    assert (code, err) == (0, [])
    assert any(f"training 1 of 3 cells of {suite[1]}, engine, extrapolated: " in line for line in out)


def full(*_):
    """A compiler whose folder is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("compiler", "fault"),
    [
        (None, "found no C++ compiler"),
        ("/bin/g++", "compiling fails, OSError: [Errno 28] No space left on device"),
    ],
)
def test_without_a_compiler_that_works_steps_are_eager_and_it_is_said(tmp_path, call, monkeypatch, compiler, fault):
    suite = ("--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    monkeypatch.setattr("zoo.training.WORTH_COMPILING", 1)
    monkeypatch.setattr("torch.compile", full)
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    compiler_fault.cache_clear()
    try:
        fails(call("run", *suite, "--engine-mode", "compiled"), f"--engine-mode compiled: {fault}; ", "or use eager")
        assert not (tmp_path / "run").exists()
        code, out, err = call("run", *suite)
    finally:
        compiler_fault.cache_clear()
    assert (code, err, trained(out)) == (0, [], ["vat-50"])
    assert out.count(f"vat-50: eager steps, as {fault}") == 1
    noted = json.loads((tmp_path / "run/cells/vat-50/provenance.json").read_text())["stages"][0]
    assert [sitting["engine"] for sitting in noted["sittings"]] == ["eager"]


def test_a_broken_compiler_is_found_out_by_trying():
    """Torch asks for CXX once a process, as it is imported."""
    code = "from zoo.compiler import compiler_fault; print(compiler_fault())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"CXX": "false"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("compiling fails, InductorError: InvalidCxxCompiler: No working C++ compiler found")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["records.csv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("history.csv", "config.json"))]
)
def test_a_cell_that_cannot_be_read_fails_and_the_rest_goes_on(copy, call, name):
    """Where cells have processes of their own; a configuration that was changed is still refused before any begins."""
    damaged, other = copy / "cells/vat-50" / name, copy / "cells/ladder-50"
    sound, wanted = damaged.read_bytes(), results(other)
    damaged.write_bytes(b"\xff\x00garbage\n")
    for path in (other / "records.csv", other / "seed-1.safetensors", copy / "cells/vat-50/seed-1.safetensors"):
        path.unlink()
    command = ("run", "--suite", write_suite(copy.parent, AUDIT), "--out", "run", "--jobs", "1", "--no-audit")
    outcome = call(*command)
    fails(outcome, "1 of 2 cells failed: vat-50 (", damaged.name, "is not readable", code=1)
    assert "vat-50: failed" in outcome[1]
    assert "is not readable" in json.loads((damaged.parent / "failed.json").read_text())["reason"]
    assert results(other) == wanted
    damaged.write_bytes(sound)
    fails(call(*command, "--precision", "bfloat16"), "training.precision")
    assert call(*command)[0] == 0
    assert not (damaged.parent / "failed.json").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_lacks_characters_is_shown_the_rest(tmp_path, call, monkeypatch, encoding):
    shown = io.BytesIO()
    stream = io.TextIOWrapper(shown, encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    code, _, err = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--dry-run")
    stream.flush()
    assert (code, err) == (0, [])
    assert b"? vat-50" in shown.getvalue()
