"""The pages of a report: what links where, what a page fetches, what every table says of its attack."""

import base64
import re
from xml.etree import ElementTree

import pandas as pd
from golden_run import FIGURES, NO_RECORDS, PROVENANCE, golden, text
from synthetic import error

from reports import Report, render
from reports.report import SECTIONS, prepared


def test_report_links_only_files_that_are_there(files):
    page = text(files, "report.md")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links == ["one-and-many.png", "curves-Linf.png", "smoothness.png", "robustness.png"]
    assert set(links) <= set(files)
    assert "- Attack, labels: the model's own predictions" in page
    assert re.search(r"\| config\.sizes\.labelled +\| 100 +\|", page)
    assert re.search(r"\| vat-50 +\| training of seeds 0, 1, 2, 0\.100 h: none +\|", page)


def test_html_is_one_file_that_fetches_nothing(files):
    page = text(files, "report.html")
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert sources
    assert {source.split(",")[0] for source in sources if not source.startswith("#")} == {"data:image/png;base64"}
    assert "<script" not in page
    assert "figure:target img { min-width: var(--full); }" in page, "a phone shows a figure whole until it is tapped"
    assert not re.search(r'style="[^"]*min-width', page)
    assert "vertical-align: top" in page
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert {source[1:] for source in sources if source.startswith("#")} <= anchors
    for name in FIGURES:
        assert re.search(
            rf'<figure id="figure-{name}">\n.*<a href="#figure-{name}"[^>]*><img [^>]*"--full: \d+px; max', page
        )
        assert base64.b64encode(files[f"{name}.png"]).decode() in page
    ElementTree.fromstring(re.sub(r"<meta[^>]*>|<!DOCTYPE html>|<img[^>]*>", "", page))  # every element is closed


def test_every_table_of_errors_under_attack_names_the_threat_model():
    """Whose labels and whether it clips; norm and eps stand in the title or over the columns."""
    records, history, plan = golden()
    fgm = records[(records["attack"] == "fgm") & (records["measure"] == "attacked_error")]
    records = pd.concat([records, fgm.assign(attack="statistics/labelled")])
    run = prepared(records, history, plan, PROVENANCE | {"attack": {"clipping": "none", "labels": "predicted"}})
    said = {t.name: t for name in ("table2", "comparison", "pairs", "statistics") for t in SECTIONS[name](run).tables}
    kinds = ("table2-mnist-50", "comparison-table2-Linf-50", "comparison-logs-50", "pairs-attacked-error-L2-mnist-50")
    for name in (*kinds, "statistics-mnist-50"):
        assert "Threat model: clipping: none; labels: predicted." in said[name].caption
        assert re.search(r"(L2|Linf)(, eps)? 0\.3|at eps 0\.3", f"{said[name].title} {list(said[name].frame)}")


def test_commits_are_short_before_the_findings_and_whole_in_the_provenance():
    whole, other = "89da0b151e2a428cc9b8e154c040a93e79239e33", "b99b35a0936bfca8c9e5826f290d9e33fc5cf6b4"
    commits = [f"{whole} (clean tree)", f"{other} (tree changed)"]
    files = render(NO_RECORDS, NO_RECORDS, NO_RECORDS, {"suite": "x", "commit": commits})
    assert "- Commit: 89da0b151e2a (clean tree), b99b35a0936b (tree changed)\n" in text(files, "findings.md")
    assert ", ".join(commits) in text(files, "provenance.md")


def test_html_escapes_what_records_say():
    page = text(
        render(pd.DataFrame([error("<b>x&y", 0, 0.5)]), NO_RECORDS, NO_RECORDS, {"suite": "<i>"}), "report.html"
    )
    assert "&lt;b&gt;x&amp;y" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_every_spread_says_of_how_many_seeds_it_is():
    """In each table's caption n, or that it stands in brackets; of a figure as well."""
    pieces = Report.of(*golden(), PROVENANCE).pieces("here")
    spread = {name: piece for name, piece in pieces.items() if re.search(r"\d ± \d", piece)}
    assert {name.split("-")[0] for name in spread} >= {"table1", "table2", "remains", "transfer", "comparison"}
    for name, piece in spread.items():
        rows, said = piece.partition("\n\n")[::2]
        each = all(re.search(r"\d ± \d[^|]*\(\d+(/\d)?\)", cell) for cell in rows.split("|") if " ± " in cell)
        assert each or re.search(r"n = \d in every cell", said), name
    for name in {*FIGURES} - {"robustness"}:  # which has a mark for each seed
        assert re.search(r"\bn = \d( to \d, each mean's in the CSV file)?\. ?", pieces[name]), name
