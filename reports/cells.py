"""From records, one row a seed, to cells: mean, standard deviation and n over seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.typing import SeriesGroupBy

from reports.inference import t_test
from reports.models import rank

CELL = ["dataset", "model", "labels"]
ATTACK = ["attack", "norm", "eps"]
KEYS = [*CELL, "measure", *ATTACK]
NORMS = ["clean", "L1-spread", "L1-pixel", "L2", "Linf"]
PAPER_EPS = 0.3
EARLY_STOPPED = "early_stopped_test_error"  # a measure of the report's own, from the history

PLAN = {"dataset": "str", "model": "str", "labels": "int64", "seed": "int64"}
HISTORY = {**PLAN, "epoch": "int64", "measure": "str", "value": "float64"}
RECORDS = {**HISTORY, "attack": "str", "norm": "str", "eps": "float64", "n": "int64", "subset": "str"}
TUNING = {
    **{"dataset": "str", "model": "str", "labels": "int64", "eps": "float64", "alpha": "float64"},
    **{"power_iterations": "int64", "updates": "int64", "seed": "int64", "measure": "str", "value": "float64"},
    "n": "int64",
}
EXAMPLES = {**PLAN, "eps": "float64", "example": "int64", "label": "int64", "predicted": "int64", "pixels": "str"}
MAY_BE_EMPTY = {"attack": "", "norm": "", "subset": ""}


def checked(frame: pd.DataFrame, columns: Mapping[str, str], name: str) -> pd.DataFrame:
    """The frame with exactly these columns and types; ValueError when one is missing.

    A frame without rows needs no columns. An empty text that a CSV file turned into NaN is empty again.
    """
    absent = [column for column in columns if column not in frame]
    if absent and len(frame):
        raise ValueError(f"{name}: expected the columns {', '.join(columns)}; missing: {', '.join(absent)}")
    filled = frame.reindex(columns=list(columns)).astype(object).fillna(MAY_BE_EMPTY)
    return filled.astype(dict(columns)).reset_index(drop=True)


def starting(texts: pd.Series, prefix: str | tuple[str, ...]) -> pd.Series:
    """Which of them start so; every text is looked at once, however often it occurs."""
    return texts.isin([text for text in texts.unique() if text.startswith(prefix)])


def band(groups: "SeriesGroupBy[Any, Any]") -> pd.DataFrame:
    """mean, lowest, highest and n of each group's values but NaN; no rounding takes a mean beyond its extremes."""
    found = pd.DataFrame(groups.agg(mean="mean", lowest="min", highest="max", n="count"))
    return found.assign(mean=found["mean"].clip(found["lowest"], found["highest"]))


def aggregate(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each value of `KEYS`: mean, sd (ddof 1), 95 % t-interval, n and diverged, counted in seeds.

    A seed whose value is not finite counts as diverged and enters neither mean nor sd; n counts the others.
    One seed has no sd (NaN). ValueError when a seed is recorded twice.
    """
    records = checked(records, RECORDS, "records")
    twice = records[records.duplicated([*KEYS, "seed"])]
    if len(twice):
        raise ValueError(f"records: {len(twice)} recorded twice, the first: {twice.iloc[0].to_dict()}")
    value = records["value"].where(np.isfinite(records["value"]))
    groups = records.assign(value=value).groupby(KEYS, dropna=False, sort=False)["value"]
    cells = groups.agg(mean="mean", sd="std", n="count", seeds="size").reset_index()
    cells["diverged"] = cells["seeds"] - cells["n"]
    test = t_test(cells["mean"], cells["sd"], cells["n"])
    cells = cells.assign(low=test.low, high=test.high)
    return ordered(cells[[*KEYS, "mean", "sd", "low", "high", "n", "diverged"]], KEYS)


def fast_gradient(records: pd.DataFrame) -> pd.DataFrame:
    """Records of the paper's attack alone, `fgm`: each norm at the paper's eps, or else at its largest."""
    there = records[records["attack"] == "fgm"]
    norm = ["dataset", "norm"]
    distance = (there["eps"] - PAPER_EPS).abs()
    as_paper = distance < 1e-9
    has_it = as_paper.groupby([there[name] for name in norm]).transform("any")
    largest = there.groupby(norm)["eps"].transform("max")
    return there[as_paper | (~has_it & (there["eps"] == largest))]


def clean(records: pd.DataFrame) -> pd.DataFrame:
    """The final test error as if it were an attack of norm "clean" and eps 0."""
    return records[records["measure"] == "test_error"].assign(norm="clean", eps=0.0)


def early_stopped(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Records of EARLY_STOPPED: each seed's test error after the epoch of its lowest validation error, the first such.

    The test set has no part in the choice of the epoch. Of a seed without a validation set there is none; an epoch
    whose validation error is not finite is chosen only where no other is there.
    """
    keys = [*CELL, "seed", "epoch"]
    validated, tested = (
        history[history["measure"] == measure][[*keys, "value"]] for measure in ("validation_error", "test_error")
    )
    epochs = validated.rename(columns={"value": "validation"}).merge(tested, on=keys)
    epochs["validation"] = epochs["validation"].where(np.isfinite(epochs["validation"]))
    stopped = epochs.sort_values(["validation", "epoch"], kind="stable").drop_duplicates([*CELL, "seed"])
    final = records[records["measure"] == "test_error"].drop(columns=["epoch", "value"])
    return final.merge(stopped, on=[*CELL, "seed"]).assign(measure=EARLY_STOPPED)[list(RECORDS)]


def broken_down(records: pd.DataFrame) -> pd.DataFrame:
    """The records, with no error of an earlier epoch of a seed whose last one is not finite: it enters no mean."""
    keys = [*CELL, "seed"]
    last = records[records["measure"] == "test_error"]
    lost = pd.MultiIndex.from_frame(last.loc[~np.isfinite(last["value"]), keys])
    earlier = records["measure"].isin([EARLY_STOPPED, "lowest_test_error"])
    gone = earlier & pd.MultiIndex.from_frame(records[keys]).isin(lost)
    return records.assign(value=records["value"].mask(gone))


def ordered(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sorted by these columns, models and norms in their fixed order."""

    def key(column: pd.Series) -> pd.Series:
        if column.name == "model":
            return column.map({m: i for i, m in enumerate(sorted(column.unique(), key=rank))})
        if column.name == "norm":
            return column.map({norm: i for i, norm in enumerate(norms(column))})
        return column

    return frame.sort_values(by, key=key, ignore_index=True, kind="stable")


def norms(column: pd.Series) -> list[str]:
    """The norms that occur, the known ones first in their fixed order."""
    return sorted(column.unique(), key=lambda n: (NORMS.index(n) if n in NORMS else len(NORMS), n))


def unended(records: pd.DataFrame, plan: pd.DataFrame) -> set[tuple[str, str, int]]:
    """The planned cells that lack the final test error of a seed."""
    ended = pd.MultiIndex.from_frame(records.loc[records["measure"] == "test_error", [*CELL, "seed"]])
    lacking = ~pd.MultiIndex.from_frame(plan[[*CELL, "seed"]]).isin(ended)
    return set(plan.loc[lacking, CELL].itertuples(index=False, name=None))


def shortfall(records: pd.DataFrame, plan: pd.DataFrame) -> list[str]:
    """A line for each planned cell that lacks a record of some seed: "vat, 50 labels, mnist: 1 of 3 seeds".

    A diverged seed is recorded, hence not missing.
    """
    done = records[[*CELL, "seed"]].drop_duplicates().assign(done=1)
    planned = plan.drop_duplicates().merge(done, how="left", on=[*CELL, "seed"])
    counts = planned.groupby(CELL, as_index=False).agg(done=("done", "count"), all=("seed", "size"))
    short = ordered(counts[counts["done"] < counts["all"]], CELL)
    return [
        f"{row.model}, {row.labels} labels, {row.dataset}: {row.done} of {row.all} seeds" for row in short.itertuples()
    ]
