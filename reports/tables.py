"""Table 1 (test error) and Table 2 (error under attack, with its audit)."""

from collections.abc import Collection, Iterable
from typing import Literal

import numpy as np
import pandas as pd

from reports.audit import doubted, marks
from reports.cells import CELL, EARLY_STOPPED, aggregate, fast_gradient, ordered, shortfall
from reports.layout import Table, grid, intervals, pivot, seeds_named
from reports.models import styles
from reports.room import MOST_COUNTS, counts, noted, shown
from reports.section import Run, Section, missing

CLEAN = {
    "test_error": ("final", "Test error in %, final epoch", "The error of the model as it stands after its last epoch"),
    EARLY_STOPPED: (
        "early-stopped",
        "Test error in %, early stopping",
        "The error after the epoch of the lowest validation error, the first of several; the test set has no part in "
        "the choice. The checkpoint is the last epoch's",
    ),
    "lowest_test_error": (
        "lowest",
        "Test error in %, lowest over evaluated epochs",
        "Lowest over evaluated epochs (selects on the test set; compares with nothing but a lowest error, such as the "
        "VAL paper's Table 1)",
    ),
}
ERRORS = ["attacked_error", "clean_error"]
AUDIT: dict[str, tuple[str, Literal["min", "max"]]] = {  # measure -> its name, and the worst of several
    "zero_gradient_share": ("zero gradient, %", "max"),
    "mean_norm_ratio": ("least ‖δ‖ / eps", "min"),
    "short_share": ("shorter than eps, %", "max"),
}
SURE = (
    "Bold: the lowest of its column, where it beats every other model there surely (paired t-test on shared seeds, "
    "Holm-corrected over the pairs of the column, p below 0.05)."
)
DOUBT = "† The audit failed under this norm, on some seed: what is robust here may not be."
ABSENT = {1: "No test error has been recorded or planned.", 2: "No attack has been recorded."}


def table1(run: Run) -> Section:
    """For each data set the final and the lowest test error: rows models, columns label counts.

    Where there are validation images, the error under early stopping too.
    """
    records = run.records[run.records["measure"].isin(CLEAN)]
    plan, part = _with_room(run.plan, records)
    tables = []
    for dataset, planned in grid(plan, part).groupby("dataset"):
        for measure, (short, title, caption) in CLEAN.items():
            there = part[(part["dataset"] == dataset) & (part["measure"] == measure)]
            if measure == EARLY_STOPPED and not len(there):
                continue
            found = _marked(aggregate(there).assign(norm="clean", eps=0.0), run.best, measure)
            lacking = missing(shortfall(there, plan[plan["dataset"] == dataset]))
            columns = {count: f"{count} labels" for count in sorted(planned["labels"].unique())}
            tables += _and_intervals(
                f"table1-{short}-{dataset}",
                f"{title}, {dataset}",
                found,
                planned["model"],
                "labels",
                columns,
                f"{caption}. {seeds_named(found)}{_images(there)}.",
                lacking,
            )
    blocks = noted(tables, grid(plan, part), grid(run.plan, records)) or (ABSENT[1],)
    return Section("table1", "Table 1: test error without an attack", blocks, aggregate(records))


def table2(run: Run) -> Section:
    """For each data set and label count the error under fgm beside the clean error of the same checkpoints."""
    records = fast_gradient(run.records)
    records = records[records["measure"].isin([*ERRORS, *AUDIT])]
    plan, part = _with_room(run.plan, records)
    tables = []
    for dataset, there in part.groupby("dataset"):
        planned = plan[plan["dataset"] == dataset]
        limits = {str(norm): float(eps) for norm, eps in there.groupby("norm")["eps"].max().items()}
        doubts = marks(shown(run.checks, there), shown_to=limits)
        for labels, cells in grid(planned, there).groupby("labels"):
            at = there[there["labels"] == labels]
            attacked = at[at["measure"] == "attacked_error"]
            parts = ((_clean(at), "test_error"), (attacked, "attacked_error"))  # clean: table 1's own comparison
            found = pd.concat([_marked(aggregate(part), run.best, by) for part, by in parts], ignore_index=True)
            marked = {(model, norm): why for (_, model, count, norm), why in doubts.items() if count == labels}
            settings = ordered(pd.concat([_clean(there), there])[["norm", "eps"]].drop_duplicates(), ["norm", "eps"])
            columns = {norm: f"{norm} {eps:g}" if eps else norm for norm, eps in settings.itertuples(index=False)}
            tables += _and_intervals(
                f"table2-{dataset}-{labels}",
                f"Error under attack in %, fgm, {labels} labels, {dataset}",
                found,
                cells["model"],
                "norm",
                columns,
                "First the clean error of the attacked checkpoints, then their error under each norm at its eps. "
                f"{seeds_named(found)}{_images(at)}. {run.threat}".strip(),
                (
                    *doubted(marked, DOUBT),
                    *unaudited(run.records, at),
                    *missing(_attacks_missing(at, planned[planned["labels"] == labels], there)),
                ),
                marked,
            )
            tables += _audit(at, cells["model"], f"table2-{dataset}-{labels}", f"{labels} labels, {dataset}")
    blocks = noted(tables, grid(plan, part), grid(run.plan, records)) or (ABSENT[2],)
    return Section("table2", "Table 2: test error under attack", blocks, aggregate(records))


def _with_room(plan: pd.DataFrame, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plan and records at the label counts that are shown: where there is no room for all, only recorded ones."""
    there = grid(plan, records)
    of = records if len(counts(there)) > MOST_COUNTS and len(records) else there
    return shown(plan, of), shown(records, of)


def _and_intervals(
    name: str,
    title: str,
    found: pd.DataFrame,
    models: Iterable[str],
    by: str,
    columns: dict[object, str],
    caption: str,
    notes: tuple[str, ...],
    marked: Collection[tuple[str, object]] = (),
) -> list[Table]:
    """Rows models, columns the values of `by`: means with their spread, and behind it their t-intervals.

    Those in `marked`, a model and a value of `by`, get a †.
    """
    tables = []
    for texts, suffix in ((pivot(found, ["model"], by), ""), (intervals(found, ["model"], by), "-intervals")):
        frame = texts.reindex(index=list(styles(models)), columns=list(columns))
        frame = frame.rename(columns=columns).rename_axis(columns=None).reset_index(names="model")
        for key, column in columns.items():
            doubtful = pd.Series([(model, key) in marked for model in frame["model"]]) & frame[column].notna()
            frame[column] = frame[column].where(~doubtful, frame[column] + " †") if doubtful.any() else frame[column]
        if not suffix:
            tables.append(Table(name, title, frame, caption, (SURE, *notes), folded=not found["n"].any()))
        elif (found["n"] > 1).any():
            about = "95 % t-intervals of the means over seeds: n - 1 degrees of freedom."
            tables.append(Table(name + suffix, f"{title}: t-intervals", frame, about, folded=True))
    return tables


def unaudited(records: pd.DataFrame, at: pd.DataFrame) -> tuple[str, ...]:
    """Notes on the models with an attacked checkpoint that no audit has seen: what lacks a † for no better reason.

    A diverged seed is not audited, nor is it in a mean.
    """
    keys = [*CELL, "seed"]
    audited = records.loc[records["attack"] == "audit", keys].drop_duplicates()
    sound = at.loc[(at["measure"] == "attacked_error") & np.isfinite(at["value"]), keys].drop_duplicates()
    seen = sound.merge(audited, how="left", on=keys, indicator=True)
    counts = seen["_merge"].eq("both").groupby(seen["model"]).agg(["sum", "size"])
    none = [model for model in styles(counts.index) if not counts["sum"][model]]
    some = [model for model in styles(counts.index) if 0 < counts["sum"][model] < counts["size"][model]]
    parts = (f"{model} on {counts['sum'][model]} of {counts['size'][model]} seeds" for model in some)
    return (
        *([f"Not audited, hence without a †: {', '.join(none)}."] if none else []),
        *([f"Audited in part, a † is of these seeds: {', '.join(parts)}."] if some else []),
    )


def _marked(found: pd.DataFrame, sure: pd.DataFrame, measure: str) -> pd.DataFrame:
    """With a column `best`: the cell surely beats all others of its column, by this measure."""
    sure = sure[sure["measure"] == measure].assign(best=True).drop(columns="measure")
    column = ["dataset", "norm", "eps", "labels"]
    marked = found.merge(sure, how="left", on=[*column, "model"])
    lowest = marked["mean"].eq(marked.groupby(column)["mean"].transform("min"))  # over all seeds, not the shared alone
    return marked.assign(best=marked["best"].eq(True) & lowest)


def _audit(at: pd.DataFrame, models: Iterable[str], name: str, where: str) -> list[Table]:
    """Rows models, columns what was measured of the attack itself."""
    if not at["measure"].isin(AUDIT).any():
        return []
    worst = aggregate(pd.concat([_worst(at, measure, of) for measure, (_, of) in AUDIT.items()]))
    texts = pivot(worst, ["model"], "measure").reindex(index=list(styles(models)), columns=list(AUDIT))
    texts = texts.rename(columns={measure: title for measure, (title, _) in AUDIT.items()})
    about = (
        "Share of images whose gradient is exactly zero (the attack leaves them alone and the model looks robust), "
        "mean realised norm ‖δ‖ over eps, and share of perturbations shorter than eps; each the worst over the norms "
        f"of Table 2. {seeds_named(worst)}."
    )
    frame = texts.rename_axis(columns=None).reset_index(names="model")
    return [Table(f"{name}-audit", f"Attack audit, fgm, {where}", frame, about, folded=True)]


def _clean(there: pd.DataFrame) -> pd.DataFrame:
    """The clean error of every attacked checkpoint, once, as if it were a norm of eps 0."""
    clean = there[there["measure"] == "clean_error"].drop_duplicates([*CELL, "seed"])
    return clean.assign(norm="clean", eps=0.0)


def _worst(there: pd.DataFrame, measure: str, of: Literal["min", "max"]) -> pd.DataFrame:
    """For every checkpoint the worst value of a measure over norms and eps."""
    values = there[there["measure"] == measure]
    seeds = [*CELL, "seed"]
    return values.assign(value=values.groupby(seeds)["value"].transform(of), norm="", eps=0.0).drop_duplicates(seeds)


def _attacks_missing(at: pd.DataFrame, planned: pd.DataFrame, there: pd.DataFrame) -> list[str]:
    """The planned cells that lack a seed; norm and eps follow where only some of them lack it."""
    attacked = at[at["measure"] == "attacked_error"]
    settings = ordered(there[["norm", "eps"]].drop_duplicates(), ["norm", "eps"])
    lacking: dict[str, list[str]] = {}
    for norm, eps in settings.itertuples(index=False):
        for line in shortfall(attacked[(attacked["norm"] == norm) & (attacked["eps"] == eps)], planned):
            lacking.setdefault(line, []).append(f"{norm} {eps:g}")
    return [line if len(of) == len(settings) else f"{line} ({', '.join(of)})" for line, of in lacking.items()]


def _images(there: pd.DataFrame) -> str:
    """How many images the errors were measured on."""
    of = [f"{count:,}" for count in sorted(there["n"].unique())]
    return f"; measured on {' or '.join(of)} images" if of else ""
