"""Reports: cells against the standard library, files against committed ones, pictures by their pixels.

tests/golden/records.csv and history.csv are synthetic: made up for this test, measured nowhere. The other files
there are what they must give; after a change that is meant, `python tests/test_reports.py` writes them anew.
"""

import io
import itertools
import math
import re
import statistics

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from golden_run import EXACT, GOLDEN, NO_RECORDS, PROVENANCE, TABLES, golden, text, without_pictures
from synthetic import attacked, error

from reports import KEYS, MODELS, aggregate, render
from reports.layout import number


def test_aggregate_agrees_with_the_standard_library():
    rng = np.random.default_rng(1)
    values = {(m, k): rng.random(n).tolist() for n, (m, k) in enumerate(itertools.product("ab", (50, 100)), start=2)}
    rows = [error(m, s, v, labels=k) for (m, k), column in values.items() for s, v in enumerate(column)]
    cells = aggregate(pd.DataFrame(rows).sample(frac=1, random_state=0)).set_index(["model", "labels"])
    assert len(cells) == len(values)
    for key, column in values.items():
        assert cells.loc[key, "mean"] == pytest.approx(statistics.fmean(column), rel=1e-12)
        assert cells.loc[key, "sd"] == pytest.approx(statistics.stdev(column), rel=1e-12)
        assert tuple(cells.loc[key, ["n", "diverged"]]) == (len(column), 0)


def test_aggregate_counts_what_diverged_and_averages_the_rest():
    values = [0.1, math.nan, 0.4, math.inf]
    rows = [error("vat", s, v) for s, v in enumerate(values)] + [error("ladder", 0, math.nan), error("lvan", 0, 0.2)]
    cells = aggregate(pd.DataFrame(rows)).set_index("model")
    assert cells.loc["vat", "mean"] == pytest.approx(0.25)
    assert cells.loc["vat", "sd"] == pytest.approx(statistics.stdev([0.1, 0.4]))
    assert cells["n"].to_dict() == {"vat": 2, "ladder": 0, "lvan": 1}
    assert cells["diverged"].to_dict() == {"vat": 2, "ladder": 1, "lvan": 0}
    assert math.isnan(cells.loc["ladder", "mean"])
    assert math.isnan(cells.loc["lvan", "sd"]), "one seed has no spread"


def test_bad_frames_are_refused():
    with pytest.raises(ValueError, match="recorded twice"):
        aggregate(pd.DataFrame([error("vat", 0, 0.1), error("vat", 0, 0.2)]))
    with pytest.raises(ValueError, match=r"records: expected .* missing: subset"):
        aggregate(pd.DataFrame([error("vat", 0, 0.1)]).drop(columns="subset"))


@pytest.mark.parametrize("name", EXACT)
def test_golden_files(files, name):
    assert without_pictures(text(files, name)) == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "measure", "norm", "model", "labels", "column"),
    [
        ("Test error in %, final epoch, mnist", "test_error", None, "lvan-lw", 50, "50 labels"),
        (
            "Test error in %, lowest over evaluated epochs, mnist",
            "lowest_test_error",
            None,
            "supervised",
            50,
            "50 labels",
        ),
        ("Test error in %, final epoch, mnist", "test_error", None, "vat", 100, "100 labels"),
        ("Error under attack in %, fgm, 100 labels, mnist", "attacked_error", "L2", "lvan-lw", 100, "L2 0.3"),
        ("Error under attack in %, fgm, 50 labels, mnist", "clean_error", "Linf", "supervised", 50, "clean"),
        ("Attack audit, fgm, 50 labels, mnist", "zero_gradient_share", None, "lvan-lw", 50, "zero gradient, %"),
    ],
)
def test_golden_cells_by_hand(title, measure, norm, model, labels, column):
    lines = (GOLDEN / "records.csv").read_text().splitlines()
    head = lines[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:]]
    wanted = {"measure": measure, "model": model, "labels": str(labels)} | ({"norm": norm} if norm else {})
    values: dict[str, float] = {}
    for row in rows:
        if wanted.items() <= row.items():  # the audit shows each seed's worst over norms
            values[row["seed"]] = max(values.get(row["seed"], 0.0), 100 * float(row["value"]))
    expected = f"{statistics.mean(values.values()):.2f} ± {statistics.stdev(values.values()):.2f}"
    cells = shown(text_of_page(), title)
    found = next(row for row in cells if row[0] == model)[cells[0].index(column)]
    assert re.fullmatch(re.escape(expected) + rf"( \({len(values)}\))?", found.strip("*"))


def text_of_page() -> str:
    return (GOLDEN / "report.md").read_text(encoding="utf-8")


def shown(page: str, title: str) -> list[list[str]]:
    """Header and rows of the table with this title."""
    block = re.split(rf"(?:### |<summary>){re.escape(title)}(?:</summary>)?\n", page)[1].strip().split("\n\n")[0]
    lines = [line for line in block.splitlines() if not line.startswith("|:")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_is_missing_or_diverged_is_said(files):
    table = text(files, "table1.md")
    assert re.search(r"\| vat +\| \d\.\d\d ± \d\.\d\d \(2/3\) ", table)
    assert "(2/3): two of three seeds, the others diverged" in table
    assert re.search(r"\| ladder +\| - +\| - +\|", table)
    assert "ladder (50 labels, mnist: 0 of 3 seeds)" in table
    assert "vat (100 labels, mnist: 2 of 3 seeds)" in table
    assert "supervised, ladder (100 labels, mnist: 0 of 3 seeds)" in table
    assert "vat (50 labels" not in table, "a diverged seed is recorded, not missing"
    assert "lvan-lw (100 labels, mnist: 0 of 3 seeds (L1-spread 0.3))" in text(files, "table2.md")
    assert "training has ended: 4 of 8 planned" in text(files, "report.md")
    comparison = text(files, "comparison.md")
    assert re.search(r"\| vat +\|[^|]+\| \d\.\d\d ± \d\.\d\d \(2/3\) +\|", comparison)
    assert "tests and verdicts are of those that did not" in comparison
    compared = pd.read_csv(io.BytesIO(files["comparison.csv"])).set_index(["against", "model", "labels", "norm"])
    assert compared.loc[("table1-final", "ladder", 50, "clean"), ["n", "diverged"]].tolist() == [0, 0]
    assert compared.loc[("table1-lowest", "vat", 50, "clean"), ["n", "diverged"]].tolist() == [2, 1]


@pytest.mark.parametrize("name", ["table1.csv", "table2.csv"])
def test_csv_reads_back_as_the_aggregate(files, name):
    back = pd.read_csv(
        io.BytesIO(files[name]),
        keep_default_na=False,
        na_values=dict.fromkeys(("eps", "mean", "sd", "low", "high"), ""),
    )
    whole = aggregate(golden()[0]).query("attack == '' or attack == 'fgm' and eps == 0.3")
    expected = whole[whole["measure"].isin(back["measure"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(back, expected, check_dtype=False, rtol=1e-9)
    assert not back.duplicated(KEYS).any()


@pytest.mark.parametrize("name", TABLES)
def test_latex_tables_are_regular(files, name):
    source = text(files, f"{name}.tex")
    tables = re.findall(
        r"\\begin\{tabular\}\{@\{\}(l+)(p\{0\.\d\d\\linewidth\})?@\{\}\}\n(.*?)\\end\{tabular\}", source, flags=re.S
    )
    assert len(tables) == source.count(r"\begin{table}") > 0
    for columns, wrapped, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns) + bool(wrapped)}
    labels = re.findall(r"\\label\{(.*?)\}", source)
    assert len(labels) == len(set(labels)) >= 1
    assert not re.search(r"(?<!\\)[%#_]", re.sub(r"\\(label|begin|end)\{.*?\}", "", source))
    assert source.isascii()
    assert "U+" not in source, "a character that LaTeX was not told"


def test_pictures_show_every_model_and_are_the_same_again(files):
    again = render(*golden(), PROVENANCE)
    assert files == again
    for name, models in {"smoothness": 3, "robustness": 3}.items():
        assert files[f"{name}.png"].startswith(b"\x89PNG\r\n\x1a\n")
        assert files[f"{name}.pdf"].startswith(b"%PDF")
        assert b"Date" not in files[f"{name}.pdf"]
        pixels = matplotlib.image.imread(io.BytesIO(files[f"{name}.png"]))[..., :3]
        assert 0.02 < (pixels.min(axis=-1) < 0.9).mean() < 0.5
        seen = {"#" + "".join(f"{round(255 * c):02X}" for c in rgb) for rgb in np.unique(pixels.reshape(-1, 3), axis=0)}
        assert len({m for m in ("supervised", "vat", "lvan-lw") if MODELS[m].colour in seen}) == models


def test_record_order_does_not_matter(files):
    records, history, plan = golden()
    shuffled = render(records.sample(frac=1, random_state=3), history[:0], plan[::-1], PROVENANCE)
    same = [name for name in EXACT if name.startswith(("table", "comparison"))]
    assert {n: shuffled[n] for n in same} == {n: files[n] for n in same}


def test_nothing_at_all():
    files = render(NO_RECORDS, NO_RECORDS, NO_RECORDS, {})
    pages = {"report.md", "report.html"}
    always = set(TABLES) - {"audit", "remains", "transfer"}
    assert set(files) == {f"{name}.{end}" for name in always for end in ("md", "tex", "csv")} | pages
    assert "No audit has been made" in text(files, "report.md")
    for page in map(text, [files] * 2, pages):
        assert "No attack has been recorded" in page
        assert "No history has been recorded" in page
    assert "not tested</strong> in this run (23 of 23)" in text(files, "report.html")
    assert text(files, "table1.csv").splitlines() == [",".join([*KEYS, "mean", "sd", "low", "high", "n", "diverged"])]


def test_a_plan_without_records_shows_what_is_to_come():
    plan = pd.DataFrame({"dataset": "digits", "model": ["lvan", "vat"], "labels": 100, "seed": 0})
    table = text(render(NO_RECORDS, NO_RECORDS, plan, {}), "table1.md")
    assert re.findall(r"\| (\S+) +\| - ", table) == ["vat", "lvan"] * 2
    assert "vat, lvan (100 labels, digits: 0 of 1 seeds)" in table


def test_a_planned_grid_on_mnist_without_records_has_no_verdict():
    plan = pd.DataFrame({"dataset": "mnist", "model": ["lvan", "vat"], "labels": 50, "seed": 0})
    found = pd.read_csv(io.BytesIO(render(NO_RECORDS, NO_RECORDS, plan, {})["comparison.csv"]))
    assert set(found["verdict"]) == {"not run"}


def test_one_seed_an_unknown_model_and_no_plan():
    rows = [error("zebra", 0, 0.25), error("vat", 0, 0.125), error("ant", 0, 0.5)]
    rows += [attacked("zebra", 0, 0.75), attacked("zebra", 0, 0.25, measure="clean_error"), attacked("vat", 0, 0.0)]
    files = render(pd.DataFrame(rows), NO_RECORDS, NO_RECORDS, {"suite": "tiny"})
    table = text(files, "table1.md").split("<details>")[0]
    assert re.findall(r"\| (\w+) +\| ([^|]+?) +\|", table)[1:] == [
        ("vat", "12.50"),
        ("ant", "50.00"),
        ("zebra", "25.00"),
    ]
    assert "±" not in table
    assert "n = 1), hence no spread" in table
    assert re.search(r"\| zebra +\| 25\.00 +\| 75\.00 +\|", text(files, "table2.md"))
    assert "nothing here compares" in text(files, "comparison.md"), "the published figures are MNIST's alone"
    assert "robustness.png" in files
    assert "smoothness.png" not in files
    assert text(files, "report.md").startswith("# Report: tiny\n")


def test_bold_is_the_one_that_is_surely_the_best():
    rng = np.random.default_rng(0)
    rows = [
        error(m, s, mean + s / 100 + rng.random() / 1e4)
        for m, mean in {"vat": 0.3, "lvan": 0.1}.items()
        for s in range(5)
    ]
    sure = render(pd.DataFrame(rows), NO_RECORDS, NO_RECORDS, {})
    assert re.findall(r"\*\*(.*?)\*\*", text(sure, "table1.md")) == ["12.01 ± 1.58"]
    assert r"lvan & \textbf{12.01 $\pm$ 1.58} \\" in text(sure, "table1.tex")
    assert "<strong>12.01 ± 1.58</strong>" in text(sure, "report.html")
    unsure = render(pd.DataFrame(rows[:1] + rows[5:6]), NO_RECORDS, NO_RECORDS, {})
    assert "**" not in text(unsure, "table1.md"), "one seed is never sure"


def test_wholly_diverged():
    rows = [error("vat", s, math.nan) for s in (0, 1)] + [attacked("vat", s, math.nan) for s in (0, 1)]
    records = pd.DataFrame(rows)
    history = records[records["measure"] == "test_error"]
    files = render(records, history, NO_RECORDS, {})
    for name in ("table1.md", "table2.md"):
        assert re.search(r"\| vat +\|.* diverged \(2\) ", text(files, name))
    assert text(files, "smoothness.csv").splitlines()[1] == "digits,vat,50,test_error,3,,,,0,2"


def test_a_seed_that_diverges_late_is_in_no_point_of_its_curve(files):
    curve = pd.read_csv(io.BytesIO(files["smoothness.csv"])).set_index(["model", "labels", "measure", "epoch"])
    history = golden()[1]
    kept = history.query("model == 'vat' and labels == 50 and measure == 'test_error' and epoch == 1 and seed != 1")
    row = curve.loc[("vat", 50, "test_error", 1)]
    assert row["mean"] == pytest.approx(statistics.mean(kept["value"]))
    assert (row["lowest"], row["highest"]) == (min(kept["value"]), max(kept["value"]))
    assert (row["n"], row["diverged"]) == (2, 1)


def test_only_the_papers_attack_is_shown_at_its_eps_or_the_largest():
    settings = [("L2", 0.1), ("L2", 0.3), ("L2", 1.0), ("Linf", 0.1), ("Linf", 0.2)]
    rows = [attacked("vat", 0, 0.5, norm, eps) for norm, eps in settings]
    rows += [
        attacked("vat", 0, 0.9, norm, eps, attack=other)
        for norm, eps in settings
        for other in ("fgm/float64", "pgd-40x3")
    ]
    files = render(pd.DataFrame(rows), NO_RECORDS, NO_RECORDS, {})
    for name in ("robustness.csv", "table2.csv"):
        found = pd.read_csv(io.BytesIO(files[name]))
        assert dict(zip(found["norm"], found["eps"], strict=True)) == {"L2": 0.3, "Linf": 0.2}
        assert set(found.get("value", found.get("mean"))) == {0.5}


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "expected"),
    [
        (3.625, 2, "", "3.63"),
        (0.1 + 0.2, 1, "", "0.3"),
        (2.675 - 1e-12, 2, "", "2.68"),
        (-0.0001, 2, "+", "+0.00"),
        (-3.625, 2, "+", "-3.63"),
        (math.nan, 2, "", "-"),
        (1e14, 2, "", "100000000000000.00"),
        (-1e308, 2, "+", "-1.00e+308"),
        (math.inf, 2, "+", "+inf"),
    ],
)
def test_numbers_are_rounded_as_by_hand_whatever_the_last_bit(value, decimals, sign, expected):
    assert number(value, decimals, sign) == expected


if __name__ == "__main__":
    for name, content in render(*golden(), PROVENANCE).items():
        if name in EXACT:
            (GOLDEN / name).write_text(without_pictures(content.decode()), encoding="utf-8")
