"""Reports on more label counts, rows and lines than there is room for: a bounded page that says so, whole CSV files."""

import io

import pandas as pd
import pytest
from synthetic import attacked, error, smoothness

import reports.report
from reports import render

MODELS = ("vat", "ladder")
PICTURES = ("robustness", "smoothness")


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """What would be drawn: the label counts of each figure's data."""
    found = []
    monkeypatch.setattr(
        reports.report, "images", lambda draw, table, data: (found.append(set(table["labels"])), (b"png", b"pdf"))[1]
    )
    return found


def rendered(planned, recorded, provenance=None):
    """A report on two models with two seeds each, planned at some label counts and recorded at others."""
    cells = [(model, labels, seed) for labels in planned for model in MODELS for seed in (0, 1)]
    plan = pd.DataFrame([("digits", *cell) for cell in cells], columns=["dataset", "model", "labels", "seed"])
    done = [cell for cell in cells if cell[1] in recorded]
    rows = [error(model, seed, 0.1 + seed / 100, labels=labels) for model, labels, seed in done]
    rows += [attacked(model, seed, 0.2 + seed / 100, labels=labels) for model, labels, seed in done]
    history = [smoothness(model, seed, epoch, 0.5, labels=labels) for model, labels, seed in done for epoch in (1, 2)]
    files = render(pd.DataFrame(rows), pd.DataFrame(history), plan, provenance or {"suite": "large"})
    return {name: content.decode() for name, content in files.items()}


def counts(files, name):
    return sorted(pd.read_csv(io.StringIO(files[name]))["labels"].unique())


def test_of_many_label_counts_some_are_shown_and_said(drawn):
    every = [*range(10, 260, 10)]
    files = rendered(every, every)
    note = "Shown are 10 of 25 label counts (digits: 10, 40, 60, 90, 120, 140, 170, 200, 220, 250); the CSV "
    for name in ("table1.md", "table1.tex", "table2.md", "table2.tex", "pairs.md", "pairs.tex"):
        assert note in files[name]
    assert "| 10 labels " in files["table1.md"]
    assert "| 250 labels " in files["table1.md"]
    assert "| 20 labels " not in files["table1.md"]
    heads = [line for line in files["table1.md"].splitlines() if line.startswith("| model")]
    assert {line.count(" labels") for line in heads} == {10}
    assert files["table2.md"].count("### Error under attack in %, fgm, ") == 10
    for page in ("report.md", "report.html"):
        assert (
            files[page].count(note)
            == sum(files[f"{name}.md"].count(note) for name in ("table1", "table2", "pairs")) + 2
        )
    assert [len(shown) for shown in drawn] == [10, 10]
    assert drawn[0] == drawn[1] >= {10, 250}
    for name in ("table1", "table2", "pairs", *PICTURES):
        assert counts(files, f"{name}.csv") == every


def test_what_is_recorded_is_shown_before_what_is_only_planned(drawn):
    every = [*range(10, 260, 10)]
    files = rendered(every, [30, 170])
    assert "| 30 labels " in files["table1.md"]
    assert "| 170 labels " in files["table1.md"]
    assert "Shown are 2 of 25 label counts (digits: 30, 170)" in files["table1.md"]
    assert "training has ended: 4 of 50 planned" in files["report.md"]
    assert drawn == [{30, 170}] * 2


def test_what_there_is_room_for_is_shown_whole(drawn):
    every = [*range(10, 110, 10)]
    files = rendered(every, every[:3])
    assert not any("Shown are" in content for content in files.values())
    heads = [line for line in files["table1.md"].splitlines() if line.startswith("| model")]
    assert {line.count(" labels") for line in heads} == {10}
    assert drawn == [{10, 20, 30}] * 2


def test_long_lists_and_tables_say_how_many_lines_there_are_more():
    done = {f"vat-{labels}": ["training of seed 0"] for labels in range(10, 3010, 10)}
    failed = {f"vat-{labels}": "killed" for labels in range(10, 610, 10)}
    files = rendered(range(10, 310, 10), [], {"suite": "large", "cells": done, "failed": failed})
    page = files["report.md"]
    assert page.count(": 0 of 2 seeds\n") == 50
    assert "- and 10 more: `run --dry-run` lists them" in page
    assert page.count(": killed\n") == 50
    assert "- and 10 more: provenance.csv lists them" in page
    rows = "The first 200 of 300 rows; the CSV file has all."
    assert all(rows in files[name] for name in ("provenance.md", "provenance.tex", "report.md", "report.html"))
    assert files["provenance.md"].count("| training of seed 0 ") == 200
    assert files["provenance.csv"].count("training of seed 0\n") == 300
