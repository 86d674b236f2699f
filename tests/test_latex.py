"""The tables in a bare `article` with `booktabs` alone."""

import re
import shutil
import subprocess

import pytest
from test_reports import PROVENANCE, TABLES, golden

from reports import render

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
See Table~\ref{%s}.
\input{%s.tex}
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


@pytest.mark.parametrize("name", TABLES)
def test_tables_compile_and_fit_the_line(files, name, tmp_path):
    program = latex()
    source = files[f"{name}.tex"].decode()
    (tmp_path / f"{name}.tex").write_text(source, encoding="ascii")
    label = re.findall(r"\\label\{(.*?)\}", source)[0]
    (tmp_path / "main.tex").write_text(DOCUMENT % (label, name))
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout, "the label is there"
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \((.*?)pt too wide\)", done.stdout)]
    assert max(wide, default=0.0) < 5, "no table leaves the page"
