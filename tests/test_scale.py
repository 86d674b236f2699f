"""Large plans: what the command line itself takes, in seconds of CPU time, so that a busy machine is no failure."""

import math
import time

import pandas as pd
import pytest

from benchmark.cell import configuration
from benchmark.estimate import Cost
from benchmark.publish import renew_report
from benchmark.store import HISTORY, RECORDS, write_json, write_table
from benchmark.suite import load_suite, plan
from zoo.data import load_dataset

FUSIONS = ("lvac", "lvac-lw", "lvan", "lvan-lw")
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


def records_of(cell, seeds):
    """As if the cell had been trained and attacked: measured nowhere."""
    of = [(0.1, 500, "abc")] * seeds
    rows = [(s, 10, m, "", "", math.nan, *of[s]) for s in range(seeds) for m in ("test_error", "lowest_test_error")]
    rows += [
        (s, 10, m, "fgm", n, 0.3, *of[s]) for s in range(seeds) for n in cell.attack.norms for m in ATTACKED
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(RECORDS)).astype(RECORDS)


def test_ten_thousand_cells_are_listed(tmp_path, call, monkeypatch):
    """In 1.5 s when written; twice the bar of 2 s is allowed here, so that only a change of order fails."""
    monkeypatch.setattr("benchmark.run.costs", lambda cells, data: [Cost(60.0, 2**30)] * len(cells))
    monkeypatch.setattr("benchmark.run.data_for", lambda cells, root, device: data)
    data = load_dataset("digits")
    suite = large(tmp_path, 1429, 2)
    started = time.process_time()
    code, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--devices", "100")
    assert (code, sum("to train" in line for line in out)) == (0, 10_003)
    assert out[-2] == "on 100 devices like this one, a cell on each: 16:50:00"
    assert time.process_time() - started < 4


@pytest.mark.slow
def test_ten_thousand_models_are_reported_on(tmp_path):
    suite = large(tmp_path, 3, 476)
    history = [(s, e, m, 0.1) for s in range(476) for e in range(1, 11) for m in ("test_error", "smoothness")]
    for cell in plan(load_suite(suite), suite):
        folder = tmp_path / "run/cells" / cell.name
        write_json(folder / "config.json", configuration(cell))
        write_table(folder / "records.csv", records_of(cell, 476), RECORDS)
        write_table(folder / "history.csv", pd.DataFrame(history, columns=list(HISTORY)).astype(HISTORY), HISTORY)
    started = time.process_time()
    renew_report(suite, tmp_path / "run")
    assert time.process_time() - started < 60
    assert "complete: 21 of 21 planned" in (tmp_path / "run/report/report.md").read_text()
