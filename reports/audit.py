"""The audit: when a robustness figure cannot be believed. Model by check, the verdict and the figure behind it."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from reports.cells import CELL, ordered, starting
from reports.checks import CHECKPOINT, CHECKS, Check
from reports.layout import Table
from reports.models import styles
from reports.room import noted, shown
from reports.section import Run, Section

BALL = {"L1-spread": "L1", "L1-pixel": "L1", "L2": "L2", "Linf": "Linf"}
"""Norm of the fast gradient method -> the ball it steps in."""


EFFORTS = {
    "pgd": "many steps {} (steps x restarts, the larger at the eps where the smaller breaks nearest to half)",
    "fmn": "minimum norm {} steps",
    "hsj": "decision-based {} steps on the first {} images",
    "noise": "noise {} draws of each kind",
}
"""Of an attack's family: how hard it tried, on how many images."""


def largest(found: pd.DataFrame) -> tuple[float, str, float]:
    """The largest value, and where; NaN where there is none."""
    found = found[found["value"].notna()]
    if found.empty:
        return math.nan, "", math.nan
    at = int(found["value"].argmax())
    return float(found["value"].iloc[at]), str(found["norm"].iloc[at]), float(found["eps"].iloc[at])


def table(records: pd.DataFrame, figures: pd.DataFrame) -> pd.DataFrame:
    """dataset, model, labels, seed, check, figure, limit, verdict, norm, eps: of each checkpoint that was audited.

    `figures`: `check_figures` of the records. The largest speaks. A check that could not be made is "not run" and has
    no figure.
    """
    audited = records.loc[records["attack"] == "audit", CHECKPOINT].drop_duplicates()
    checks = pd.DataFrame([(check.name, check.limit) for check in CHECKS], columns=["check", "limit"])
    found = figures.sort_values("value", ascending=False, kind="stable", na_position="last")
    first = found.drop_duplicates([*CHECKPOINT, "check"])
    rows = audited.merge(checks, how="cross").merge(first, how="left", on=[*CHECKPOINT, "check"])
    absent = rows["value"].isna()
    verdict = pd.Series("pass", index=rows.index, dtype=object)
    verdict = verdict.mask(rows["failed"].eq(True), "fail").mask(absent, "not run")
    rows = rows.rename(columns={"value": "figure"}).assign(
        verdict=verdict, norm=rows["norm"].where(~absent, ""), eps=rows["eps"].where(~absent)
    )
    columns = [*CHECKPOINT, "check", "figure", "limit", "verdict", "norm", "eps"]
    order = {check.name: place for place, check in enumerate(CHECKS)}
    placed = rows.assign(place=rows["check"].map(order)).sort_values("place", kind="stable")
    return ordered(placed[columns], CHECKPOINT)


def section(run: Run) -> Section:
    """The verdicts, or that no audit has been made."""
    audited = run.records[run.records["attack"] == "audit"]
    part = shown(run.records, audited)
    found = noted(tables(part, shown(run.checks, audited)), part, audited)
    heading = "Audit: can the figures be believed?"
    if not found:
        return Section("audit", heading, ("No audit has been made: `python -m benchmark attack` makes one.",))
    return Section("audit", heading, found, table(run.records, run.checks))


def tables(records: pd.DataFrame, figures: pd.DataFrame) -> list[Table]:
    """For each data set and label count: rows checks, columns models, the verdict of the worst seed and its figure."""
    result = []
    for (dataset, labels), cell in table(records, figures).groupby(["dataset", "labels"]):
        models = list(styles(cell["model"]))
        seeds = dict(iter(cell.groupby(["check", "model"])))
        rows = [[check.name, *(said(seeds[check.name, model], check) for model in models)] for check in CHECKS]
        own = records[(records["dataset"] == dataset) & (records["labels"] == labels)]
        name, frame = f"audit-{dataset}-{labels}", pd.DataFrame(rows, columns=["check", *models])
        result.append(Table(name, f"Audit, {where(dataset, labels)}", frame, caption(own), failures(cell)))
    return [*result, meanings()] if result else []


def meanings() -> Table:
    """What each check compares, and with what limit."""
    rows = [[check.name, check.text(check.limit), check.says] for check in CHECKS]
    frame = pd.DataFrame(rows, columns=["check", "at most", "its figure: points of error, unless it says else"])
    about = "A figure above its limit fails. Share of images in %, differences of errors in points."
    return Table("audit-checks", "What the audit checks", frame, about, folded=True)


def failures(cell: pd.DataFrame) -> tuple[str, ...]:
    """A note on where the worst seeds failed: whom each check failed, by norm and eps."""
    whom: dict[str, list[str]] = {}
    for check in CHECKS:
        failed = cell[(cell["check"] == check.name) & (cell["verdict"] == "fail")]
        for model in styles(failed["model"]):
            _, norm, eps = largest(failed[failed["model"] == model].assign(value=failed["figure"]))
            whom.setdefault(f"{check.name}, {norm} {eps:g}" if norm else check.name, []).append(model)
    lines = [f"{where}: {', '.join(models)}" for where, models in whom.items()]
    return (f"Failed where, of the worst seed: {'; '.join(lines)}.",) if lines else ()


def caption(own: pd.DataFrame) -> str:
    """What was asked of which checkpoints, and with how much effort."""
    seeds = own[own["attack"] == "audit"].groupby("model")["seed"].nunique()
    fewest, most = seeds.min(), seeds.max()
    of = (
        f"{most}"
        if fewest == most
        else f"{fewest} to {most}: {', '.join(f'{seeds[m]} of {m}' for m in styles(seeds.index))}"
    )
    return (
        f"Verdict and figure of each model's worst seed of {of}. "
        f"Attacks know the true labels and do not clip (the decision-based one stays in [0, 1]). {budget(own)} Many "
        "steps: projected gradient ascent. An image that is wrong without an attack counts as wrong under all."
    )


def budget(records: pd.DataFrame, norm: str = "") -> str:
    """The effort behind audits, as their attacks' names and numbers of images say; nothing where there is none.

    With the name of a ball, of the attacks in it alone.
    """
    records = records[records["norm"].isin(["", norm])] if norm else records
    images = records.loc[(records["attack"] == "audit") & (records["measure"] == "clean_error"), "n"]
    of = {family: records[starting(records["attack"], f"{family}-")] for family in EFFORTS}
    said = [
        text.format(listed(of[family]["attack"].str.rpartition("-")[2]), listed(of[family]["n"]))
        for family, text in EFFORTS.items()
        if len(of[family])
    ]
    return f"Budget: {listed(images)} test images; {'; '.join(said)}." if len(images) else ""


def listed(values: "pd.Series[Any]") -> str:
    """Each value once: "40x2, 100x3", "1,000"."""
    texts = {value if isinstance(value, str) else f"{value:,}" for value in values}
    return ", ".join(sorted(texts, key=lambda text: (len(text), text)))


def where(dataset: object, labels: object) -> str:
    """ "mnist, 50 labels"; without the labels for a model that did not come with their number."""
    return f"{dataset}, {labels} labels" if labels else f"{dataset}"


def marks(
    figures: pd.DataFrame,
    doubts: Literal["one step", "many steps"] = "one step",
    shown_to: Mapping[str, float] = MappingProxyType({}),
) -> dict[tuple[str, str, int, str], list[str]]:
    """(dataset, model, labels, norm of the fast gradient method) -> the checks that put in doubt what was found in it.

    `figures`: of `check_figures`. A check of the model marks every norm, one of attacks those that it failed in, or in
    whose ball, on some seed; a local one only where it failed since an eps below the largest that is shown of a norm,
    `shown_to`.
    """
    failed = figures[figures["failed"]]
    found: dict[tuple[str, str, int, str], list[str]] = {}
    for check in (check for check in CHECKS if check.doubts == doubts):
        places = failed.loc[failed["check"] == check.name, [*CELL, "norm", "since"]].drop_duplicates()
        for dataset, model, labels, where, since in ordered(places, [*CELL, "norm"]).itertuples(index=False, name=None):
            for norm, ball in BALL.items():
                reasons = found.setdefault((dataset, model, int(labels), norm), [])
                beyond = check.local and since > shown_to.get(norm, math.inf) - 1e-9
                if where in ("", norm, ball) and not beyond and check.name not in reasons:
                    reasons.append(check.name)
    return {key: reasons for key, reasons in found.items() if reasons}


def doubted(marked: Mapping[Any, Sequence[str]], said: str) -> tuple[str, ...]:
    """A note on the checks of the audit that failed, and for whom: of keys that begin with a model."""
    whose: dict[str, dict[str, None]] = {}
    for (model, *_), checks in marked.items():
        for check in checks:
            whose.setdefault(check, {})[model] = None
    checks = "; ".join(f"{check}: {', '.join(models)}" for check, models in whose.items())
    return (f"{said} Not passed: {checks}.",) if marked else ()


def said(seeds: pd.DataFrame, check: Check) -> str:
    """ "FAIL 3.20" of a model's worst seed."""
    figure = seeds["figure"].max()
    if math.isnan(figure):
        return "not run"
    return f"{'FAIL' if (seeds['verdict'] == 'fail').any() else 'pass'} {check.text(figure)}"
