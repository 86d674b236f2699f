"""All files of a report, from the frames; and the page that a newcomer reads first."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from reports import attacked, comparison, curves, dots, tables
from reports.canvas import images
from reports.cells import CELL, HISTORY, PLAN, RECORDS, aggregate, checked, shortfall
from reports.layout import Table, csv

HEADINGS = {
    "table1": "Table 1: test error without an attack",
    "table2": "Table 2: test error under attack",
    "smoothness": "Test error and smoothness by epoch",
    "robustness": "Robustness, seed by seed",
}
FIGURE_TEXT = {
    "smoothness": "Test error and, where it was measured, the virtual adversarial cost at eps 5.0: the divergence "
    "between the outputs at an image and at the nearby image that changes them most; lower is smoother. A line is "
    "the mean over seeds, its band goes from the lowest to the highest seed; a seed that diverged is in neither.",
    "robustness": "Each filled mark is one seed's error under attack, the bar their mean, the hollow circle the mean "
    "error of the same checkpoints without an attack. Where a norm was attacked at several eps, eps 0.3 is shown, "
    "or else the largest.",
}
ABSENT = {
    "table1": "No test error has been recorded or planned.",
    "table2": "No attack has been recorded.",
    "smoothness": "No history has been recorded, hence no figure.",
    "robustness": "No attack has been recorded, hence no figure.",
}


def render(
    records: pd.DataFrame, history: pd.DataFrame, plan: pd.DataFrame, provenance: Mapping[str, object]
) -> dict[str, bytes]:
    """File name -> content: tables, figures and report.md; the same input gives the same bytes.

    Columns: `RECORDS`, `HISTORY`, `PLAN`; a frame without rows needs none. A figure without data is absent
    and report.md says so. ValueError on a missing column or a seed recorded twice.
    """
    records = checked(records, RECORDS, "records")
    history = checked(history, HISTORY, "history")
    plan = checked(plan, PLAN, "plan")
    aggregated = aggregate(shown := papers(records))
    files: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for name, found, measures in (
        ("table1", tables.table1(shown, plan) + comparison.table1(shown, plan), tables.CLEAN),
        ("table2", tables.table2(shown, plan) + comparison.table2(shown, plan), tables.ERRORS | tables.AUDIT),
    ):
        texts[name] = _joined(found) or ABSENT[name] + "\n"
        files[f"{name}.md"] = texts[name].encode()
        files[f"{name}.tex"] = ("\n".join(t.latex() for t in found) or f"% {ABSENT[name]}\n").encode()
        files[f"{name}.csv"] = csv(aggregated[aggregated["measure"].isin(measures)]).encode()
    for name, table, draw in (
        ("smoothness", curves.table(history), curves.figure),
        ("robustness", dots.table(shown), dots.figure),
    ):
        texts[name] = f"![{HEADINGS[name]}]({name}.png)\n\n{FIGURE_TEXT[name]}\n" if len(table) else ABSENT[name] + "\n"
        if len(table):
            files[f"{name}.png"], files[f"{name}.pdf"] = images(draw, table)
            files[f"{name}.csv"] = csv(table).encode()
    page = [
        _title(provenance),
        *_summary(records, plan, provenance),
        *(f"## {HEADINGS[name]}\n\n{text}" for name, text in texts.items()),
        *attacked.page(records),
        _provenance(provenance),
    ]
    return files | attacked.files(records) | {"report.md": "\n".join(page).encode()}


def papers(records: pd.DataFrame) -> pd.DataFrame:
    """Without an attack, and under the paper's at eps 0.3, or at a norm's largest eps where that was not measured."""
    fgm = records[records["attack"] == "fgm"]
    there = (fgm["eps"] - 0.3).abs() < 1e-9
    at_paper = fgm.assign(there=there).groupby(["dataset", "norm"])["there"].transform("any")
    largest = fgm["eps"] == fgm.groupby(["dataset", "norm"])["eps"].transform("max")
    return pd.concat([records[records["attack"] == ""], fgm[there | (~at_paper & largest)]])


def _joined(found: Sequence[Table]) -> str:
    return "\n".join(table.markdown() for table in found)


def _title(provenance: Mapping[str, object]) -> str:
    name = provenance.get("suite", "")
    description = provenance.get("description", "")
    return f"# Report{f': {name}' if name else ''}\n" + (f"\n{description}\n" if description else "")


def _summary(records: pd.DataFrame, plan: pd.DataFrame, provenance: Mapping[str, object]) -> Iterator[str]:
    """What was run and what the numbers are, from the records and from what provenance says of it."""
    tested = records[records["measure"] == "test_error"]
    short = shortfall(tested, plan)
    planned = len(plan[CELL].drop_duplicates())
    yield "## What this run is\n"
    yield f"- Data: {_listed(pd.concat([plan, tested])['dataset'])}"
    yield f"- Epochs: {_listed(tested['epoch'])}; images in the test: {_listed(tested['n'])}"
    yield f"- Seeds: {_listed(pd.concat([plan, tested])['seed'])}"
    if planned:
        yield f"- Cells (a model at a label count) complete: {planned - len(short)} of {planned} planned"
    for key in ("device", "hours", "command"):
        if key in provenance:
            yield f"- {key.capitalize()}: {_plain(provenance[key])}"
    yield (
        "\nErrors are fractions of the test images, printed in %; the CSV files hold them as fractions. Every mean "
        "names its number of seeds and its spread. A seed whose training broke down is called diverged and enters "
        "no mean; '-' marks what has no record yet.\n"
    )
    attack = provenance.get("attack")
    if isinstance(attack, Mapping) and attack:
        yield "Threat model of the attacks:\n"
        yield from (f"- {key}: {value}" for key, value in _leaves(attack))
        yield ""
    if short:
        yield "Missing or incomplete:\n"
        yield from (f"- {line}" for line in short)
        yield ""


def _listed(column: pd.Series) -> str:
    values = sorted(column.unique())
    return ", ".join(f"{value}" for value in values) if values else "none recorded"


def _provenance(provenance: Mapping[str, object]) -> str:
    rows = list(_leaves(provenance))
    if not rows:
        return "## Provenance\n\nNone was given.\n"
    frame = pd.DataFrame(rows, columns=["what", "value"])
    return f"## Provenance\n\n{Table('', frame, '').body()}\n"


def _leaves(mapping: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("config.epochs", "40") for every plain value of a nested mapping, in its order."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in _leaves(value))
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
