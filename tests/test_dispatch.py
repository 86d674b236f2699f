"""Cells given out: who is tried again, what is given up and said, and that nobody waits for anybody's death."""

import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from running import cells_of

from benchmark.dispatch import AGAIN_S, Change, End, Epoch, dispatch, failure
from benchmark.locks import Held, alone
from benchmark.workers import Job, Workers
from zoo.errors import BadInput

VAT, LADDER = (
    next(cell for cell in cells_of("smoke", labels=(50,)) if cell.model.name == n) for n in ("vat", "ladder")
)


class Scripted:
    """A pool in which each attempt at a cell ends as written; it runs `room` at once."""

    def __init__(self, room, **script):
        self.room, self.script = room, {name.replace("_", "-"): list(ends) for name, ends in script.items()}
        self.running, self.begun = [], []

    def free(self):
        return len(self.running) < self.room

    def start(self, cell):
        assert self.free()
        self.running.append(cell)
        self.begun.append(cell.name)

    def events(self, wait_s):
        cells, self.running = self.running, []
        for cell in cells:
            yield cell, Change("training")
            yield cell, Epoch(1, [0.5])
            yield cell, self.script[cell.name].pop(0)


class Told:
    """A listener that remembers."""

    def __init__(self):
        self.lines = []

    def change(self, cell, state):
        self.lines.append(f"{cell.name}: {state}")

    def epoch(self, cell, epoch, errors):
        self.lines.append(f"{cell.name}: {epoch} {errors}")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Nobody waits a second for a cell that is held."""
    monkeypatch.setattr("benchmark.dispatch.AGAIN_S", 0.001)
    assert AGAIN_S >= 0.5


@pytest.mark.parametrize("room", [1, 2])
def test_a_cell_whose_worker_died_is_tried_once_more(tmp_path, room):
    pool = Scripted(room, vat_50=[End("died", "killed"), End("done")], ladder_50=[End("done")])
    told = Told()
    assert dispatch([VAT, LADDER], pool, told, tmp_path) == {}
    assert sorted(pool.begun) == ["ladder-50", "vat-50", "vat-50"]
    assert "vat-50: once more, killed" in told.lines
    assert "vat-50: 1 [0.5]" in told.lines
    assert not list(tmp_path.rglob("*.json"))


def test_after_the_second_death_the_reason_is_recorded_and_the_rest_goes_on(tmp_path):
    pool = Scripted(1, vat_50=[End("died", "one"), End("died", "two\nlines")], ladder_50=[End("done")])
    assert dispatch([VAT, LADDER], pool, Told(), tmp_path) == {"vat-50": "two\nlines"}
    assert pool.begun == ["vat-50", "vat-50", "ladder-50"]
    assert json.loads((tmp_path / "cells/vat-50/failed.json").read_text()) == {"reason": "two\nlines"}
    assert failure(tmp_path / "cells/vat-50") == "two lines"
    assert failure(tmp_path / "cells/ladder-50") is None


def test_what_the_user_must_mend_is_not_tried_twice(tmp_path):
    pool = Scripted(1, vat_50=[End("refused", "damaged")], ladder_50=[End("done")])
    assert dispatch([VAT, LADDER], pool, Told(), tmp_path) == {"vat-50": "damaged"}
    assert pool.begun == ["vat-50", "ladder-50"]


def test_a_full_disk_ends_the_run(tmp_path):
    pool = Scripted(1, vat_50=[End("stop", "no space left on device")], ladder_50=[End("done")])
    with pytest.raises(OSError, match="no space left on device"):
        dispatch([VAT, LADDER], pool, Told(), tmp_path)
    assert pool.begun == ["vat-50"]


def test_a_held_cell_is_taken_last_and_its_holder_is_named_once(tmp_path):
    held = End("held", "process 7 on there")
    pool = Scripted(1, vat_50=[held, held, held, End("done")], ladder_50=[End("done")])
    told = Told()
    assert dispatch([VAT, LADDER], pool, told, tmp_path) == {}
    assert pool.begun == ["vat-50", "ladder-50", "vat-50", "vat-50", "vat-50"]
    assert told.lines.count("vat-50: waiting, process 7 on there has it") == 1


def test_what_failed_is_not_written_where_another_is_at_work(tmp_path):
    with alone(tmp_path / "cells/vat-50"):
        assert dispatch([VAT], Scripted(1, vat_50=[End("refused", "no")]), Told(), tmp_path) == {"vat-50": "no"}
    assert failure(tmp_path / "cells/vat-50") is None
    assert dispatch([VAT], Scripted(1, vat_50=[End("refused", "no")]), Told(), tmp_path) == {"vat-50": "no"}
    assert failure(tmp_path / "cells/vat-50") == "no"


def test_a_cell_whose_folder_is_a_link_fails_alone(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/vat-50").symlink_to(tmp_path)
    pool = Scripted(2, vat_50=[End("refused", "a link")], ladder_50=[End("done")])
    assert dispatch([VAT, LADDER], pool, Told(), tmp_path) == {"vat-50": "a link"}
    assert not (tmp_path / "failed.json").exists()


def test_a_worker_that_begins_hears_no_interrupt(monkeypatch):
    """A Ctrl-C goes to all processes of a terminal; one that is still importing would answer with a traceback."""
    heard = []

    class Process:
        def __init__(self, **_):
            pass

        def start(self):
            heard.append(signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []))
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError("no process")

    monkeypatch.setattr("multiprocessing.context.SpawnContext.Process", Process)
    with pytest.raises(KeyboardInterrupt):  # after, and though it could not be started
        Workers(1, Job(Path("run"), None, "cpu", None, False, 1, ())).begin()
    assert heard == [False]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ten_thousand_cells_cost_little_to_give_out(tmp_path):
    cells = [replace(VAT, training=replace(VAT.training, labels=50 + 10 * k)) for k in range(10_000)]
    pool = Scripted(16, **{cell.name: [End("done")] for cell in cells})
    assert dispatch(cells, pool, Told(), tmp_path) == {}
    assert pool.begun == [cell.name for cell in cells]


# ------------------------------------------------------------------------------------------------------- locks


def test_two_are_never_in_one_folder(tmp_path):
    with alone(tmp_path / "cell"):
        with pytest.raises(Held, match=r"^process \d+ on "), alone(tmp_path / "cell"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "cell"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cell", "other"]


def test_who_comes_in_finds_no_part_of_a_file(tmp_path):
    (tmp_path / "records.csv.123.partial").write_text("half")
    (tmp_path / "records.csv").write_text("whole")
    with alone(tmp_path):
        assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == ["records.csv"]


def test_who_waits_says_for_whom(tmp_path, capsys):
    with alone(tmp_path, wait=True):
        assert capsys.readouterr().out == ""
        waiting = threading.Thread(target=lambda: alone(tmp_path, wait=True).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert re.fullmatch(rf"waiting for {tmp_path}, process \d+ on .* has it\n", capsys.readouterr().out)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path):
        raise ZeroDivisionError
    with alone(tmp_path):
        assert (tmp_path / "lock").is_file()


def test_a_link_out_of_the_run_is_refused(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "cell").symlink_to(tmp_path / "away")
    with pytest.raises(BadInput, match="is a link"), alone(tmp_path / "cell"):
        pass
    assert not list((tmp_path / "away").iterdir())
