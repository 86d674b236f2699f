"""`run --fresh`: what was changed is started over, and nothing else."""

import errno
from pathlib import Path

import pytest
from running import fails, files, results, stages, write_suite

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.mark.parametrize("jobs", [(), pytest.param(("--jobs", "1"), marks=pytest.mark.slow)])
def test_fresh_starts_over_what_was_changed_and_nothing_else(copy, call, jobs):
    before = files(copy / "cells")
    suite = write_suite(copy.parent, ("eps = [1.0]", "eps = [2.0]"))  # of vat alone
    fails(call("run", "--suite", suite, "--out", "run"), "vat-50", "model.hyperparameters", "--fresh")
    looked = call("run", "--suite", suite, "--out", "run", "--fresh", "--dry-run")[1]
    assert "to start over" in "\n".join(looked).split("vat-50")[1].splitlines()[0]
    assert "complete" in "\n".join(looked).split("ladder-50")[1].splitlines()[0]
    assert files(copy / "cells") == before
    code, _, err = call("run", "--suite", suite, "--out", "run", "--fresh", *jobs)
    assert (code, err) == (0, [])
    after = files(copy / "cells")
    assert {name for name in before if after[name] != before[name]} == {n for n in before if n.startswith("vat-50")}
    assert stages(copy / "cells/vat-50") == [("training", [0, 1]), ("attack", [0, 1])]
    assert call("run", "--suite", suite, "--out", "anew")[0] == 0
    assert results(copy) == results(Path("anew"))
    assert "nothing to do" in call("run", "--suite", suite, "--out", "run", "--fresh")[1][0]


def test_starting_over_half_done_is_still_refused_without_being_told(copy, call, monkeypatch):
    suite = write_suite(copy.parent, ("eps = [1.0]", "eps = [2.0]"))
    first = Path.unlink

    def fail(path, missing_ok=False):
        if path.name == "history.csv":
            raise OSError(errno.EIO, "Input/output error", str(path))
        first(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fail)
    fails(call("run", "--suite", suite, "--out", "run", "--fresh"), "history.csv")
    monkeypatch.setattr(Path, "unlink", first)
    assert not (copy / "cells/vat-50/records.csv").exists()
    fails(call("run", "--suite", suite, "--out", "run"), "model.hyperparameters", "--fresh")
    assert call("run", "--suite", suite, "--out", "run", "--fresh")[0] == 0
