"""This run against the published figures, cell by cell: difference, tests, verdict. Only MNIST was published."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from reports import logged, published
from reports.cells import PAPER_EPS, aggregate, fast_gradient, ordered
from reports.inference import LEVEL, holm, welch
from reports.layout import Table, cell, grid, interval, number, probability
from reports.section import Block, Run, Section

Row = dict[Hashable, Any]
RELATIVE_MARGIN, LEAST_MARGIN = 0.1, 0.002  # of the published mean; as a fraction of the images
SHORT = 0.9  # of the published updates: fewer are no reproduction
TOO_SHORT = (
    "**This run is too short to be a reproduction**: where it differs from the paper, the length of training may be "
    "the whole reason. "
)
NOTHING = "The published figures are MNIST's: nothing here compares with them."
CELLS = ["model", "labels"]
KEY = ["against", *CELLS, "norm"]
AGAINST = {
    "table1-lowest": "Table 1 as printed against this run's lowest error over evaluated epochs",
    "table1-final": "The released logs' final error against this run's final error",
    "table1-printed": "Table 1 as printed against this run's final error, where no final error was logged",
    "table2": "Table 2 as printed, its norms corrected, against this run's error under fgm at eps 0.3",
    "vat-paper": "The VAT paper's Tables 1 and 3 as printed against this run's final error",
}
CAPTION = (
    "Published: as printed; ours: mean ± standard deviation (ddof 1); n in brackets. Difference: ours minus published, "
    "with Welch's 95 % interval. p: Welch's t-test of no difference; TOST: p of two one-sided tests of a difference as "
    "large as the margin (in points). Both Holm-corrected over all cells of this comparison; the interval is of its "
    "cell alone, not corrected."
)
VERDICTS = (
    "Verdicts: reproduced where TOST's p is below 0.05; else differs where Welch's p is below 0.05; else undecided, as "
    "with a single seed. Margin: 10 % of the published mean, at least 0.2 points (two standard errors of an error of "
    "1 % on 10,000 images), and the half unit of the last printed digit that rounding may have moved it by."
)
DIVERGED = "(2/3): two of three seeds, the others diverged; tests and verdicts are of those that did not."
NOTES = {
    "table1-lowest": "The paper prints the lowest error over evaluated epochs, which selects on the test set: it is "
    "compared with the same of this run, and with its final error only where none was logged. Its caption calls the "
    "spread a standard error; the logs show it to be the standard deviation over runs with ddof 0, here converted to "
    "ddof 1.",
    "table1-final": "The logs (round first) are the runs behind Table 1, but six of ten for the Ladder at 50 labels. "
    "They lack VAT, and LVAC-LW and LVAN-LW at 1000 labels.",
    "table1-printed": "The printed error is the lowest over evaluated epochs, which no final error need reach: where "
    "this run's is larger, that choice may be the whole reason.",
    "table2": "The printed table exchanges its rows L1 and L2 (the abstract and the logs name as L2 what stands under "
    "L1); they are exchanged back here, and the paper's L1 step is L1-spread. Its spreads are standard deviations "
    "with ddof 1 by the logs, and n = 5, the seeds of every logged cell, is taken for all: the paper names none.",
    "vat-paper": "Spreads are standard deviations (section 4) of ten runs (60,000 labels) or three, taken for ddof 1: "
    "the paper does not say. Batch normalisation here has a scale at the logits alone, if it normalises them (see the "
    "provenance), and the virtual adversarial direction comes of exact Hessian products, the limit of the paper's xi "
    "to 0.",
}
UNTRACEABLE = (
    "† No verdict: the Ladder's {printed} % (L2, 50 labels) cannot be traced to the Ladder of Table 1. The attacked "
    "checkpoints have a clean error of {clean} % in the logs, against {table1} % in Table 1. Whether the Ladder's "
    "L1 and L-infinity figures at 50 labels are of the same checkpoints the logs do not say."
)


def section(run: Run) -> Section:
    """A table for each comparison and label count."""
    found = compare(run.records, run.plan, run.paper)
    tables = [_table(group, run.threat) for _, group in found.groupby(["against", "norm", "labels"], sort=False)]
    tables += logged.tables(run.records, run.plan, run.threat) if run.paper == "VAL" else []
    blocks: tuple[Block, ...] = (updates_said(found), *tables) if tables else (NOTHING,)
    return Section("comparison", "This run against the paper, cell by cell", blocks, found)


def compare(records: pd.DataFrame, plan: pd.DataFrame, paper: str = "VAL") -> pd.DataFrame:
    """A row for every cell that a paper published and this run has or plans, fractions throughout.

    n_published, n, difference (ours minus published), low, high, p, p_holm, margin, p_tost, p_tost_holm, updates,
    updates_published, verdict. The family of a correction is one comparison (`against`).
    """
    both = _published(paper).merge(_ours(records), how="left", on=KEY)
    cells = grid(plan, records)
    cells = cells.loc[cells["dataset"] == published.DATASET, ["model", "labels"]]
    # The families are the cells of this run: those it neither has nor plans are not asked about.
    both = both.merge(cells, on=["model", "labels"])
    counts = {name: both[name].fillna(0).astype("int64") for name in ("n", "diverged")}
    both = both.assign(dataset=published.DATASET, **counts)
    both = both.merge(_updates(plan), how="left", on=["model", "labels"])
    both["updates_published"] = both["labels"].map(_updates_published(paper))
    ours, theirs = (both["mean"], both["sd"], both["n"]), (both["published"], both["sd_published"], both["n_published"])
    test = welch(ours, theirs, both["margin"])
    both = both.assign(difference=test.estimate, low=test.low, high=test.high, p=test.p, p_tost=test.p_equivalence)
    asked = both["traceable"]
    for name in ("p", "p_tost"):
        both[f"{name}_holm"] = both[name].where(asked).groupby(both["against"]).transform(holm)
    both["verdict"] = [_verdict(row) for row in both.to_dict("records")]
    columns = [*KEY, "printed", "published", "sd_published", "n_published", "mean", "sd", "n", "diverged"]
    columns += [
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "margin",
        "p_tost",
        "p_tost_holm",
        "updates",
        "updates_published",
        "verdict",
    ]
    return pd.concat([ordered(both[both["against"] == against], ["norm", "labels", "model"]) for against in AGAINST])[
        columns
    ].reset_index(drop=True)


def updates_said(found: pd.DataFrame) -> str:
    """How long what has ended trained beside the paper's runs: a short run that differs refutes nothing."""
    ended = found[(found["n"] > 0) | (found["verdict"] == "diverged")]
    if not len(ended):
        return "No training that compares with the paper's has ended yet."
    pairs = ended[["labels", "updates", "updates_published"]].dropna().drop_duplicates().sort_values("labels")
    vat = (found["against"] == "vat-paper").any()
    of = "of the VAT paper" if vat else "of the released runs"
    if not len(pairs):
        theirs = " or ".join(f"{updates:,}" for updates in sorted(set(_updates_published("VAL").values())))
        said = "" if vat else f"; the released runs behind Table 1 took {theirs}"
        return f"How many updates this run took is not recorded{said}."
    parts = [
        f"{ours:,.0f} at {labels} labels, {100 * ours / theirs:.1f} % of the {theirs:,} {of}"
        for labels, ours, theirs in pairs.itertuples(index=False)
    ]
    text = f"The paper's text (250 epochs, unlabelled batch 100) amounts to {published.UPDATES_OF_TEXT:,}."
    text = "Appendix A and C name its updates." if vat else text
    short = (pairs["updates"] < SHORT * pairs["updates_published"]).any()
    return f"{TOO_SHORT if short else ''}Updates of this run: {'; '.join(parts)}. {text}"


def _updates_published(paper: str) -> dict[int, int]:
    return published.VAT_UPDATES if paper == "VAT" else published.updates()


def _published(paper: str) -> pd.DataFrame:
    """KEY, printed, published, sd_published (ddof 1), n_published, margin, traceable: as fractions."""
    logs = published.runs().query("round == 'first'").rename(columns={"final_mean": "mean", "final_sd": "sd"})
    printed = [
        cell(mean / 100, sd / 100, 2, 0, with_n=False) for mean, sd in zip(logs["mean"], logs["sd"], strict=True)
    ]
    own = published.vat().query("model != ''").drop(columns=["setting", "method"])
    sources = (
        [own.assign(against="vat-paper", norm="clean", traceable=True)]
        if paper == "VAT"
        else [
            published.table1().assign(against="table1-lowest"),
            published.table1().merge(logs[CELLS], how="left_anti", on=CELLS).assign(against="table1-printed"),
            logs.assign(against="table1-final", rounding=0.005, printed=printed),
            published.table2().assign(against="table2"),
        ]
    )
    table = pd.concat(sources, ignore_index=True).fillna({"norm": "clean", "traceable": True})
    table = table.assign(
        published=table["mean"] / 100, sd_published=table["sd"] / 100, rounding=table["rounding"] / 100
    )
    margin = np.maximum(LEAST_MARGIN, RELATIVE_MARGIN * table["published"]) + table["rounding"]
    kept = [*KEY, "printed", "published", "sd_published", "n_published", "margin", "traceable"]
    return table.assign(margin=margin, traceable=table["traceable"].astype(bool)).rename(
        columns={"runs": "n_published"}
    )[kept]


def _ours(records: pd.DataFrame) -> pd.DataFrame:
    """KEY, mean, sd, n, diverged of what compares with the published cells."""
    records = records[records["dataset"] == published.DATASET]
    attacked = fast_gradient(records)
    attacked = attacked[(attacked["measure"] == "attacked_error") & ((attacked["eps"] - PAPER_EPS).abs() < 1e-9)]
    lowest, final, under_attack = (
        aggregate(part)
        for part in (
            records[records["measure"] == "lowest_test_error"].assign(norm="clean"),
            records[records["measure"] == "test_error"].assign(norm="clean"),
            attacked,
        )
    )
    of = {"table1-lowest": lowest, "table2": under_attack}
    found = pd.concat([of.get(against, final).assign(against=against) for against in AGAINST])
    return found[[*KEY, "mean", "sd", "n", "diverged"]]


def _updates(plan: pd.DataFrame) -> pd.DataFrame:
    there = plan[plan["dataset"] == published.DATASET]
    return there.groupby(["model", "labels"])[["updates"]].max().reset_index()


def _verdict(row: Row) -> str:
    """What a cell's tests say."""
    if not row["traceable"]:
        return "untraceable †"
    if not row["n"]:
        return "diverged" if row["diverged"] > 0 else "not run"
    if row["p_tost_holm"] < LEVEL:
        return "reproduced"
    return "differs" if row["p_holm"] < LEVEL else "undecided"


def _table(group: pd.DataFrame, threat: str) -> Table:
    against, labels = str(group["against"].iloc[0]), int(group["labels"].iloc[0])
    shown = pd.DataFrame(
        [
            {
                "model": row["model"],
                "published": f"{row['printed']} ({row['n_published']})",
                "ours": cell(row["mean"], row["sd"], row["n"], row["diverged"]) or None,
                "difference [95 %]": _difference(row) if row["n"] else None,
                "p": probability(row["p_holm"]),
                "TOST (margin)": f"{probability(row['p_tost_holm'])} ({number(100 * row['margin'], 2)})",
                "verdict": row["verdict"],
            }
            for row in group.to_dict("records")
        ]
    )
    notes = [VERDICTS, NOTES[against]]
    if (group["diverged"] > 0).any():
        notes.append(DIVERGED)
    if (group["verdict"] == "untraceable †").any():
        notes.append(untraceable_said())
    caption = f"{CAPTION} {updates_said(group)} {threat if against == 'table2' else ''}".strip()
    norm = f"-{group['norm'].iloc[0]}" if against == "table2" else ""
    return Table(
        f"comparison-{against}{norm}-{labels}",
        f"{AGAINST[against]}{norm.replace('-', ', ', 1)}, {labels} labels, {published.DATASET}, error in %",
        shown,
        caption,
        (*notes, f"Source: {published.VAT_SOURCE if against == 'vat-paper' else published.SOURCE}."),
        folded=not group["n"].any(),
    )


def _difference(row: Row) -> str:
    bounds = interval(row["low"], row["high"])
    return f"{number(100 * row['difference'], 2, '+')} {bounds}"


def untraceable_said() -> str:
    """Why one printed cell has no verdict, from the published tables themselves."""
    key = "model == 'ladder' and labels == 50"
    printed = published.table2().query(f"{key} and norm == 'L2'")["mean"].item()
    clean = published.attacks().query(f"{key} and norm == 'L2'")["clean_error"]
    table1 = published.table1().query(key)["mean"].item()
    logged = f"{number(clean.mean(), 2)} ± {number(clean.std(), 2)}"
    return UNTRACEABLE.format(printed=f"{printed:g}", clean=logged, table1=number(table1, 2))
