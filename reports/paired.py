"""Models against each other on the same seeds: a seed's labelled subset is shared, so differences are paired."""

from itertools import combinations

import numpy as np
import pandas as pd

from reports.cells import CELL, EARLY_STOPPED, clean, fast_gradient, ordered
from reports.inference import LEVEL, holm, t_test
from reports.models import rank

COLUMN = ["dataset", "measure", "norm", "eps", "labels"]  # of the models compared in one family of tests
OF_SEED = ["model", "seed", "epoch", "value", "subset"]
COLUMNS = [*COLUMN, "a", "b", "mean_a", "mean_b", "n", "difference", "low", "high", "p", "p_holm", "winner"]


def compare(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Every two models of a column: mean of a minus b over the seeds that both finished, 95 % t-interval, paired t.

    `p_holm` is corrected over all pairs of the column (one data set, measure, norm and label count); `winner` is
    the model that is surely lower: p_holm below 0.05. Seeds whose labelled subsets differ are no pair.
    """
    values = compared(records, history)
    finite = values[np.isfinite(values["value"])]
    value, subset = (finite.pivot(index=[*COLUMN, "seed"], columns="model", values=v) for v in ("value", "subset"))
    models = sorted(finite["model"].unique(), key=rank)
    pairs = [_pair(value, subset, a, b) for a, b in combinations(models, 2)]
    found = pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=[*COLUMNS, "sd"])
    found = found.astype({"eps": "float64", "labels": "int64", "n": "int64"})  # of no rows, pandas cannot tell
    test = t_test(found["difference"], found["sd"], found["n"])
    found = found.assign(low=test.low, high=test.high, p=test.p)
    found["p_holm"] = found.groupby(COLUMN)["p"].transform(holm) if len(found) else found["p"]
    lower = found["a"].where(found["difference"] < 0, found["b"])
    found["winner"] = lower.where(found["p_holm"] < LEVEL, "")
    return ordered(found[COLUMNS], ["dataset", "measure", "norm", "eps", "labels"])


def compared(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """What models are compared by, a row a seed whose training has ended: COLUMN, model, seed, epoch, value, subset."""
    return pd.concat([_errors(records), _smoothness(records, history)], ignore_index=True)


def best(found: pd.DataFrame) -> pd.DataFrame:
    """The model of each column that surely beats every other: COLUMN, model."""
    if not len(found):
        return found.rename(columns={"a": "model"})[[*COLUMN, "model"]]
    wins = found[found["winner"] != ""].groupby([*COLUMN, "winner"]).size().rename("wins").reset_index()
    there = pd.concat([found[[*COLUMN, each]].set_axis([*COLUMN, "model"], axis=1) for each in ("a", "b")])
    rivals = (there.groupby(COLUMN)["model"].nunique() - 1).rename("rivals").reset_index()
    both = wins.merge(rivals, on=COLUMN)
    return both[both["wins"] == both["rivals"]].rename(columns={"winner": "model"})[[*COLUMN, "model"]]


def _errors(records: pd.DataFrame) -> pd.DataFrame:
    chosen = records[records["measure"].isin([EARLY_STOPPED, "lowest_test_error"])].assign(norm="clean", eps=0.0)
    attacked = fast_gradient(records)
    attacked = attacked[attacked["measure"] == "attacked_error"]
    return pd.concat([clean(records), chosen, attacked])[[*COLUMN, *OF_SEED]]


def _smoothness(records: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The virtual adversarial cost at the last epoch that it was measured at; smoother is lower."""
    ended = clean(records)[[*CELL, "seed"]].drop_duplicates()  # a final test error is recorded when a training ends
    cost = history[history["measure"] == "smoothness"].merge(ended)
    last = cost["epoch"] == cost.groupby(["dataset", "labels"])["epoch"].transform("max")
    return cost[last].assign(norm="clean", eps=0.0, subset="")[[*COLUMN, *OF_SEED]]


def _pair(value: pd.DataFrame, subset: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Two models in every column that has both: means over the seeds that they share, and the difference's sd."""
    of_a, of_b = value[a], value[b]
    both = of_a.groupby(COLUMN).count().gt(0) & of_b.groupby(COLUMN).count().gt(0)
    shared = of_a.notna() & of_b.notna() & (subset[a] == subset[b])
    rows = pd.DataFrame({"mean_a": of_a, "mean_b": of_b, "difference": (of_a - of_b).round(12)}).where(shared)
    groups = rows.groupby(COLUMN)
    differ = groups["difference"].nunique() > 1  # rounded, and asked: else noise in the last digit would be a spread
    means = groups.mean().assign(n=groups["difference"].count(), sd=groups["difference"].std().where(differ))
    return means[both].assign(a=a, b=b).reset_index()
