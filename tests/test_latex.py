"""The tables in a bare `article` with `booktabs` alone."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from golden_run import PROVENANCE, TABLES, golden

from reports import render
from reports.layout import Table

ROOT = Path(__file__).parents[1]

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
See Table~\ref{%s}.
\input{%s.tex}
\end{document}
"""
OF_A_RUN = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def latex() -> str:
    """pdflatex, or a skip that says what is missing."""
    found = shutil.which("pdflatex")
    if not found or not subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).stdout:
        pytest.skip("pdflatex with booktabs is not installed: apt-get install texlive-latex-recommended")
    return found


@pytest.fixture(scope="module")
def files():
    return render(*golden(), PROVENANCE)


def compiled(folder, document):
    """What pdflatex says of a document, on the second pass."""
    (folder / "main.tex").write_text(document)
    command = [latex(), "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def fits(said):
    """No table leaves the page, to the right or below."""
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \((.*?)pt too wide\)", said)]
    assert max(wide, default=0.0) < 5
    assert "Float too large" not in said


@pytest.mark.parametrize("name", TABLES)
def test_tables_compile_and_fit_the_page(files, name, tmp_path):
    source = files[f"{name}.tex"].decode()
    (tmp_path / f"{name}.tex").write_text(source, encoding="ascii")
    said = compiled(tmp_path, DOCUMENT % (re.findall(r"\\label\{(.*?)\}", source)[0], name))
    assert "undefined" not in said, "the label is there"
    fits(said)


@pytest.mark.parametrize("run", sorted(path.parent.name for path in (ROOT / "published").glob("*/report")))
def test_published_tables_compile_and_fit_the_page(run, tmp_path):
    names = []
    for path in sorted((ROOT / "published" / run / "report").glob("*.tex")):
        shutil.copy(path, tmp_path)
        names.append(f"\\input{{{path.name}}}\\clearpage")
    assert names
    fits(compiled(tmp_path, OF_A_RUN % "\n".join(names)))


def numbers(source):
    """The table numbers that LaTeX gives: a caption counts one on."""
    steps = [at == "caption" or -1 for at in re.findall(r"\\(addtocounter|caption)\b", source)]
    return [sum(steps[: i + 1]) for i, step in enumerate(steps) if step == 1]


def test_a_wide_table_comes_in_parts_of_one_number():
    columns = {"model": ["vat", "lvan"], "by": ["a" * 20, "b"], **{f"column {i}": [f"{i} " * 8, "x"] for i in range(9)}}
    source = Table("wide", "Wide", pd.DataFrame(columns), "Said once.", keys=2).latex()
    heads = [line.split(" & ") for line in source.splitlines() if line.startswith("model")]
    assert [head[:2] for head in heads] == [["model", "by"]] * 2
    assert [cell.removesuffix(r" \\") for head in heads for cell in head[2:]] == [f"column {i}" for i in range(9)]
    assert numbers(source) == [1, 1]
    assert source.count(r"\label") == source.count("Said once.") == source.count("(continued)") == 1


def test_running_text_of_pages_is_whole_and_a_long_word_can_be_broken():
    text = " ".join(f"word{i}" for i in range(3000))
    rows = pd.DataFrame({"what": ["first", "text", "hash"], "value": ["x", text, "f" * 64]})
    source = Table("long", "Long", rows, "Said once.", wrapped=True).latex()
    assert re.findall(r"word\d+", source) == text.split()
    pages = source.split(r"\begin{table}")[1:]
    assert len(pages) > 3
    assert all(len(page) < 44 * 101 + 500 for page in pages), "lines of a page, characters of a line"
    assert numbers(source) == [1] * len(pages)
    assert max(map(len, re.findall("f+", source))) == 16
