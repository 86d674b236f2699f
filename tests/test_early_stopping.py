"""Early stopping: the epoch by validation error alone, against a loop over made-up histories."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from synthetic import error

from reports import render
from reports.cells import EARLY_STOPPED, early_stopped
from reports.report import prepared

pytestmark = pytest.mark.usefixtures("plain_pictures")

NOTHING = pd.DataFrame()
TITLE = "Test error in %, early stopping, mnist"


def epochs(model, seed, validated, tested):
    """The history of a seed: its errors after epochs 1, 2, ..."""
    where = {"dataset": "mnist", "model": model, "labels": 100, "seed": seed}
    return [
        where | {"epoch": epoch, "measure": measure, "value": value}
        for measure, values in (("validation_error", validated), ("test_error", tested))
        for epoch, value in enumerate(values, start=1)
    ]


def finals(histories):
    """The records of the last epoch's test error."""
    return [
        error(model, seed, tested[-1], labels=100, dataset="mnist", epoch=len(tested), n=200)
        for (model, seed), (_, tested) in histories.items()
    ]


def stopped(histories):
    run = prepared(
        pd.DataFrame(finals(histories)),
        pd.DataFrame([row for key, errors in histories.items() for row in epochs(*key, *errors)]),
        pd.DataFrame(columns=["dataset", "model", "labels", "seed"]),
        {},
    )
    return run.records[run.records["measure"] == EARLY_STOPPED].set_index(["model", "seed"])


def test_the_epoch_is_that_of_the_lowest_validation_error():
    rng = np.random.default_rng(3)
    histories = {
        (model, seed): (rng.integers(0, 12, 9) / 100, rng.random(9))
        for model in ("vat", "rpt", "supervised")
        for seed in (0, 1, 5)
    }
    found = stopped(histories)
    assert len(found) == len(histories)
    for key, (validated, tested) in histories.items():
        best = next(epoch for epoch, value in enumerate(validated) if value == min(validated))
        assert (found.loc[key, "epoch"], found.loc[key, "value"]) == (best + 1, tested[best])
        assert (found.loc[key, "n"], found.loc[key, "subset"], found.loc[key, "attack"]) == (200, "abc", "")


@pytest.mark.parametrize(
    ("validated", "epoch"),
    [
        ([0.3, 0.1, 0.1, 0.2], 2),
        ([0.3, math.nan, 0.2, math.inf], 3),
        ([math.nan] * 4, 1),
    ],
    ids=["the first of several", "never one that diverged", "unless nothing else is there"],
)
def test_ties_and_divergence(validated, epoch):
    found = stopped({("vat", 0): (validated, [0.4, 0.3, 0.2, 0.1])})
    assert (found.loc[("vat", 0), "epoch"], found.loc[("vat", 0), "value"]) == (epoch, 0.5 - epoch / 10)


def test_the_test_set_has_no_part_in_it():
    validated, tested = [0.3, 0.1, 0.2], [0.5, 0.4, 0.0]
    assert stopped({("vat", 0): (validated, tested)}).loc[("vat", 0), "value"] == 0.4


def test_without_validation_images_or_a_history_there_is_none():
    history = pd.DataFrame([row for row in epochs("vat", 0, [0.1], [0.2]) if row["measure"] == "test_error"])
    records = pd.DataFrame(finals({("vat", 0): ([0.1], [0.2])}))
    assert early_stopped(records, history).empty
    for frames in ((records, history), (records, NOTHING)):
        files = render(*frames, NOTHING, {})
        assert "early stopping" not in files["report.md"].decode()


def test_table_pairs_and_findings_show_it():
    histories = {
        ("vat", 0): ([0.1, 0.2], [0.05, 0.9]),
        ("vat", 1): ([0.2, 0.1], [0.9, 0.07]),
        ("rpt", 0): ([0.1, 0.2], [0.10, 0.9]),
        ("rpt", 1): ([0.1, 0.2], [0.14, 0.9]),
    }
    history = pd.DataFrame([row for key, errors in histories.items() for row in epochs(*key, *errors)])
    files = render(pd.DataFrame(finals(histories)), history, NOTHING, {"paper": "VAT"})
    page = files["report.md"].decode()
    block = page.split(f"### {TITLE}\n")[1].split("<details>")[0]
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in block.splitlines() if line.startswith("|")
    }
    assert rows["vat"] == "6.00 ± 1.41", "the mean and sd of 5 and 7"
    assert rows["rpt"] == "12.00 ± 2.83", "the mean and sd of 10 and 14"
    pairs = pd.read_csv(io.BytesIO(files["pairs.csv"])).query(f"measure == '{EARLY_STOPPED}'").iloc[0]
    order = 1 if pairs["a"] == "rpt" else -1
    assert order * pairs["difference"] == pytest.approx(0.06)
    said = next(line for line in page.splitlines() if "(early stopping)" in line and line.startswith("- VAT"))
    # differences -5 and -7 points: their mean, and t(0.975, 1) = 12.7062 times the standard error of 1
    assert "vat minus rpt -6.00 (95 % interval [-18.71, 6.71], p 0.105)" in said
