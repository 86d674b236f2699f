"""Table 1 (test error) and Table 2 (error under attack, with its audit)."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from reports.cells import CELL, aggregate, ordered, shortfall
from reports.layout import Table, grid, pivot, seeds_named
from reports.models import styles

CLEAN = {
    "test_error": ("Test error in %, final epoch", "The error of the model as it stands after its last epoch"),
    "lowest_test_error": (
        "Test error in %, lowest over evaluated epochs",
        "Lowest over evaluated epochs (selects on the test set; comparison with the paper's printed Table 1 only)",
    ),
}
ERRORS = {"attacked_error": "attacked", "clean_error": "clean"}
AUDIT: dict[str, tuple[str, Literal["min", "max"]]] = {  # measure -> its name, and the worst of several
    "zero_gradient_share": ("zero gradient, %", "max"),
    "mean_norm_ratio": ("least ‖δ‖ / eps", "min"),
    "short_share": ("shorter than eps, %", "max"),
}


def table1(records: pd.DataFrame, plan: pd.DataFrame) -> list[Table]:
    """For each data set the final and the lowest test error: rows models, columns label counts."""
    records = records[records["measure"].isin(CLEAN)]
    tables = []
    for dataset, planned in grid(plan, records).groupby("dataset"):
        for measure, (title, caption) in CLEAN.items():
            there = records[(records["dataset"] == dataset) & (records["measure"] == measure)]
            found = aggregate(there)
            frame = pivot(found, ["model"], "labels")
            frame = frame.reindex(index=list(styles(planned["model"])), columns=sorted(planned["labels"].unique()))
            frame.columns = pd.Index([f"{count} labels" for count in frame.columns])
            tables.append(
                Table(
                    f"{title}, {dataset}",
                    frame.reset_index(names="model"),
                    f"{caption}. {seeds_named(found)}{_images(there)}.",
                    tuple(shortfall(there, plan[plan["dataset"] == dataset])),
                )
            )
    return tables


def table2(records: pd.DataFrame, plan: pd.DataFrame) -> list[Table]:
    """For each data set and attack the error with the clean error of the same checkpoints, and the audit."""
    records = records[records["measure"].isin([*ERRORS, *AUDIT])]
    tables = []
    for (dataset, attack), there in records.groupby(["dataset", "attack"]):
        planned = plan[plan["dataset"] == dataset]
        cells = grid(planned, there)
        errors = pd.concat([_clean(there), there[there["measure"] == "attacked_error"]])
        found = aggregate(errors)
        rows = [(count, *setting) for count in sorted(cells["labels"].unique()) for setting in _settings(found)]
        frame = _rows(found, cells, ["labels", "norm", "eps"], rows)
        tables.append(
            Table(
                f"Error under attack in %, {attack}, {dataset}",
                frame.assign(eps=frame["eps"].map(lambda eps: f"{eps:g}" if eps else "")),
                f"Above the attacked errors stands the clean error of the same checkpoints. {seeds_named(found)}"
                f"{_images(there)}.",
                tuple(_attacks_missing(there, planned)),
            )
        )
        if there["measure"].isin(AUDIT).any():
            worst = aggregate(pd.concat([_worst(there, measure, of) for measure, (_, of) in AUDIT.items()]))
            checks = [(count, measure) for count in sorted(cells["labels"].unique()) for measure in AUDIT]
            frame = _rows(worst, cells, ["labels", "measure"], checks)
            tables.append(
                Table(
                    f"Attack audit, {attack}, {dataset}",
                    frame.assign(measure=frame["measure"].map(lambda name: AUDIT[name][0])),
                    "Share of images whose gradient is exactly zero (the attack leaves them alone and the model "
                    "looks robust), mean realised norm ‖δ‖ over eps, and share of perturbations shorter than eps; "
                    f"each the worst over all norms and eps. {seeds_named(worst)}.",
                )
            )
    return tables


def _clean(there: pd.DataFrame) -> pd.DataFrame:
    """The clean error of every attacked checkpoint, once, as if it were a norm of eps 0."""
    clean = there[there["measure"] == "clean_error"].drop_duplicates([*CELL, "seed"])
    return clean.assign(norm="clean", eps=0.0)


def _worst(there: pd.DataFrame, measure: str, of: Literal["min", "max"]) -> pd.DataFrame:
    """For every checkpoint the worst value of a measure over norms and eps."""
    values = there[there["measure"] == measure]
    seeds = [*CELL, "seed"]
    return values.assign(value=values.groupby(seeds)["value"].transform(of), norm="", eps=0.0).drop_duplicates(seeds)


def _settings(found: pd.DataFrame) -> list[tuple[str, float]]:
    """The pairs (norm, eps) that occur, in order."""
    pairs = ordered(found[["norm", "eps"]].drop_duplicates(), ["norm", "eps"])
    return list(zip(pairs["norm"], pairs["eps"], strict=True))


def _rows(found: pd.DataFrame, cells: pd.DataFrame, key: list[str], rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    """The texts of these rows, by the columns of `key`; a column a model."""
    wide = pivot(found, key, "model")
    wide = wide.reindex(index=pd.MultiIndex.from_tuples(rows, names=key), columns=list(styles(cells["model"])))
    return wide.rename_axis(columns=None).reset_index()


def _attacks_missing(there: pd.DataFrame, planned: pd.DataFrame) -> list[str]:
    """The planned cells that lack a seed; norm and eps follow where only some of them lack it."""
    attacked = there[there["measure"] == "attacked_error"]
    settings = _settings(there)
    lacking: dict[str, list[str]] = {}
    for norm, eps in settings:
        for line in shortfall(attacked[(attacked["norm"] == norm) & (attacked["eps"] == eps)], planned):
            lacking.setdefault(line, []).append(f"{norm} {eps:g}")
    return [line if len(at) == len(settings) else f"{line} ({', '.join(at)})" for line, at in lacking.items()]


def _images(there: pd.DataFrame) -> str:
    """How many images the errors were measured on."""
    counts = [f"{count:,}" for count in sorted(there["n"].unique())]
    return f"; measured on {' or '.join(counts)} images" if counts else ""
