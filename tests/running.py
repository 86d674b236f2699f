"""A suite of a second, what its run leaves, and what was said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from benchmark.plan import plan
from benchmark.suite import load_suite
from benchmark.tune import with_any_eps

ROOT = Path(__file__).parents[1]
TINY = """description = "A run of a second"
dataset = "digits"
models = ["ladder", "vat"]
widths = [20, 15, 10]
[labels.50]
seeds = [0, 1]
labelled_batch = 50
[model]
power_iterations = 1
[hyperparameters.vat]
eps = [1.0]
[training]
unlabelled_batch = 200
epochs = 2
decay_from = 1
smoothness_images = 100
[attack]
norms = ["L2", "Linf"]
eps = [0.1]
"""
BUDGET = """
[attack.audit]
images = 30
steps = 4
restarts = 1
more_steps = 6
more_restarts = 1
minimum_norm_steps = 10
decision_images = 3
decision_steps = 1
noise_draws = 1
eps = { L2 = [0.5, 5.0], Linf = [0.1, 1.0] }
"""
VAT_ONLY = ('["ladder", "vat"]', '["vat"]')
AUDIT = ("eps = [0.1]\n", f"eps = [0.1]\n{BUDGET}")


def write_suite(folder, *changes):
    """The tiny suite with (old, new) pieces of text exchanged; its path as it is typed."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


def cells_of(name, **chosen):
    """The cells of a suite, with some eps where it is for `tune` to choose one."""
    return plan(with_any_eps(load_suite(name)), name, **chosen)


def files(folder, *patterns):
    """Relative path -> content of every file."""
    found = [path for pattern in patterns or ("*",) for path in folder.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def results(folder):
    """Everything that a run's numbers are in."""
    return files(folder, "records.csv", "history.csv", "seed-*.safetensors")


def trained(lines):
    """The cells that trained, from what was printed."""
    return [line.split(":")[0] for line in lines if line.endswith(": training")]


def stages(cell):
    """What was done to a cell, with which seeds."""
    noted = json.loads((cell / "provenance.json").read_text())["stages"]
    return [(stage["stage"], stage["seeds"]) for stage in noted]


def fails(outcome, *said, code=2):
    """One line on stderr, begun with `error: `, that says all of this; no traceback."""
    got, out, err = outcome
    assert (got, len(err)) == (code, 1), err
    assert err[0].startswith("error: ")
    for piece in said:
        assert str(piece) in err[0]
    assert not any("Traceback" in line for line in out)


def typed(*arguments, **options):
    """A run of the command in a process of its own, its output read line by line."""
    command = [sys.executable, "-u", "-m", "benchmark", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def said_by(child):
    """(exit code, lines of stdout, lines of stderr) to its end."""
    out, err = child.communicate()
    return child.returncode, out.splitlines(), err.splitlines()


def until(child, pattern):
    """Read what a child prints up to a line."""
    for line in child.stdout:
        if re.search(pattern, line):
            return
    raise AssertionError(f"{pattern} was not printed: {child.stderr.read()}")


def records(folder):
    """A cell's records as a table."""
    return pd.read_csv(folder / "records.csv", keep_default_na=False, na_values={"eps": [""], "value": ["nan"]})
