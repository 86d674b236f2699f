"""Table 1 (test error) and Table 2 (error under attack, with its audit)."""

import pandas as pd

from reports.cells import aggregate, ordered, shortfall
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
AUDIT = {
    "zero_gradient_share": "zero gradient, %",
    "mean_norm_ratio": "‖δ‖ / eps",
    "short_share": "shorter than eps, %",
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
        found = aggregate(there)
        tables.append(
            Table(
                f"Error under attack in %, {attack}, {dataset}",
                _rows(found, grid(planned, there), ERRORS),
                "Each attacked row is followed by the clean error of the same checkpoints. "
                f"{seeds_named(found)}{_images(there)}.",
                tuple(_attacks_missing(there, planned)),
            )
        )
        if there["measure"].isin(AUDIT).any():
            tables.append(
                Table(
                    f"Attack audit, {attack}, {dataset}",
                    _rows(found, grid(planned, there), AUDIT),
                    "Share of images whose gradient is exactly zero (the attack leaves them alone and the model "
                    "looks robust), mean realised norm ‖δ‖ over eps, and share of perturbations shorter than eps. "
                    f"{seeds_named(found)}.",
                )
            )
    return tables


def _settings(found: pd.DataFrame) -> list[tuple[str, float]]:
    """The pairs (norm, eps) that occur, in order."""
    pairs = ordered(found[["norm", "eps"]].drop_duplicates(), ["norm", "eps"])
    return list(zip(pairs["norm"], pairs["eps"], strict=True))


def _rows(found: pd.DataFrame, planned: pd.DataFrame, measures: dict[str, str]) -> pd.DataFrame:
    """Rows norm, eps, labels and measure; a column a model."""
    key = ["norm", "eps", "labels", "measure"]
    labels = sorted(planned["labels"].unique())
    rows = [(*setting, count, m) for setting in _settings(found) for count in labels for m in measures]
    wide = pivot(found[found["measure"].isin(measures)], key, "model")
    wide = wide.reindex(index=pd.MultiIndex.from_tuples(rows, names=key), columns=list(styles(planned["model"])))
    texts = wide.rename_axis(columns=None).reset_index()
    named = texts.assign(measure=texts["measure"].map(measures), eps=texts["eps"].map("{:g}".format))
    return named.rename(columns={"measure": ""})


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
