"""Checkpoints by other test-time statistics: how much of a figure is of the weights, and how much of the averages."""

from collections.abc import Iterator

import pandas as pd

from reports import published
from reports.audit import where
from reports.cells import CELL, PAPER_EPS, aggregate, clean, ordered, starting
from reports.layout import Table, cell, pivot, seeds_named
from reports.models import styles
from reports.room import noted, shown
from reports.section import Run, Section

PREFIX, COST = "statistics/", "virtual_adversarial_cost"
KINDS = {  # as recorded -> as printed, in the order of rows
    "own": "own averages",
    "unlabelled": "unlabelled images",
    "labelled": "labelled images",
    "corrupted": "labelled images, with noise",
    "batch": "each batch's own",
    "training": "each batch's own, with noise",
}
AS_THE_PAPER = (  # by which statistics, whether VAT or the other models, and why
    (
        "training",
        True,
        "The paper's VAT was attacked as it is in training, with noise and by the statistics of the batch: see the "
        "corrections below.",
    ),
    (
        "labelled",
        False,
        "The released runs took the averages for test time over the labelled images alone.",
    ),
)
CAPTION = (
    "Error in % without an attack and under one step of the fast gradient method, and the virtual adversarial cost "
    "(smaller is smoother, directions as in the smoothness figure), of the same weights normalised by other "
    "statistics: the averages that training took; averages over unlabelled images, or over the labelled alone, as the "
    "released runs have them, through the clean path or with training's noise; the statistics of the 100 test images "
    "that are shown at once, where the answer to an image and the attack on it depend on its neighbours: without "
    "noise, and with noise drawn anew in every pass, which is the model as it is in training."
)


def section(run: Run) -> Section:
    """The tables; nothing where no other statistics were tried."""
    found, heading = compared(run.records), "Other test-time statistics"
    if not len(found):
        return Section("statistics", heading, ())
    part = shown(found)
    return Section("statistics", heading, noted(tables(part, run.threat), part, found), found)


def compared(records: pd.DataFrame) -> pd.DataFrame:
    """Records by other statistics, and beside them the same seeds' own, as an attack of that kind."""
    tried = records[starting(records["attack"], PREFIX)]
    if tried.empty:
        return tried
    unattacked = tried["measure"] == "clean_error"
    tried = tried.assign(norm=tried["norm"].mask(unattacked, "clean"), eps=tried["eps"].mask(unattacked, 0.0))
    same = [*CELL, "seed", "norm", "eps"]
    attacked = records[(records["attack"] == "fgm") & (records["measure"] == "attacked_error")]
    own = pd.concat([clean(records), attacked]).assign(attack=f"{PREFIX}own")
    own = own.merge(tried.loc[tried["measure"] != COST, same].drop_duplicates(), on=same)
    return ordered(pd.concat([own, tried], ignore_index=True), [*CELL, "attack", "measure", "norm", "eps", "seed"])


def tables(found: pd.DataFrame, threat: str = "") -> list[Table]:
    """For each data set and label count, of what `compared` found: rows model and statistics, columns norms, cost."""
    result = []
    for (dataset, labels), there in found.groupby(["dataset", "labels"]):
        means = aggregate(there)
        names = [column(*of) for of in means[["measure", "norm", "eps"]].itertuples(index=False, name=None)]
        means = means.assign(statistics=means["attack"].str.removeprefix(PREFIX), column=names)
        wide = pivot(means, ["model", "statistics"], "column")
        rows = [(model, kind) for model in styles(there["model"]) for kind in KINDS if (model, kind) in wide.index]
        at = pd.MultiIndex.from_tuples(rows, names=wide.index.names)
        in_order = ordered(means.assign(last=means["measure"] == COST), ["last", "norm", "eps"])["column"]
        frame = wide.reindex(index=at, columns=list(dict.fromkeys(in_order)))
        frame = frame.rename_axis(columns=None).reset_index()
        frame = frame.assign(statistics=frame["statistics"].replace(KINDS))
        title = f"Other test-time statistics, {where(dataset, labels)}"
        caption = f"{CAPTION} {seeds_named(means)}. {threat}".strip()
        result.append(Table(f"statistics-{dataset}-{labels}", title, frame, caption, keys=2))
    return result


def said(records: pd.DataFrame) -> Iterator[str]:
    """What the paper's L-infinity figures become by the statistics that its own were measured by; where recorded."""
    errors = (records["measure"] == "attacked_error") & (records["dataset"] == "mnist")
    at = records[errors & (records["norm"] == "Linf") & (records["eps"] == PAPER_EPS)]
    means = aggregate(at)[["attack", "labels", "model", "mean", "sd", "n", "diverged"]]
    found = {tuple(of[:3]): cell(*of[3:]) for of in means.itertuples(index=False, name=None)}
    printed = published.table2().query("norm == 'Linf'").set_index(["labels", "model"])["printed"]
    for kind, of_vat, text in AS_THE_PAPER:
        parts = []
        for (attack, labels, model), other in found.items():
            if attack == PREFIX + kind and (model == "vat") == of_vat and (labels, model) in printed.index:
                own = f"{found.get(('fgm', labels, model), 'not measured')} by its own averages"
                parts.append(f"{model} {other} at {labels} labels ({own}, {printed[labels, model]} printed)")
        if parts:
            yield f"{text} Errors in % under L-infinity {PAPER_EPS:g}: {'; '.join(parts)}."


def column(measure: str, norm: str, eps: float) -> str:
    """Its head: "clean", "Linf 0.3", "cost, eps 5"."""
    return f"cost, eps {eps:g}" if measure == COST else norm if norm == "clean" else f"{norm} {eps:g}"
