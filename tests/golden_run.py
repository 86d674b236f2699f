"""A run made up for tests of reports, measured nowhere; what a report on it must give stands beside it in golden/."""

import itertools
import re
from pathlib import Path

import pandas as pd

GOLDEN = Path(__file__).with_name("golden")
TABLES = ("table1", "table2", "audit", "remains", "transfer", "comparison", "pairs", "findings", "provenance")
FIGURES = ("smoothness", "robustness", "curves-Linf", "one-and-many")
EXACT = [f"{name}.{kind}" for name in TABLES for kind in ("md", "tex", "csv")]
EXACT += [f"{name}.csv" for name in FIGURES] + ["report.md", "report.html"]
PROVENANCE = {
    "suite": "golden",
    "description": "Made-up records.",
    "command": "python -m benchmark run --suite golden",
    "device": "none",
    "attack": {"name": "fgm", "eps": [0.3], "clip": None, "labels": "the model's own predictions"},
    "config": {"epochs": 4, "sizes": {"labelled": 100}},
    "cells": {"vat-50": ["training of seeds 0, 1, 2, 0.100 h: none"]},
}
NO_RECORDS = pd.DataFrame()


def golden() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Records, history and the plan: four models, two label counts, three seeds."""
    cells = itertools.product(["mnist"], ["ladder", "lvan-lw", "supervised", "vat"], [50, 100], [0, 1, 2])
    plan = pd.DataFrame(cells, columns=["dataset", "model", "labels", "seed"])
    plan["updates"] = 2400
    return pd.read_csv(GOLDEN / "records.csv"), pd.read_csv(GOLDEN / "history.csv"), plan


def text(files: dict[str, bytes], name: str) -> str:
    return files[name].decode()


def without_pictures(page: str) -> str:
    """A figure's bytes depend on the versions of the libraries that draw it."""
    return re.sub(r"base64,[^\"]+", "base64,...", page)
