"""A program that is killed at random moments, and afterwards typed again: `faults.py SUITE FOLDER KILLS`.

Modules are imported once; each run is a fork. Prints one JSON line a trial: what was there when it was killed, and what
the same command did then.
"""

import contextlib
import functools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import benchmark.cell
import reports.report
from benchmark.command_line import main
from zoo.checkpoints import read_tensors

WRITES = 40  # of an undisturbed run: states, checkpoints, records, report
torch.set_num_threads(1)
benchmark.cell.train = functools.partial(benchmark.cell.train, save_every_s=0)
reports.report.images = lambda draw, table, data: (b"png", b"pdf")


def dying_at(write):
    """`Path.write_bytes` that writes half at its n-th call, and kills its process."""
    whole, count = Path.write_bytes, iter(range(1, 1000))

    def half(path, content):
        if next(count) == write:
            whole(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(path, content)

    return half


def forked(suite, folder, kill_after=None, kill_at=None):
    """Run in a child that is killed after so many seconds, or in its so many-th write; its output and exit code."""
    said = folder.with_suffix(".out")
    child = os.fork()
    if child == 0:
        if kill_at is not None:
            Path.write_bytes = dying_at(kill_at)
        sys.argv = ["benchmark", "run", "--suite", suite, "--out", str(folder)]
        with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            code = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)  # the moment, not a wait for something
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said.read_text().splitlines(), status


def there(folder):
    """Of each cell: epochs saved, seeds trained, whether attacked; and whether a report is begun."""
    found = {"report": (folder / "report").is_dir()}
    for cell in (folder / "cells").glob("*"):
        state, records = cell / "state.safetensors", cell / "records.csv"
        text = records.read_text() if records.is_file() else ""
        epoch = read_tensors(state)[1]["epoch"] if state.is_file() else 0
        found[cell.name] = {"epoch": epoch, "trained": text.count(",test_error,"), "attacked": "attacked_error" in text}
    return found


def trials(suite, folder, kills):
    """Undisturbed once, for the time it takes; then run, killed and run again: by the clock, or within a write."""
    forked(suite, folder / "warm")
    started = time.monotonic()
    forked(suite, folder / "undisturbed")
    whole, draw = time.monotonic() - started, random.Random(0)
    for index in range(kills):
        run = folder / f"killed-{index}"
        moment = {"kill_after": draw.uniform(0, whole)} if index % 2 else {"kill_at": draw.randint(1, WRITES)}
        _, killed = forked(suite, run, **moment)
        found = there(run)
        said, code = forked(suite, run)
        print(json.dumps({"killed": killed, "there": found, "said": said, "code": code}), flush=True)


if __name__ == "__main__":
    trials(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
