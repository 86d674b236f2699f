"""Large plans with a stub for a trainer: `python tests/scale.py [LABEL_COUNTS]`, seven models at each count.

Lists the plan, runs it on a Ray cluster of this machine's cores, all but training and attacking as it is, and prints
what a cell, the folders and the report take. 1429 label counts are 10,003 cells.
"""

import contextlib
import math
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

import benchmark.run
from benchmark import options, workers
from benchmark.cell import configuration
from benchmark.command_line import main
from benchmark.store import HISTORY, RECORDS, made_by, note, write_json, write_table
from zoo.checkpoints import write_tensors
from zoo.data import load_dataset

ROOT = Path(__file__).parents[1]
SUITE = """description = "large"
dataset = "digits"
models = ["supervised", "vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw"]
widths = [200, 100, 10]
[training]
unlabelled_batch = 250
epochs = 10
decay_from = 8
[attack]
norms = ["L1-spread", "L1-pixel", "L2", "Linf"]
eps = [0.3]
"""
TUNED = """[hyperparameters.{}]
denoising_weights = [1000.0, 10.0]
eps = [1.0{}]
"""
ATTACKED = ("clean_error", "attacked_error", "zero_gradient_share", "nonfinite_gradient_share", "mean_norm_ratio")


def large(folder, counts, seeds):
    """A suite file of 7 models at so many label counts."""
    at = [f"[labels.{50 + 10 * k}]\nseeds = {[*range(seeds)]}\nlabelled_batch = 50\n" for k in range(counts)]
    tuned = [
        TUNED.format(name, ", 0.1" if name.endswith("lw") else "") for name in ("lvac", "lvac-lw", "lvan", "lvan-lw")
    ]
    tuned += ["[hyperparameters.vat]\neps = [1.0]\n", "[hyperparameters.ladder]\ndenoising_weights = [1000.0, 10.0]\n"]
    path = folder / "large.toml"
    path.write_text(SUITE + "".join(at + tuned))
    return str(path)


def enough():
    """The digits again and again, so that there are labels for 10,003 cells."""
    data = load_dataset("digits")
    return replace(data, images=data.images.repeat(40, 1), labels=data.labels.repeat(40))


def record(cell, folder, data):
    """The files of a cell as if it had been trained and attacked: made-up errors, checkpoints without weights."""
    draw, last = random.Random(cell.name), cell.training.epochs
    rows = [(s, last, m, "", "", math.nan) for s in cell.seeds for m in ("test_error", "lowest_test_error")]
    rows += [(s, last, m, "fgm", n, 0.3) for s in cell.seeds for n in cell.attack.norms for m in ATTACKED]
    errors = [(*row, draw.random(), 500, "abc") for row in rows]
    measures = [(s, e, m) for s in cell.seeds for e in range(1, last + 1) for m in ("test_error", "smoothness")]
    history = [(*row, draw.random()) for row in measures]
    write_json(folder / "config.json", configuration(cell))
    for seed in cell.seeds:
        write_tensors(folder / f"seed-{seed}.safetensors", {"nothing": torch.zeros(1)}, {"seed": seed})
    write_table(folder / "history.csv", pd.DataFrame(history, columns=list(HISTORY)).astype(HISTORY), HISTORY)
    for stage in ("training", "attack"):
        note(folder, {"stage": stage, "seeds": list(cell.seeds), "hours": 0.0, "sittings": [made_by(data)]})
    write_table(folder / "records.csv", pd.DataFrame(errors, columns=list(RECORDS)).astype(RECORDS), RECORDS)


def stub(cell, data, folder, listener, engine=None, *, fresh=False):
    """In the place of `run_cell`: tells and writes the same, trains nothing."""
    listener.change(cell, "training")
    for epoch in range(1, cell.training.epochs + 1):
        listener.epoch(cell, epoch, [0.5] * len(cell.seeds))
    listener.change(cell, "attacking")
    record(cell, folder, data)
    listener.change(cell, "complete")


def task(*arguments):
    """In the place of `on_ray.task`, on a node."""
    from benchmark import on_ray

    workers.run_cell = stub
    return on_ray.task(*arguments)


def typed(*arguments):
    """The command, its output into nothing; its last line, and its seconds of wall-clock and of this process."""
    data = enough()
    with (
        mock.patch.object(sys, "argv", ["benchmark", *map(str, arguments)]),
        mock.patch.object(options, "load_dataset", return_value=data),
        tempfile.TemporaryFile("w+") as said,
    ):
        wall, own = time.monotonic(), time.process_time()
        with contextlib.redirect_stdout(said):
            main()
        spent = time.monotonic() - wall, time.process_time() - own
        said.seek(0)
        return said.read().splitlines()[-1], *spent


def simulate(counts, folder):
    """What the plan takes: one fact a line."""
    from benchmark import on_ray

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # of the workers
    torch.set_num_threads(1)  # tensors this small wait for each other's threads
    run, suite, cells = folder / "run", large(folder, counts, 2), 7 * counts
    command = ("run", "--suite", suite, "--out", run)
    last, wall, own = typed(*command, "--dry-run")
    yield f"{cells} cells listed in {wall:.1f} s ({own:.1f} s of CPU time); {last}"
    reports = []

    def renew(*arguments):
        wall, own = time.monotonic(), time.process_time()
        report(*arguments)
        reports.append((time.monotonic() - wall, time.process_time() - own))

    report = benchmark.run.renew_report
    with mock.patch.object(on_ray, "task", task), mock.patch.object(benchmark.run, "renew_report", renew):
        _, wall, own = typed(*command, "--engine", "ray")
    wall_report, own_report = reports[0]
    wall, own = wall - wall_report, own - own_report
    each = f"{1000 * wall / cells:.1f} ms a cell, {1000 * own / cells:.1f} ms of the driver's CPU time"
    yield f"run in {wall:.1f} s, {each}"
    files = [path for path in (run / "cells").rglob("*") if path.is_file()]
    assert len({path.parent for path in files}) == cells
    size = sum(path.stat().st_size for path in files)
    yield f"{len(files)} files in {cells} folders, {size / 2**20:.0f} MiB without weights"
    size = sum(path.stat().st_size for path in (run / "report").iterdir())
    yield f"reported on in {wall_report:.1f} s ({own_report:.1f} s of CPU time), {size / 2**20:.0f} MiB"
    last, wall, own = typed(*command, "--dry-run")
    yield f"{cells} complete cells listed in {wall:.1f} s ({own:.1f} s of CPU time)"
    yield f"the driver's memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


if __name__ == "__main__":
    import scale  # by this name workers find it

    counts = int(sys.argv[1]) if len(sys.argv) > 1 else 1429
    with tempfile.TemporaryDirectory() as made:
        for line in scale.simulate(counts, Path(made)):
            print(line, flush=True)
