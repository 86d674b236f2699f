"""The papers' figures and the logs' that reports compare with: as printed, and what the logs bear out."""

import math
import re
import statistics

import pytest
from golden_run import text

from reports import published


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
    page = text(files, "comparison.md")
    assert re.search(r"\| lvan-lw \| 1\.42 ± 0\.12 \(10\) ", page)
    assert re.search(r"\| lvan-lw \| 1\.58 ± 0\.16 \(10\) ", page)
    assert "exchanges its rows L1 and L2" in page
    assert "5.60 ± 1.58 %" in page
