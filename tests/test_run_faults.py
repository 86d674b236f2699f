"""Suites in which some cells wait for `tune`, and terminals that cannot show everything."""

import io
import json

import pytest
from running import fails, results, trained, write_suite
from test_attack_command import BUDGET

from benchmark import speed

pytestmark = pytest.mark.usefixtures("plain_pictures")
UNCHOSEN = ('models = ["ladder", "vat"]', 'ranges = { rpt = [0.1, 1.0] }\nmodels = ["ladder", "rpt", "vat"]')
AUDIT = ("eps = [0.1]\n", f"eps = [0.1]\n{BUDGET}")


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
    suite = ("--suite", write_suite(tmp_path, UNCHOSEN), "--out", tmp_path / "speed", "--engine-mode", "eager")
    for models in ((), ("--models", "rpt")):
        fails(call("speed", *suite, *models), "no values for 'rpt' at 50 labels")
    code, out, err = call("speed", *suite, "--models", "vat", "--seeds", "1")
    assert (code, err) == (0, [])
    assert any(f"training 1 of 3 cells of {suite[1]}, engine, extrapolated: " in line for line in out)


@pytest.mark.parametrize("name", ["records.csv", "history.csv", "config.json"])
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
