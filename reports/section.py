"""What a report is made of: sections, each some prose, tables and at most one figure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports import paired
from reports.checks import check_figures
from reports.layout import Table

Bullets = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The frames of a run (columns: RECORDS, HISTORY, PLAN with `updates`) and where they come from."""

    records: pd.DataFrame
    history: pd.DataFrame
    plan: pd.DataFrame
    provenance: Mapping[str, object]
    tuning: pd.DataFrame  # columns: TUNING
    examples: pd.DataFrame  # columns: EXAMPLES

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Every two models compared on the seeds they share."""
        return paired.compare(self.records, self.history)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The models that surely beat every other that they are compared with."""
        return paired.best(self.pairs)

    @cached_property
    def means(self) -> pd.DataFrame:
        """Mean, n and epoch (0: seeds differ) of each model over its finished seeds, by what it is compared in."""
        values = paired.compared(self.records, self.history)
        groups = values[np.isfinite(values["value"])].groupby([*paired.COLUMN, "model"])
        means = groups.agg(mean=("value", "mean"), n=("value", "size"), epoch=("epoch", "max"))
        same = groups["epoch"].nunique() == 1
        found: pd.DataFrame = means.assign(epoch=means["epoch"].where(same, 0)).reset_index()
        return found

    @cached_property
    def checks(self) -> pd.DataFrame:
        """The figures of every check of the audit."""
        return check_figures(self.records)

    @property
    def paper(self) -> str:
        """Whose systems these are: VAL (Virtual Adversarial Ladder Networks), unless provenance says VAT."""
        return str(self.provenance.get("paper", "VAL"))

    @property
    def threat(self) -> str:
        """The threat model in a sentence, or nothing where provenance has none."""
        attack = self.provenance.get("attack")
        facts = attack.items() if isinstance(attack, Mapping) else ()
        said = [f"{name}: {value}" for name, value in facts if isinstance(value, str)]
        return f"Threat model: {'; '.join(said)}." if said else ""


@dataclass(frozen=True)
class Picture:
    """`draw` makes a picture of `data`, which is in the section's CSV file too."""

    data: pd.DataFrame
    draw: Callable[[pd.DataFrame], Figure]
    text: str


Block = str | Bullets | Table | Picture


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; its files are NAME.csv, with tables NAME.md and .tex, with a figure NAME.png and
    .pdf. `data` is what the CSV file holds; without it the section is in the pages alone.
    """

    name: str
    heading: str
    blocks: tuple[Block, ...]
    data: pd.DataFrame | None = None

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        """Its figure, if it has one."""
        return [block for block in self.blocks if isinstance(block, Picture)]


def missing(lines: Iterable[str]) -> tuple[str, ...]:
    """A note on the planned cells that lack a seed, from `shortfall`'s lines: models that lack the same together."""
    models: dict[str, list[str]] = {}
    for model, _, lacking in (line.partition(", ") for line in lines):
        models.setdefault(lacking, []).append(model)
    listed = "; ".join(f"{', '.join(of)} ({lacking})" for lacking, of in models.items())
    return (f"Missing or incomplete: {listed}.",) if listed else ()
