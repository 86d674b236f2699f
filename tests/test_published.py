"""What is committed under published/ is what its records give."""

from pathlib import Path

import pytest

from benchmark.collect import build_report
from benchmark.suite import load_suite, plan

PUBLISHED = Path(__file__).parents[1] / "published"
RUNS = sorted(folder.name for folder in PUBLISHED.iterdir() if (folder / "cells").is_dir())


def test_there_are_runs():
    assert "quick" in RUNS


@pytest.mark.parametrize("name", RUNS)
def test_a_published_report_is_that_of_its_records(name):
    """Tables and texts to the byte; a picture's bytes depend on the versions of the libraries that draw it."""
    suite = load_suite(name)
    files = build_report(suite, name, plan(suite, name), PUBLISHED / name)
    there = {path.name: path for path in (PUBLISHED / name / "report").iterdir()}
    assert there.keys() == files.keys()
    for file, content in files.items():
        if not file.endswith((".png", ".pdf")):
            assert there[file].read_bytes() == content, file
