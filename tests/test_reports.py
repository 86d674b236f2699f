"""Reports: cells against the standard library, files against committed ones, pictures by their pixels.

tests/golden/records.csv and history.csv are synthetic: made up for this test, measured nowhere. The other files
there are what they must give; after a change that is meant, `python tests/test_reports.py` writes them anew.
"""

import io
import itertools
import math
import re
import statistics
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from reports import KEYS, MODELS, aggregate, published, render

GOLDEN = Path(__file__).with_name("golden")
EXACT = ["report.md", "table1.csv", "table1.md", "table1.tex", "table2.csv", "table2.md", "table2.tex"]
EXACT += ["robustness.csv", "smoothness.csv"]
PROVENANCE = {
    "suite": "golden",
    "description": "Made-up records.",
    "command": "python -m benchmark run --suite golden",
    "device": "none",
    "attack": {"name": "fgm", "eps": [0.3], "clip": None, "labels": "the model's own predictions"},
    "config": {"epochs": 4, "sizes": {"labelled": 100}},
}
NO_RECORDS = pd.DataFrame()


def golden() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Records, history and the plan: four models, two label counts, three seeds."""
    cells = itertools.product(["mnist"], ["ladder", "lvan-lw", "supervised", "vat"], [50, 100], [0, 1, 2])
    plan = pd.DataFrame(cells, columns=["dataset", "model", "labels", "seed"])
    return pd.read_csv(GOLDEN / "records.csv"), pd.read_csv(GOLDEN / "history.csv"), plan


def record(model: str, seed: int, value: float, *, measure: str = "test_error", labels: int = 50, **more: object):
    kind = {"attack": "", "norm": "", "eps": math.nan} | more
    where = {"dataset": "digits", "model": model, "labels": labels, "seed": seed, "epoch": 3, "measure": measure}
    return where | kind | {"value": value, "n": 500, "subset": "abc"}


def attacked(model: str, seed: int, value: float, norm: str = "L2", eps: float = 0.3, **more: object):
    kind = {"measure": "attacked_error", "attack": "fgm", "norm": norm, "eps": eps}
    return record(model, seed, value, **(kind | more))


def text(files: dict[str, bytes], name: str) -> str:
    return files[name].decode()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return render(*golden(), PROVENANCE)


def test_aggregate_agrees_with_the_standard_library():
    rng = np.random.default_rng(1)
    values = {(m, k): rng.random(n).tolist() for n, (m, k) in enumerate(itertools.product("ab", (50, 100)), start=2)}
    rows = [record(m, s, v, labels=k) for (m, k), column in values.items() for s, v in enumerate(column)]
    cells = aggregate(pd.DataFrame(rows).sample(frac=1, random_state=0)).set_index(["model", "labels"])
    assert len(cells) == len(values)
    for key, column in values.items():
        assert cells.loc[key, "mean"] == pytest.approx(statistics.fmean(column), rel=1e-12)
        assert cells.loc[key, "sd"] == pytest.approx(statistics.stdev(column), rel=1e-12)
        assert tuple(cells.loc[key, ["n", "diverged"]]) == (len(column), 0)


def test_aggregate_counts_what_diverged_and_averages_the_rest():
    values = [0.1, math.nan, 0.4, math.inf]
    rows = [record("vat", s, v) for s, v in enumerate(values)] + [record("ladder", 0, math.nan), record("lvan", 0, 0.2)]
    cells = aggregate(pd.DataFrame(rows)).set_index("model")
    assert cells.loc["vat", "mean"] == pytest.approx(0.25)
    assert cells.loc["vat", "sd"] == pytest.approx(statistics.stdev([0.1, 0.4]))
    assert cells["n"].to_dict() == {"vat": 2, "ladder": 0, "lvan": 1}
    assert cells["diverged"].to_dict() == {"vat": 2, "ladder": 1, "lvan": 0}
    assert math.isnan(cells.loc["ladder", "mean"])
    assert math.isnan(cells.loc["lvan", "sd"]), "one seed has no spread"


def test_bad_frames_are_refused():
    with pytest.raises(ValueError, match="recorded twice"):
        aggregate(pd.DataFrame([record("vat", 0, 0.1), record("vat", 0, 0.2)]))
    with pytest.raises(ValueError, match=r"records: expected .* missing: subset"):
        aggregate(pd.DataFrame([record("vat", 0, 0.1)]).drop(columns="subset"))


@pytest.mark.parametrize("name", EXACT)
def test_golden_files(files, name):
    assert text(files, name) == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "measure", "norm", "model", "labels"),
    [
        ("table1.md", "test_error", None, "lvan-lw", 50),
        ("table1.md", "lowest_test_error", None, "supervised", 50),
        ("table1.md", "test_error", None, "vat", 100),
        ("table2.md", "attacked_error", "L2", "lvan-lw", 100),
        ("table2.md", "clean_error", "Linf", "supervised", 50),
        ("table2.md", "zero_gradient_share", "L2", "lvan-lw", 50),
    ],
)
def test_golden_cells_by_hand(table, measure, norm, model, labels):
    lines = (GOLDEN / "records.csv").read_text().splitlines()
    head = lines[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:]]
    wanted = {"measure": measure, "norm": norm or "", "model": model, "labels": str(labels)}
    if measure == "zero_gradient_share":
        del wanted["norm"]  # the audit shows each seed's worst over norms
    per_seed = itertools.groupby(
        sorted((row["seed"], 100 * float(row["value"])) for row in rows if wanted.items() <= row.items()),
        lambda p: p[0],
    )
    values = [max(value for _, value in pairs) for _, pairs in per_seed]
    expected = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)})"
    titles = {"test_error": "final epoch", "lowest_test_error": "lowest over", "zero_gradient_share": "Attack audit"}
    blocks = (GOLDEN / table).read_text(encoding="utf-8").split("### ")[1:]
    block = next(b for b in blocks if titles.get(measure, "Error under attack") in b.splitlines()[0])
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines() if line.startswith("|")]
    rows = {"attacked_error": [norm, "0.3"], "clean_error": ["clean", ""], "zero_gradient_share": ["zero gradient, %"]}
    start, column = ([str(labels), *rows[measure]], model) if norm else ([model], f"{labels} labels")
    found = next(row for row in cells if row[: len(start)] == start)[cells[0].index(column)]
    assert found == expected


def test_what_is_missing_or_diverged_is_said(files):
    table = text(files, "table1.md")
    assert re.search(r"\| vat +\| \d\.\d\d ± \d\.\d\d \(2\) \(1 diverged\)", table)
    assert re.search(r"\| ladder +\| - +\| - +\|", table)
    assert "ladder, 50 labels, mnist: 0 of 3 seeds" in table
    assert "vat, 100 labels, mnist: 2 of 3 seeds" in table
    assert "vat, 50 labels" not in table, "a diverged seed is recorded, not missing"
    assert "lvan-lw, 100 labels, mnist: 0 of 3 seeds (L1-spread 0.3)" in text(files, "table2.md")
    assert "complete: 4 of 8 planned" in text(files, "report.md")


@pytest.mark.parametrize("name", ["table1.csv", "table2.csv"])
def test_csv_reads_back_as_the_aggregate(files, name):
    back = pd.read_csv(io.BytesIO(files[name]), keep_default_na=False, na_values={"eps": "", "mean": "", "sd": ""})
    whole = aggregate(golden()[0])
    expected = whole[whole["measure"].isin(back["measure"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(back, expected, check_dtype=False, rtol=1e-11)
    assert not back.duplicated(KEYS).any()


def test_latex_tables_are_regular(files):
    for name in ("table1.tex", "table2.tex"):
        tables = re.findall(r"\\begin\{tabular\}\{(l+)\}\n(.*?)\\end\{tabular\}", text(files, name), flags=re.S)
        assert len(tables) == 3
        for columns, body in tables:
            rows = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert {row.count("&") + 1 for row in rows} == {len(columns)}
        assert not re.search(r"(?<!\\)[%#_]", text(files, name))
        assert text(files, name).isascii()


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
    same = [name for name in EXACT if name.startswith("table")]
    assert {n: shuffled[n] for n in same} == {n: files[n] for n in same}


def test_nothing_at_all():
    files = render(NO_RECORDS, NO_RECORDS, NO_RECORDS, {})
    assert set(files) == {f"table{i}.{end}" for i in (1, 2) for end in ("md", "tex", "csv")} | {"report.md"}
    assert "No attack has been recorded" in text(files, "report.md")
    assert "No history has been recorded" in text(files, "report.md")
    assert text(files, "table1.csv").splitlines() == [",".join([*KEYS, "mean", "sd", "n", "diverged"])]


def test_a_plan_without_records_shows_what_is_to_come():
    plan = pd.DataFrame({"dataset": "digits", "model": ["lvan", "vat"], "labels": 100, "seed": 0})
    table = text(render(NO_RECORDS, NO_RECORDS, plan, {}), "table1.md")
    assert re.findall(r"\| (\S+) +\| - ", table) == ["vat", "lvan"] * 2
    assert "vat, 100 labels, digits: 0 of 1 seeds" in table


def test_one_seed_an_unknown_model_and_no_plan():
    rows = [record("zebra", 0, 0.25), record("vat", 0, 0.125), record("ant", 0, 0.5)]
    rows += [attacked("zebra", 0, 0.75), attacked("zebra", 0, 0.25, measure="clean_error"), attacked("vat", 0, 0.0)]
    files = render(pd.DataFrame(rows), NO_RECORDS, NO_RECORDS, {"suite": "tiny"})
    table = text(files, "table1.md").split("###")[1]
    assert re.findall(r"\| (\w+) +\| ([^|]+?) +\|", table)[1:] == [
        ("vat", "12.50 (1)"),
        ("ant", "50.00 (1)"),
        ("zebra", "25.00 (1)"),
    ]
    assert "±" not in table
    assert "no spread" in table
    assert "75.00 (1)" in text(files, "table2.md")
    assert "published figures" not in text(files, "table1.md"), "they are MNIST's alone"
    assert "robustness.png" in files
    assert "smoothness.png" not in files
    assert text(files, "report.md").startswith("# Report: tiny\n")


def test_wholly_diverged():
    rows = [record("vat", s, math.nan) for s in (0, 1)] + [attacked("vat", s, math.nan) for s in (0, 1)]
    records = pd.DataFrame(rows)
    history = records[records["measure"] == "test_error"]
    files = render(records, history, NO_RECORDS, {})
    assert "(2 diverged)" in text(files, "table1.md")
    assert "(2 diverged)" in text(files, "table2.md")
    assert text(files, "smoothness.csv").splitlines()[1] == "digits,vat,50,test_error,3,,,,0,2"


def test_a_seed_that_diverges_late_is_in_no_point_of_its_curve(files):
    curve = pd.read_csv(io.BytesIO(files["smoothness.csv"])).set_index(["model", "labels", "measure", "epoch"])
    history = golden()[1]
    kept = history.query("model == 'vat' and labels == 50 and measure == 'test_error' and epoch == 1 and seed != 1")
    row = curve.loc[("vat", 50, "test_error", 1)]
    assert row["mean"] == pytest.approx(statistics.mean(kept["value"]))
    assert (row["lowest"], row["highest"]) == (min(kept["value"]), max(kept["value"]))
    assert (row["n"], row["diverged"]) == (2, 1)


def test_robustness_shows_eps_of_the_paper_or_the_largest():
    settings = [("L2", 0.1), ("L2", 0.3), ("L2", 1.0), ("Linf", 0.1), ("Linf", 0.2)]
    rows = [attacked("vat", 0, 0.5, norm, eps) for norm, eps in settings]
    shown = pd.read_csv(io.BytesIO(render(pd.DataFrame(rows), NO_RECORDS, NO_RECORDS, {})["robustness.csv"]))
    assert dict(zip(shown["norm"], shown["eps"], strict=True)) == {"L2": 0.3, "Linf": 0.2}


def test_report_links_only_files_that_are_there(files):
    page = text(files, "report.md")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links == ["smoothness.png", "robustness.png"]
    assert set(links) <= set(files)
    assert "- labels: the model's own predictions" in page
    assert re.search(r"\| config\.sizes\.labelled +\| 100 +\|", page)


def test_published_tables_hold_the_papers_numbers():
    table1 = published.table1().set_index(["model", "labels"])
    assert tuple(table1.loc[("lvan-lw", 50), ["mean", "spread", "runs"]]) == (1.42, 0.12, 10)
    assert tuple(table1.loc[("vat", 50), ["mean", "spread"]]) == (5.38, 2.92)
    assert table1.loc[("ladder", 1000), "printed"] == "1.10 ± 0.05"
    table2 = published.table2().set_index(["norm", "model", "labels"])
    assert table2.loc[("L2", "ladder", 50), ["printed_norm", "printed"]].tolist() == ["L1", "69 ± 7"]
    assert table2.loc[("L1-spread", "lvan-lw", 50), ["printed_norm", "printed"]].tolist() == ["L2", "1.6 ± 0.2"]
    assert table2.loc[("Linf", "vat", 1000), "printed"] == "10.6 ± 0.4"
    assert (len(table1), len(table2), len(published.runs())) == (18, 54, 25)


def test_the_logs_bear_out_that_table_2_exchanges_its_rows():
    logs = published.attacks().query("labels == 50 and norm == 'L2'").groupby("model")
    # the abstract's L2 figures
    for model, (mean, spread) in {"lvan-lw": (2.4, 0.3), "ladder": (68.6, 6.5), "vat": (9.9, 7.5)}.items():
        errors = logs.get_group(model)["attacked_error"].tolist()
        assert round(statistics.mean(errors), 1) == mean
        assert round(statistics.stdev(errors), 1) == spread
    clean = logs.get_group("ladder")["clean_error"].tolist()
    assert f"{statistics.mean(clean):.2f} ± {statistics.stdev(clean):.2f}" == "5.60 ± 1.58"


def test_the_logs_bear_out_that_table_1_prints_standard_deviations_with_ddof_0():
    printed = published.table1().set_index(["model", "labels"])["spread"]
    logs = published.runs().query("round == 'first' and model != 'ladder'")  # the Ladder's logs lack four of ten runs
    assert len(logs) == 10
    for run in logs.itertuples():
        ddof_0 = run.lowest_sd * math.sqrt((run.runs - 1) / run.runs)
        assert ddof_0 == pytest.approx(printed[(run.model, run.labels)], abs=0.01)  # both are rounded to 0.01
    assert abs(printed[("lvac-lw", 50)] - 3.74) > 0.15, "not with ddof 1"
    assert abs(printed[("lvac-lw", 50)] - 3.74 / math.sqrt(10)) > 2, "not a standard error"


def test_published_figures_stand_beside_ours(files):
    assert re.search(r"\| lvan-lw \| 50 .*\| 1\.42 ± 0\.12 \(10\) \| 1\.58 ± 0\.16 \(10\) \|", text(files, "table1.md"))
    assert "exchanges its rows L1 and L2" in text(files, "table2.md")
    assert re.search(r"\| L2 +\| 50 +\| logs, clean .*\| 5\.60 ± 1\.58 \(5\) +\|", text(files, "table2.md"))


if __name__ == "__main__":
    for name, content in render(*golden(), PROVENANCE).items():
        if name in EXACT:
            (GOLDEN / name).write_bytes(content)
