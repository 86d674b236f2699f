"""A cell on a node that sees no shared folder: what it sends home, without a cluster."""

import errno
import sys
from pathlib import Path

import pytest
from running import VAT_ONLY, cells_of, files, results, write_suite

from benchmark.cell import changed_since
from benchmark.dispatch import Epoch
from benchmark.workers import Job
from zoo.data import load_dataset
from zoo.denormals import flushing

pytestmark = pytest.mark.usefixtures("plain_pictures")


class Post:
    """A mailbox that needs no cluster: what a task sends is unpacked at once; its node dies after so many epochs."""

    def __init__(self, home, epochs=99):
        self.home, self.left, self.put = home, epochs, self

    def remote(self, number, letter):
        from benchmark import on_ray

        if isinstance(letter, on_ray.Parcel):
            on_ray.unpack(letter, self.home)
        elif isinstance(letter, Epoch):
            self.left -= 1
            if not self.left:
                raise SystemExit


def sent_home(cell, home, monkeypatch, *, fresh=False, epochs=99):
    """An attempt at a cell by a node that sees no shared folder; None where the node died."""
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    from benchmark import on_ray

    monkeypatch.setattr(on_ray.ray, "get", lambda it: it)
    job = Job(home.parents[1], None, "cpu", None, fresh, 1, sys.argv)
    files = on_ray.packed(home)
    try:
        with flushing():  # which a task's process keeps
            return on_ray.task(cell, job, load_dataset("digits"), 1, Post(home, epochs), files)
    except SystemExit:
        return None


def test_started_over_elsewhere_a_cell_is_never_new_beside_old_records(copy, call, monkeypatch):
    """After whatever is written or deleted at home: a driver may be killed there."""
    suite = write_suite(copy.parent, VAT_ONLY, ("eps = [1.0]", "eps = [2.0]"))
    (cell,), home = cells_of(suite), copy.resolve() / "cells/vat-50"
    old, mixed = (home / "records.csv").read_bytes(), []

    def watched(change):
        def changing(path, *args, **options):
            done = change(path, *args, **options)
            records = home / "records.csv"
            stale = [*home.glob("seed-*"), records] if records.is_file() and records.read_bytes() == old else []
            mixed.extend(stale if changed_since(cell, home) is None else [])
            return done

        return changing

    assert changed_since(cell, home)
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    assert sent_home(cell, home, monkeypatch, fresh=True, epochs=1) is None
    assert changed_since(cell, home) is None
    assert not list(home.glob("seed-*"))
    assert sent_home(cell, home, monkeypatch, fresh=True).how == "done"
    assert mixed == []
    assert call("run", "--suite", suite, "--out", "anew")[0] == 0
    assert results(home) == results(Path("anew/cells/vat-50"))


def test_a_cell_that_failed_and_is_finished_elsewhere_has_failed_no_more(copy, monkeypatch):
    (cell,), home = cells_of(write_suite(copy.parent, VAT_ONLY)), copy.resolve() / "cells/vat-50"
    before = files(home)
    (home / "failed.json").write_text('{"reason": "the worker was killed"}')
    assert sent_home(cell, home, monkeypatch).how == "done"
    assert files(home) == before


def test_a_full_disk_of_a_node_is_no_end_of_the_run(copy, monkeypatch):
    """The cell is tried elsewhere; what it had is at home."""
    (cell,), home, whole = (
        cells_of(write_suite(copy.parent, VAT_ONLY)),
        copy.resolve() / "cells/vat-50",
        Path.write_bytes,
    )
    (home / "seed-1.safetensors").unlink()
    before = files(home)

    def full(path, content):
        if path.name.startswith("seed-1") and home not in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    end = sent_home(cell, home, monkeypatch)
    assert end.how == "died"
    assert "No space left on device" in end.reason
    assert before.items() <= files(home).items()
    monkeypatch.setattr(Path, "write_bytes", whole)
    assert sent_home(cell, home, monkeypatch).how == "done"
