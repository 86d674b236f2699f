"""All runs side by side: what the paper prints under attack, and what each run has in its place."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reports import normalised, published
from reports.cells import PAPER_EPS, aggregate, ordered
from reports.inference import LEVEL, one_of, welch
from reports.layout import Table, pivot, seeds_named
from reports.section import Run, Section

HEADING = "All runs beside the paper"
CAPTION = (
    "Error in % under one step of the fast gradient method, as printed (its norms corrected) and as each run has it, "
    "by the test-time statistics of the paper's own figures: averages over labelled images alone, for VAT those of "
    "the batch, with noise, as it is in training. {seeds}; '-': not run, or not by these statistics. Whether one step "
    "is enough to be believed is not asked here: see each run's audit."
)
DIFFERS = (
    "≠: not as printed, p below 0.05 in Welch's t-test with the printed mean and spread of {runs} runs; of a single "
    "seed in the t-test of one value against those, as if drawn like them. Not corrected for their number. What has no "
    "mark may still differ: few seeds show little."
)
UNTRACEABLE = "† Of checkpoints that are not Table 1's: see the comparison in a run's report."


def section(runs: Mapping[str, Run]) -> Section:
    """A table a norm: rows label counts and models, columns what is printed and the runs, those with most rows first.

    `runs`: by name; those of the VAL paper's systems that have errors by other test-time statistics than their own.
    Without one there is no table.
    """
    errors = {name: as_the_paper(run.records) for name, run in runs.items() if run.paper == "VAL"}
    means = [aggregate(own).assign(run=name) for name, own in errors.items() if len(own)]
    if not means:
        return Section("across", HEADING, ())
    found = pd.concat(means)
    length = [updates(name, runs[name].plan) for name in found["run"].unique()]
    printed = " or ".join(f"{count:,}" for count in sorted(set(published.updates().values())))
    note = f"Updates: the released runs {printed}; {'; '.join(length)}."
    return Section("across", HEADING, tuple(tables(found, note)), found)


def as_the_paper(records: pd.DataFrame) -> pd.DataFrame:
    """Errors at the paper's eps by the statistics of its figures: a model's own where those were not tried besides."""
    tested = records["measure"].isin(["attacked_error", "test_error"]) & (records["dataset"] == published.DATASET)
    found = normalised.compared(records[tested])
    found = found[(found["measure"] == "attacked_error") & ((found["eps"] - PAPER_EPS).abs() < 1e-9)]
    of_vat = {of_vat: normalised.PREFIX + kind for kind, of_vat, _ in normalised.AS_THE_PAPER}
    tried = found["attack"] == (found["model"] == "vat").map(of_vat)
    missing = ~tried.groupby([found["model"], found["labels"]]).transform("any")
    return found[tried | (missing & (found["attack"] == f"{normalised.PREFIX}own"))].assign(attack="fgm")


def updates(name: str, plan: pd.DataFrame) -> str:
    """How long a run's models trained: "standard 9,600"."""
    counts = np.unique(plan.loc[plan["updates"] > 0, "updates"])
    return f"{name} {' or '.join(f'{count:,.0f}' for count in counts)}"


def tables(found: pd.DataFrame, note: str) -> list[Table]:
    """For each norm of the paper, of what `aggregate` made of the runs."""
    result = []
    for norm, printed in published.table2().groupby("norm", sort=False):
        printed = ordered(printed, ["labels", "model"])
        there = found[found["norm"] == norm].merge(printed[["labels", "model"]])
        most = there["run"].value_counts()
        runs = sorted(most.index, key=lambda run: (-most[run], run))
        wide = pivot(there, ["labels", "model"], "run").reindex(columns=runs)
        wide += differing(there, printed).pivot(index=["labels", "model"], columns="run", values="mark")[runs]
        marked = printed["printed"] + np.where(printed["traceable"], "", " †")
        frame = printed[["labels", "model"]].assign(printed=marked).join(wide, on=["labels", "model"])
        notes = [DIFFERS.format(runs=" or ".join(map(str, printed["runs"].unique()))), note]
        notes += [] if printed["traceable"].all() else [UNTRACEABLE]
        title, caption = (
            f"{HEADING}, {norm} {PAPER_EPS:g}, {published.DATASET}",
            CAPTION.format(seeds=seeds_named(there)),
        )
        result.append(Table(f"across-{norm}", title, frame, caption, tuple(notes), keys=2))
    return result


def differing(there: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Means of runs, of `aggregate`, with a column `mark`: whether one is not as printed, where that can be asked."""
    both = there.merge(printed, on=["labels", "model"], suffixes=("", "_printed"))
    theirs = both["mean_printed"] / 100, both["sd_printed"] / 100, both["runs"]
    of_several = welch((both["mean"], both["sd"], both["n"]), theirs, np.nan)
    p = np.where(both["n"] == 1, one_of(both["mean"], *theirs).p, of_several.p)
    return both.assign(mark=np.where((p < LEVEL) & both["traceable"], " ≠", ""))
