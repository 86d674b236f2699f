"""Which model beats which on the same seeds, by how much and how surely."""

import pandas as pd

from reports.cells import EARLY_STOPPED
from reports.layout import Table, interval, number, probability
from reports.room import noted, shown
from reports.section import Run, Section

NAMES = {
    "test_error": "Test error in %, final epoch",
    EARLY_STOPPED: "Test error in %, early stopping",
    "lowest_test_error": "Test error in %, lowest over evaluated epochs",
    "attacked_error": "Error in % under fgm",
    "smoothness": "Virtual adversarial cost, last epoch",
}
NOTE = (
    "Paired over the seeds that both models finished: they share the labelled subset. Difference: first model minus "
    "second, its mean with the 95 % t-interval. p: paired t-test, two-sided; Holm: corrected for all pairs in this "
    "table (Holm 1979). Better: the lower one, where the corrected p is below 0.05. Where a single seed is "
    "shared, or all differences are equal, there is no test."
)


def section(run: Run) -> Section:
    """A table for each data set, measure, norm and label count; rows pairs of models."""
    part = shown(run.pairs)
    groups = part.groupby(["dataset", "measure", "norm", "eps", "labels"], sort=False)
    tables = noted((_table(run, group) for _, group in groups), part, run.pairs)
    blocks = tables or ("No two models have been recorded on the same data and labels.",)
    return Section("pairs", "Models compared on the same seeds", blocks, run.pairs)


def _table(run: Run, group: pd.DataFrame) -> Table:
    dataset, measure, norm = (str(group[name].iloc[0]) for name in ("dataset", "measure", "norm"))
    labels, eps = int(group["labels"].iloc[0]), float(group["eps"].iloc[0])
    scale, decimals = (1.0, 4) if measure == "smoothness" else (100.0, 2)
    under = f" {norm}, eps {eps:g}" if measure == "attacked_error" else ""
    shown = pd.DataFrame(
        {
            "pair": group["a"] + " − " + group["b"],
            "means": [
                f"{number(scale * a, decimals)}, {number(scale * b, decimals)}"
                for a, b in zip(group["mean_a"], group["mean_b"], strict=True)
            ],
            "n": group["n"],
            "difference": [number(scale * value, decimals, "+") for value in group["difference"]],
            "95 % interval": [
                interval(low, high, scale, decimals) for low, high in zip(group["low"], group["high"], strict=True)
            ],
            "p": group["p"].map(probability),
            "p, Holm": group["p_holm"].map(probability),
            "better": group["winner"].where(group["winner"] != ""),
        }
    )
    name = "-".join(["pairs", measure.replace("_", "-"), *([norm] if under else []), dataset, str(labels)])
    caption = f"{NOTE} {run.threat}" if under else NOTE
    return Table(name, f"{NAMES[measure]}{under}, {labels} labels, {dataset}", shown, caption.strip(), folded=True)
