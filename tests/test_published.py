"""What is committed under published/, and the README, is what the records give."""

from pathlib import Path

import pytest

from benchmark.publish import check_report, published_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def published():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield published_files()


def test_there_are_runs(published):
    folders, files = published
    assert Path("published/quick/report") in folders
    assert Path("README.md") in files


def test_the_published_reports_and_the_readme_are_those_of_the_records(published, monkeypatch, capsys):
    """Texts to the byte, figures by their data; what differs is in the failure's output."""
    monkeypatch.chdir(ROOT)
    folders, files = published
    assert check_report(files, folders), capsys.readouterr().err


def test_the_readme_embeds_tables_and_figures_that_are_there(published):
    text = published[1][Path("README.md")].decode()
    for name in ("table1-final-mnist", "table2-mnist-50", "smoothness", "robustness"):
        piece = text.split(f"<!-- report: quick {name} -->\n")[1].split("<!-- /report -->")[0]
        assert "| supervised |" in piece or f"](published/quick/report/{name}.png)" in piece
