"""Models against each other on the same seeds: a seed's labelled subset is shared, so differences are paired."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from reports.cells import clean, fast_gradient, ordered
from reports.inference import LEVEL, holm, t_test
from reports.models import rank

COLUMN = ["dataset", "measure", "norm", "eps", "labels"]  # of the models compared in one family of tests
COLUMNS = [*COLUMN, "a", "b", "mean_a", "mean_b", "n", "difference", "low", "high", "p", "p_holm", "winner"]


def compare(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Every two models of a column: mean of a minus b over the seeds that both finished, 95 % t-interval, paired t.

    `p_holm` is corrected over all pairs of the column (one data set, measure, norm and label count); `winner` is
    the model that is surely lower: p_holm below 0.05. Seeds whose labelled subsets differ are no pair.
    """
    values = compared(records, history)
    rows = [row for key, group in values.groupby(COLUMN) for row in _of_column(key, group)]
    found = pd.DataFrame(rows, columns=[*COLUMN, "a", "b", "mean_a", "mean_b", "n", "difference", "sd"])
    found = found.astype({"eps": "float64", "labels": "int64", "n": "int64"})  # of no rows, pandas cannot tell
    test = t_test(found["difference"], found["sd"], found["n"])
    found = found.assign(low=test.low, high=test.high, p=test.p)
    found["p_holm"] = found.groupby(COLUMN)["p"].transform(holm) if len(found) else found["p"]
    lower = found["a"].where(found["difference"] < 0, found["b"])
    found["winner"] = lower.where(found["p_holm"] < LEVEL, "")
    return ordered(found[COLUMNS], ["dataset", "measure", "norm", "eps", "labels"])


def compared(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """What models are compared by, a row a seed: COLUMN, model, seed, value, subset."""
    return pd.concat([_errors(records), _smoothness(history)], ignore_index=True)


def best(found: pd.DataFrame) -> pd.DataFrame:
    """The model of each column that surely beats every other: COLUMN, model."""
    if not len(found):
        return found.rename(columns={"a": "model"})[[*COLUMN, "model"]]
    wins = found[found["winner"] != ""].groupby([*COLUMN, "winner"]).size().rename("wins").reset_index()
    rivals = found.groupby(COLUMN).apply(lambda g: len({*g["a"], *g["b"]}) - 1).rename("rivals").reset_index()
    both = wins.merge(rivals, on=COLUMN)
    return both[both["wins"] == both["rivals"]].rename(columns={"winner": "model"})[[*COLUMN, "model"]]


def _errors(records: pd.DataFrame) -> pd.DataFrame:
    lowest = records[records["measure"] == "lowest_test_error"].assign(norm="clean", eps=0.0)
    attacked = fast_gradient(records)
    attacked = attacked[attacked["measure"] == "attacked_error"]
    return pd.concat([clean(records), lowest, attacked])[[*COLUMN, "model", "seed", "value", "subset"]]


def _smoothness(history: pd.DataFrame) -> pd.DataFrame:
    """The virtual adversarial cost at the last epoch that it was measured at; smoother is lower."""
    cost = history[history["measure"] == "smoothness"]
    last = cost["epoch"] == cost.groupby(["dataset", "labels"])["epoch"].transform("max")
    return cost[last].assign(norm="clean", eps=0.0, subset="")[[*COLUMN, "model", "seed", "value", "subset"]]


def _of_column(key: tuple[object, ...], group: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    finite = group[np.isfinite(group["value"])]
    value = finite.pivot(index="seed", columns="model", values="value")
    subset = finite.pivot(index="seed", columns="model", values="subset")
    for a, b in combinations(sorted(value.columns, key=rank), 2):
        shared = value[a].notna() & value[b].notna() & (subset[a] == subset[b])
        of_a, of_b = value.loc[shared, a], value.loc[shared, b]
        difference = (of_a - of_b).round(12)
        differ = difference.nunique() > 1  # rounded, and asked: else noise in the last digit would pass for a spread
        spread = difference.std() if differ else np.nan
        yield *key, a, b, of_a.mean(), of_b.mean(), int(shared.sum()), difference.mean(), spread
