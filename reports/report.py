"""All files of a report, from the frames: a list of sections, the pages made of them and their own files."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reports import (
    across,
    attack_curves,
    audit,
    comparison,
    curves,
    demonstration,
    deviation,
    dots,
    findings,
    normalised,
    one_and_many,
    origin,
    pairs,
    remains,
    tables,
    transfer,
    tuned,
    virtual,
)
from reports.canvas import images
from reports.cells import CELL, EXAMPLES, HISTORY, PLAN, RECORDS, TUNING, broken_down, checked, early_stopped, shortfall
from reports.layout import csv
from reports.origin import plain
from reports.page import html, markdown, section_markdown
from reports.room import bounded
from reports.section import Block, Run, Section

# What a report is made of, in order: a new table or figure is one more line.
SECTIONS: dict[str, Callable[[Run], Section]] = {
    "findings": findings.section,
    "table1": tables.table1,
    "table2": tables.table2,
    "audit": audit.section,
    "one-and-many": one_and_many.section,
    "remains": remains.section,
    **{f"curves-{norm}": partial(attack_curves.section, norm) for norm in audit.BALL},
    "comparison": comparison.section,
    "pairs": pairs.section,
    "demonstration": demonstration.section,
    "tuning": partial(tuned.section, "tuning"),
    "iterations": partial(tuned.section, "iterations"),
    "smoothness": curves.section,
    "deviation": deviation.section,
    "statistics": normalised.section,
    "robustness": dots.section,
    "transfer": transfer.section,
    "virtual": virtual.section,
    "examples": virtual.images,
    "provenance": origin.section,
}
OF_ATTACKS = ("audit", "one-and-many", "remains", *(f"curves-{norm}" for norm in audit.BALL), "robustness")
NAMES = ("report", *SECTIONS)  # a report's files are these with a suffix
NOTHING = pd.DataFrame()
UNCHOSEN = "left out until `tune` chooses their eps"
UNPROVEN = "without provenance"
STRANGE = "folders of no cell of the suite, left out"
FACTS = ("suite hash", "device", "hours", "commit", UNCHOSEN, UNPROVEN, STRANGE)
READING = (
    "Errors are fractions of the test images, printed in %; the CSV files hold them as fractions. Every mean names its "
    "number of seeds and its spread. A seed whose training broke down is called diverged and enters no mean; '-' marks "
    "what has no record yet."
)


@dataclass(frozen=True)
class Report:
    """What a run's sections say, and the files and pieces that are made of them: same input, same bytes."""

    run: Run
    sections: tuple[Section, ...]

    @classmethod
    def of(
        cls,
        records: pd.DataFrame,
        history: pd.DataFrame,
        plan: pd.DataFrame,
        provenance: Mapping[str, object],
        only: Collection[str] = SECTIONS,
        **more: pd.DataFrame,
    ) -> "Report":
        """The report on these frames.

        `only`: the names of the sections that are wanted; `more`: what may be there, `tuning` and `examples`. Columns:
        `RECORDS`, `HISTORY`, `PLAN`, and in the plan `updates`, those made, where known; `TUNING`, `EXAMPLES`; a frame
        without rows needs none.
        ValueError on a missing column or a seed recorded twice.
        """
        run = prepared(records, history, plan, provenance, **more)
        return cls(run, tuple(build(run) for name, build in SECTIONS.items() if name in only))

    def files(self) -> dict[str, bytes]:
        """File name -> content: report.md, report.html and each section's own files."""
        files: dict[str, bytes] = {}
        for section in self.sections:
            files |= _files(section)
        whole = [summary(self.run), *self.sections]
        pages = {
            "report.md": markdown(_title(self.run), whole),
            "report.html": html(_title(self.run), whole, files),
        }
        if any(section.name == "findings" for section in self.sections):
            pages["findings.md"] = markdown(f"Findings: {self.run.provenance.get('suite', 'no name')}", whole[:2])
        return files | {name: page.encode() for name, page in pages.items()}

    def pieces(self, folder: str) -> dict[str, str]:
        """What other pages can embed: a table by its name, a figure by its section's, linked into `folder`."""
        found: dict[str, str] = {}
        for section in self.sections:
            found |= {table.name: table.inner_markdown() for table in section.tables}
            for picture in section.pictures:
                found[section.name] = f"![{section.heading}]({folder}/{section.name}.png)\n\n{picture.text}\n"
        return found


def render(*frames: Any, **more: Any) -> dict[str, bytes]:
    """File name -> content: `Report.of`, which says what the frames are, and its files."""
    return Report.of(*frames, **more).files()


def beside(reports: Mapping[str, Report]) -> tuple[dict[str, bytes], dict[str, str]]:
    """All runs beside the paper: file name -> content, and its tables by name for other pages to embed."""
    section = across.section({name: report.run for name, report in reports.items()})
    return _files(section), {table.name: table.inner_markdown() for table in section.tables}


def prepared(
    records: pd.DataFrame,
    history: pd.DataFrame,
    plan: pd.DataFrame,
    provenance: Mapping[str, object],
    tuning: pd.DataFrame = NOTHING,
    examples: pd.DataFrame = NOTHING,
) -> Run:
    """The frames with exactly their columns and types, the records with those of early stopping."""
    known = checked(plan, PLAN, "plan")
    records, history = checked(records, RECORDS, "records"), checked(history, HISTORY, "history")
    updates = plan["updates"].to_numpy(dtype=float) if "updates" in plan else np.nan
    return Run(
        broken_down(pd.concat([records, early_stopped(records, history)], ignore_index=True)),
        history,
        known.assign(updates=updates),
        provenance,
        checked(tuning, TUNING, "tuning"),
        checked(examples, EXAMPLES, "examples"),
    )


def _files(section: Section) -> dict[str, bytes]:
    """The files of a section's own: none where it has no data to show."""
    if section.data is None:
        return {}
    data = csv(section.data)
    files = {f"{section.name}.csv": data.encode()}
    for figure in section.pictures:
        files[f"{section.name}.png"], files[f"{section.name}.pdf"] = images(figure.draw, figure.data, data)
    if section.tables or not section.pictures:
        files[f"{section.name}.md"] = section_markdown(section).encode()
        texts = [table.latex() for table in section.tables]
        files[f"{section.name}.tex"] = ("\n".join(texts) or f"% {section.heading}: nothing yet.\n").encode()
    return files


def _title(run: Run) -> str:
    name = run.provenance.get("suite", "")
    return f"Report{f': {name}' if name else ''}"


def summary(run: Run) -> Section:
    """What was run and what the numbers are, from the records and from what provenance says of it."""
    tested = run.records[run.records["measure"] == "test_error"]
    short = shortfall(tested, run.plan)
    planned = len(run.plan[CELL].drop_duplicates())
    known = pd.concat([run.plan, tested])
    facts = [
        f"Data: {_listed(known['dataset'])}",
        *([f"Epochs: {_listed(tested['epoch'])}"] if tested["epoch"].any() or tested.empty else []),
        f"Images in the test: {_listed(tested['n'])}",
        f"Seeds: {_listed(known['seed'])}",
    ]
    if planned:
        facts.append(
            f"Cells (a model at a label count) whose training has ended: {planned - len(short)} of {planned} planned"
        )
    facts += [f"{key.capitalize()}: {text}" for key in FACTS if (text := _short(plain(run.provenance.get(key, ""))))]
    attack = run.provenance.get("attack")
    facts += [f"Attack, {key}: {plain(value)}" for key, value in attack.items()] if isinstance(attack, Mapping) else []
    description = run.provenance.get("description")
    blocks: list[Block] = [str(description)] if description else []
    blocks += [tuple(facts), READING]
    blocks += ["Training missing or incomplete:", bounded(short, "`run --dry-run` lists them")] if short else []
    if isinstance(failed := run.provenance.get("failed"), Mapping):
        lines = [f"{cell}: {why}" for cell, why in failed.items()]
        blocks += ["Failed, and tried again by the next run:", bounded(lines, "provenance.csv lists them")]
    return Section("summary", "What this run is", tuple(blocks))


def _short(text: str) -> str:
    """Commits by their first twelve digits: the provenance has them whole."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", text)


def _listed(column: pd.Series) -> str:
    values = sorted(column.unique())
    return ", ".join(f"{value}" for value in values) if values else "none recorded"
