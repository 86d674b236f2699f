"""Published reports, the pages that embed their tables, and runs that are not whole."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from running import fails, files, write_suite

from benchmark.publish import collected, embedded
from reports import render
from zoo.errors import BadInput

pytestmark = pytest.mark.usefixtures("plain_pictures")

ROOT = Path(__file__).parents[1]
PIECES = {"quick": {"table1": "| a |\n", "curves": "![x](y)\n"}}


# ------------------------------------------------------------------------------------------------------ README


def test_what_stands_between_the_marks_is_made_anew():
    text = "before\n<!-- report: quick table1 -->\nold\nold\n<!-- /report -->\nbetween\n"
    text += "<!-- report: quick curves -->\n<!-- /report -->\nafter, with `<!-- report: RUN NAME -->` named\n"
    new = embedded(text, PIECES)
    assert new == (
        "before\n<!-- report: quick table1 -->\n\n| a |\n\n<!-- /report -->\nbetween\n"
        "<!-- report: quick curves -->\n\n![x](y)\n\n<!-- /report -->\nafter, with `<!-- report: RUN NAME -->` named\n"
    )
    assert embedded(new, PIECES) == new


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- report: quik table1 -->\n<!-- /report -->\n", "did you mean 'quick'"),
        ("<!-- report: quick table11 -->\n<!-- /report -->\n", "did you mean 'table1'"),
        ("<!-- report: quick table1 -->\n", "closed"),
        ("<!-- report: quick table1 -->\n<!-- report: quick curves -->\n<!-- /report -->\n", "closed"),
        ("<!-- /report -->\n", "closed"),
    ],
)
def test_wrong_marks_are_named(text, said):
    with pytest.raises(BadInput, match=said) as error:
        embedded(text, PIECES)
    assert "README.md" in str(error.value)


def test_a_page_in_a_folder_links_from_there():
    pieces = {"quick": {"curves": "![x](published/quick/report/curves.png) and [y](#here)\n"}}
    text = "<!-- report: quick curves -->\n<!-- /report -->\n"
    assert "\n![x](../published/quick/report/curves.png) and [y](#here)\n" in embedded(text, pieces, Path("docs/a.md"))
    assert "\n![x](published/quick/report/curves.png) and" in embedded(text, pieces)
    with pytest.raises(BadInput, match=r"docs/a\.md: .*did you mean 'curves'"):
        embedded(text.replace("curves", "curve"), pieces, Path("docs/a.md"))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with two cells of the quick run published, and two pages of one table."""
    for cell in ("ladder-50", "vat-50"):
        shutil.copytree(ROOT / "published/quick/cells" / cell, tmp_path / "published/quick/cells" / cell)
    for page in ("README.md", "docs/quick.md"):
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text("# x\n<!-- report: quick table1-final-mnist -->\n<!-- /report -->\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_that_is_no_text_is_named(checkout, call):
    (checkout / "README.md").write_bytes(b"# x\xff\n")
    for check in ((), ("--check",)):
        fails(call("report", "--published", *check), "README.md is no UTF-8 text")


def test_published_is_one_command(checkout, call):
    assert call("report", "--published", "--check")[0] == 1
    code, out, _ = call("report", "--published")
    assert (code, out) == (0, [f"report: {Path('published/quick/report/report.md')}"])
    assert "| vat " in (checkout / "README.md").read_text()
    assert "| vat " in (checkout / "docs/quick.md").read_text()
    assert call("report", "--published", "--check")[0] == 0
    before = files(checkout)
    assert call("report", "--published")[0] == 0
    assert files(checkout) == before


@pytest.mark.parametrize("page", ["README.md", "docs/quick.md"])
def test_an_edited_page_is_found(checkout, call, page):
    assert call("report", "--published")[0] == 0
    readme = checkout / page
    readme.write_text(readme.read_text().replace("| vat ", "| VAT "))
    code, _, err = call("report", "--published", "--check")
    assert code == 1
    assert f"--- {Path(page)}, there" in err


def test_a_sweep_alone_can_be_published(checkout, call):
    shutil.copytree(ROOT / "published/vat-figures/tuning", checkout / "published/vat-figures/tuning")
    of_semi = shutil.copytree(ROOT / "published/vat-figures/tuning", checkout / "published/vat-semi/tuning")
    (of_semi / "tuning.csv").write_text((of_semi / "tuning.csv").read_text().replace(",60000,", ",1000,"))
    readme = checkout / "README.md"
    readme.write_text(readme.read_text() + "<!-- report: vat-figures tuning -->\n<!-- /report -->\n")
    assert call("report", "--published")[0] == 0
    assert "![Validation error against eps" in readme.read_text()
    report = checkout / "published/vat-figures/report"
    assert {path.suffix for path in report.glob("tuning.*")} == {".csv", ".pdf", ".png", ".md", ".tex"}
    assert "What was tried" in (report / "tuning.md").read_text()
    assert r"\label{tab:tuning-candidates}" in (report / "tuning.tex").read_text()
    assert "Left out" not in (report / "report.md").read_text()
    of_semi = checkout / "published/vat-semi/report/report.md"
    assert "Left out until `tune` chooses their eps: rpt-100, rpt-1000" in of_semi.read_text()
    assert "benchmark tune --suite vat-figures" in (report / "provenance.csv").read_text()


def test_updates_are_those_that_were_made(checkout):
    """Ten epochs of 240 steps are planned: of the ladder, which trains on, four are done; VAT has ended."""
    ladder = checkout / "published/quick/cells/ladder-50"
    history = pd.read_csv(ladder / "history.csv")
    history[history["epoch"] <= 4].to_csv(ladder / "history.csv", index=False)
    (ladder / "records.csv").unlink()
    data = collected("quick", [checkout / "published/quick"])
    made = data.plan[data.plan["labels"] == 50].groupby("model")["updates"].unique().map(list)
    assert made[["ladder", "vat", "lvan"]].tolist() == [[960], [2400], [0]]
    assert "Updates of this run: 2,400 at 50 labels, 2.4 %" in (said := render(**vars(data))["findings.md"].decode())
    assert "960" not in said
    unended = vars(data) | {"records": data.records[:0]}
    assert "No training that compares with the paper's has ended" in render(**unended)["findings.md"].decode()


def test_published_outside_a_checkout_is_one_line(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(call("report", "--published"), "published has no run")
    shutil.copytree(ROOT / "published/quick/cells", tmp_path / "published/quick/cells")
    fails(call("report", "--published"), "README.md")


@pytest.mark.parametrize(
    "wrong", [(), ("--published", "--suite", "quick"), ("--published", "--out", "x"), ("--published", "--merge", "x")]
)
def test_either_a_suite_or_published(call, wrong):
    fails(call("report", *wrong), "--suite NAME", "--published")


def test_an_empty_run_has_a_report(tmp_path, call):
    (tmp_path / "run").mkdir()
    code, out, _ = call("report", "--suite", write_suite(tmp_path), "--out", tmp_path / "run")
    assert (code, len(out)) == (0, 1)
    page = (tmp_path / "run/report/report.md").read_text()
    assert "training has ended: 0 of 2 planned" in page
    assert not [line for line in page.splitlines() if line.endswith(": ") or re.fullmatch(r"\| \S+ +\| +\|", line)]


@pytest.mark.parametrize("lacking", [["provenance.json"], ["config.json", "provenance.json"], ["history.csv"]])
def test_a_cell_without_provenance_is_named(copy, call, lacking):
    for name in lacking:
        (copy / "cells/vat-50" / name).unlink()
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    said = f"vat-50 ({' and '.join(lacking)} missing)"
    for name in ("report.md", "findings.md"):
        assert f"- Without provenance: {said}\n" in (copy / "report" / name).read_text()
    assert f",without provenance,{said}\n" in (copy / "report/provenance.csv").read_text()


def test_a_folder_of_no_cell_is_told_and_left_out(copy, call):
    shutil.copytree(copy / "cells/vat-50", copy / "cells/vat-51")
    code, _, err = call("report", "--suite", "tiny.toml", "--out", "run")
    said = f"warning: {Path('run/cells/vat-51')} is of no cell of the suite tiny.toml; the report leaves it out"
    assert (code, err) == (0, [said])
    assert "- Folders of no cell of the suite, left out: vat-51\n" in (copy / "report/report.md").read_text()


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_a_folder_of_no_cell_is_not_published(checkout, call, check):
    cells = checkout / "published/quick/cells"
    shutil.copytree(cells / "vat-50", cells / "vat-51")
    fails(call("report", "--published", *check), Path("published/quick/cells/vat-51"), "is of no cell", "remove it")


@pytest.mark.parametrize("content", ["{}", '{"stages": [1]}', '{"stages": [{"stage": "training", "seeds": [0]}]}'])
def test_provenance_of_another_kind_is_named(copy, call, content):
    (copy / "cells/vat-50/provenance.json").write_text(content)
    fails(
        call("report", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/provenance.json"), "provenance"
    )
