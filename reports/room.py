"""What figures and printed tables have room for, and what they say of the rest; CSV files have no such bound."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from reports.layout import Table
from reports.section import Block, Bullets, Picture

MOST_COUNTS = 10  # label counts (of all data sets together) with panels, columns or tables of their own
MOST_LINES = 50  # bullets
COUNT = ["dataset", "labels"]


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """The data sets and their label counts, in order."""
    return frame[COUNT].drop_duplicates().sort_values(COUNT, ignore_index=True)


def shown(frame: pd.DataFrame, of: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows at the label counts of `of` (or of itself) that there is room for: evenly over all, both ends in."""
    kept = counts(frame if of is None else of)
    if len(kept) > MOST_COUNTS:
        kept = kept.iloc[np.linspace(0, len(kept) - 1, MOST_COUNTS).round().astype(int)]
    return frame.merge(kept)


def noted(blocks: Iterable[Block], part: pd.DataFrame, whole: pd.DataFrame) -> tuple[Block, ...]:
    """Tables and figures of a part of the label counts, each with a note on which they are of how many."""
    of, there = counts(whole), counts(part)
    if len(of) == len(there):
        return tuple(blocks)
    listed = "; ".join(
        f"{of_it}: {', '.join(map(str, labels))}" for of_it, labels in there.groupby("dataset")["labels"]
    )
    note = f"Shown are {len(there)} of {len(of):,} label counts ({listed}); the CSV file has all that is recorded."
    return tuple(_with(note, block) for block in blocks)


def bounded(lines: Sequence[str], where: str) -> Bullets:
    """The first lines, how many more there are, and where they stand."""
    more = (f"and {len(lines) - MOST_LINES:,} more: {where}",) if len(lines) > MOST_LINES else ()
    return (*lines[:MOST_LINES], *more)


def _with(note: str, block: Block) -> Block:
    if isinstance(block, Table):
        return replace(block, notes=(*block.notes, note))
    return replace(block, text=f"{block.text} {note}") if isinstance(block, Picture) else block
