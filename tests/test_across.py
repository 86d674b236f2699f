"""All runs beside the paper: by which statistics each error is taken, and what of which run stands where."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports import Report, beside, published

NORMS = ("L1-spread", "L2", "Linf")
PLAN = ["dataset", "model", "labels", "seed"]


def records_of(models, kinds, seeds=(0, 1, 2), eps=(0.3,), labels=50, dataset="mnist"):
    """Errors drawn at random: of each model, without an attack and by each kind of statistics under one step."""
    rng = np.random.default_rng(5)
    rows = []
    for model, seed in itertools.product(models, seeds):
        rows.append((model, seed, "test_error", "", "", np.nan, rng.random()))
        for kind, norm, at in itertools.product(("fgm", *kinds), NORMS, eps):
            rows.append((model, seed, "attacked_error", kind, norm, at, rng.random()))
    columns = ["model", "seed", "measure", "attack", "norm", "eps", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(dataset=dataset, labels=labels, epoch=40, n=10_000, subset="")


def report_on(records, paper="VAL", updates=9600):
    plan = records[PLAN].drop_duplicates().assign(updates=updates)
    history = pd.DataFrame(columns=[*PLAN, "epoch", "measure", "value"])
    return Report.of(records, history, plan, {"suite": "made up", "paper": paper}, only=())


def table(reports, norm):
    """Of the printed table its head, and its rows by label count and model."""
    lines = beside(reports)[1][f"across-{norm}"].splitlines()
    head, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:20]))
    return head, {(int(row[0]), row[1]): dict(zip(head, row, strict=True)) for row in rows}


def text(records, model, attack, norm):
    """Mean and standard deviation in %, by hand."""
    chosen = records.query("model == @model and attack == @attack and norm == @norm and eps == 0.3")["value"]
    return f"{100 * np.mean(chosen):.2f} ± {100 * np.std(chosen, ddof=1):.2f}"


TRIED = ("statistics/labelled", "statistics/training", "statistics/batch")
OTHERS = ("statistics/unlabelled", "statistics/training", "statistics/batch")  # of a model whose own are the labelled


@pytest.mark.parametrize("norm", NORMS)
def test_by_the_statistics_of_the_papers_figures(norm):
    """Averages over labelled images, tried or a model's own; of VAT those of training."""
    ours, theirs = records_of(["vat", "lvac"], TRIED, eps=(0.1, 0.3)), records_of(["lvac"], OTHERS)
    head, rows = table({"ours": report_on(ours), "theirs": report_on(theirs)}, norm)
    assert head == ["labels", "model", "printed", "ours", "theirs"]
    assert rows[50, "vat"]["ours"].removesuffix(" ≠") == text(ours, "vat", "statistics/training", norm)
    assert rows[50, "lvac"]["ours"].removesuffix(" ≠") == text(ours, "lvac", "statistics/labelled", norm)
    assert rows[50, "lvac"]["theirs"].removesuffix(" ≠") == text(theirs, "lvac", "fgm", norm)
    assert rows[50, "vat"]["theirs"] == rows[100, "lvac"]["ours"] == "-"


def test_every_printed_figure_has_its_row_and_the_ladder_of_other_checkpoints_its_mark():
    pieces = beside({"ours": report_on(records_of(["lvac"], TRIED))})[1]
    _, rows = table({"ours": report_on(records_of(["lvac"], TRIED))}, "L2")
    printed = published.table2().query("norm == 'L2'").set_index(["labels", "model"])["printed"]
    assert {place: row["printed"].removesuffix(" †") for place, row in rows.items()} == printed.to_dict()
    assert [place for place, row in rows.items() if row["printed"].endswith("†")] == [(50, "ladder")]
    assert ["†" in pieces[f"across-{norm}"] for norm in NORMS] == [False, True, False]


def test_runs_in_the_order_of_what_they_have_and_only_such_as_compare():
    """Not a run of the VAT paper's systems, nor one without other statistics, nor other data; n where seeds differ."""
    runs = {
        "a-little": report_on(records_of(["lvac"], OTHERS, seeds=(3,)), updates=60_000),
        "most": report_on(records_of(["vat", "lvac"], TRIED)),
        "none": report_on(records_of(["lvac"], ())),
        "vat-paper": report_on(records_of(["vat"], TRIED), paper="VAT"),
        "digits": report_on(records_of(["lvac"], TRIED, dataset="digits")),
    }
    head, rows = table(runs, "Linf")
    assert head == ["labels", "model", "printed", "most", "a-little"]
    assert rows[50, "lvac"]["most"].removesuffix(" ≠").endswith(" (3)")
    assert rows[50, "lvac"]["a-little"].removesuffix(" ≠").endswith(" (1)")
    said = beside(runs)[1]["across-Linf"]
    assert "Updates: the released runs 60,000 or 100,000; a-little 60,000; most 9,600." in said


def test_what_is_not_as_printed_is_marked():
    """By SciPy: several seeds by Welch's test, one by the t-test of one value against five; where it can be traced."""
    norm, seeds = "L2", [0, 1, 2]
    printed = published.table2().query("norm == @norm").set_index(["labels", "model"])
    several, one = {}, {}
    for (labels, model), of in printed.iterrows():
        shift = 0.01 * (1 + labels / 500) * of["sd"]
        several[labels, model] = [of["mean"] / 100 + shift * (k + 3 * (model == "vat")) for k in (0.0, 0.3, 0.6)]
        one[labels, model] = [of["mean"] / 100 + 3.0 * shift]
    runs = {}
    for name, values in (("several", several), ("one", one)):
        frames = []
        for (labels, model), of in values.items():
            kinds = ("statistics/training",) if model == "vat" else ("statistics/labelled",)
            frame = records_of([model], kinds, seeds=seeds[: len(of)], labels=labels)
            at = frame["attack"].isin(kinds) & (frame["norm"] == norm)
            frames.append(frame.assign(value=frame["value"].where(~at, frame["seed"].map(dict(enumerate(of))))))
        runs[name] = report_on(pd.concat(frames))
    _, rows = table(runs, norm)
    marks = {"several": set(), "one": set()}
    for place, of in printed.iterrows():
        theirs = {"mean2": of["mean"] / 100, "std2": of["sd"] / 100, "nobs2": of["runs"]}
        mean, sd = np.mean(several[place]), np.std(several[place], ddof=1)
        p = stats.ttest_ind_from_stats(mean, sd, 3, **theirs, equal_var=False).pvalue
        p_one = 2 * stats.t.sf(abs(one[place][0] - theirs["mean2"]) / theirs["std2"] / np.sqrt(1 + 1 / 5), 4)
        for name, value in (("several", p), ("one", p_one)):
            expected = value < 0.05 and bool(of["traceable"])
            assert rows[place][name].endswith(" ≠") == expected, (place, name)
            marks[name].add(expected)
    assert marks == {"several": {True, False}, "one": {True, False}}


@pytest.mark.parametrize(
    "runs", [{}, {"none": records_of(["lvac"], ())}, {"digits": records_of(["vat"], TRIED, dataset="digits")}]
)
def test_where_nothing_compares_there_is_no_table(runs):
    assert beside({name: report_on(records) for name, records in runs.items()}) == ({}, {})
