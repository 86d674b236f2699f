"""The released attack logs beside this run: each attacked error with the clean error of the same checkpoints."""

import pandas as pd

from reports import published
from reports.cells import PAPER_EPS, aggregate, fast_gradient, ordered
from reports.layout import Table, cell, grid

ERRORS = {"attacked_error": "attacked", "clean_error": "clean"}
KEY = ["labels", "norm", "model"]
CAPTION = (
    "Mean ± standard deviation (ddof 1) over checkpoints, their number in brackets. An attacked error means little "
    "without the clean error of the checkpoints that were attacked; the paper prints none, its authors' logs have them."
)
TWICE = "The logs hold VAT at 1000 labels under L2 twice: two checkpoints for each of five seeds."


def tables(records: pd.DataFrame, plan: pd.DataFrame, threat: str = "") -> list[Table]:
    """A table a label count that this run has or plans; rows the norms and models that were logged."""
    records = records[records["dataset"] == published.DATASET]
    attacked = fast_gradient(records)
    attacked = attacked[attacked["measure"].isin(ERRORS) & ((attacked["eps"] - PAPER_EPS).abs() < 1e-9)]
    cells = grid(plan, records)
    rows = ordered(published.attacks()[KEY].drop_duplicates(), KEY).merge(
        cells.loc[cells["dataset"] == published.DATASET, ["model", "labels"]], on=["model", "labels"]
    )
    texts = rows.join(_logs(), on=KEY).join(_ours(attacked), on=KEY)
    return [
        Table(
            f"comparison-logs-{labels}",
            f"Released attack logs beside this run, fgm at eps 0.3, {labels} labels, {published.DATASET}, error in %",
            group.drop(columns="labels"),
            " ".join(filter(None, (CAPTION, TWICE if labels == 1000 else "", threat))),
            (f"Source: {published.SOURCE}.",),
            folded=True,
        )
        for labels, group in texts.groupby("labels")
    ]


def _logs() -> pd.DataFrame:
    groups = published.attacks().groupby(KEY)
    columns = {}
    for measure, name in ERRORS.items():
        found = groups[measure].agg(["mean", "std", "size"])
        values = zip(found["mean"], found["std"], found["size"], strict=True)
        columns[f"logs, {name}"] = pd.Series([cell(mean / 100, sd / 100, n, 0) for mean, sd, n in values], found.index)
    return pd.DataFrame(columns)


def _ours(attacked: pd.DataFrame) -> pd.DataFrame:
    found = aggregate(attacked)
    values = found[["mean", "sd", "n", "diverged"]].itertuples(index=False, name=None)
    texts = found.assign(text=pd.Series([cell(*row) for row in values], index=found.index, dtype=object))
    wide = texts.pivot(index=KEY, columns="measure", values="text").reindex(columns=list(ERRORS))
    return wide.rename(columns={measure: f"ours, {name}" for measure, name in ERRORS.items()})
