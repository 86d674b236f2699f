"""The command `report` on tiny suites, and its `--check`."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from running import VAT_ONLY, fails, files, write_suite

from benchmark import store

pytestmark = pytest.mark.usefixtures("plain_pictures")


def test_report_check_of_a_fresh_report(copy, call):
    before = files(copy)
    code, out, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    # The suite of the finished run lay elsewhere: where its file lies is not what the records give.
    assert (code, out, err) == (0, [f"{Path('run/report')}: what the records give"], [])
    assert files(copy) == before


def test_report_check_of_an_edited_report(copy, call):
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    table, extra = copy / "report/table1.md", copy / "report/notes.md"
    table.write_text(table.read_text().replace("vat", "VAT"))
    extra.write_text("")
    before = files(copy)
    code, out, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert (code, out) == (1, [])
    assert err[0] == f"{Path('run/report')}: not what the records give; run the same without --check"
    assert err[1:3] == ["--- run/report/table1.md, there", "+++ run/report/table1.md, from records"]
    assert any(line.startswith("-| VAT ") for line in err)
    assert any(line.startswith("+| vat ") for line in err)
    assert not any("notes.md" in line or line.startswith("--- run/report/table2") for line in err)
    assert files(copy) == before
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert call("report", "--suite", "tiny.toml", "--out", "run", "--check")[0] == 0


def test_report_check_of_no_report(copy, call):
    shutil.rmtree(copy / "report")
    code, _, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert code == 1
    assert {line.split(": ")[1] for line in err[1:]} == {"missing"}
    assert not (copy / "report").exists()


def test_report_of_changed_records(copy, call):
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    path = copy / "cells/vat-50/records.csv"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("0,2,test_error"))
    lines[at] = ",".join("0.9" if i == 6 else cell for i, cell in enumerate(lines[at].split(",")))
    path.write_text("\n".join(lines) + "\n")
    code, _, err = call("report", "--suite", "tiny.toml", "--out", "run", "--check")
    assert code == 1
    assert "--- run/report/table1.csv, there" in err


def test_report_of_a_partial_run_shows_what_is_missing(tmp_path, call):
    suite, run = write_suite(tmp_path), tmp_path / "run"
    assert call("run", "--suite", suite, "--out", run, "--models", "vat", "--seeds", "0")[0] == 0
    code, out, _ = call("report", "--suite", suite, "--out", run)
    assert (code, out) == (0, [f"report: {run / 'report' / 'report.md'}"])
    page = (run / "report/report.md").read_text()
    assert "vat, 50 labels, digits: 1 of 2 seeds" in page
    assert "ladder, 50 labels, digits: 0 of 2 seeds" in page
    assert "training has ended: 0 of 2 planned" in page


def test_report_has_the_means_of_the_records(finished):
    table = pd.read_csv(finished / "run/report/table1.csv").query("measure == 'test_error'").set_index("model")
    for model in ("ladder", "vat"):
        records = pd.read_csv(finished / f"run/cells/{model}-50/records.csv")
        first, second = records.loc[records["measure"] == "test_error", "value"]
        assert table.loc[model, "mean"] == pytest.approx((first + second) / 2, abs=1e-9)
        assert table.loc[model, "sd"] == pytest.approx(abs(first - second) / math.sqrt(2), abs=1e-9)
        assert table.loc[model, "n"] == 2


def test_report_outside_a_checkout_claims_no_changes(tmp_path, call, monkeypatch):
    monkeypatch.setattr(store, "git", lambda *arguments: None)
    store.environment.cache_clear()
    assert call("run", "--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")[0] == 0
    store.environment.cache_clear()
    assert "uncommitted" not in (tmp_path / "run/report/report.md").read_text()


def test_report_of_another_suite_is_refused(copy, call):
    suite = write_suite(copy.parent, ("epochs = 2", "epochs = 3"))
    fails(call("report", "--suite", suite, "--out", "run"), "epochs", 2, 3, "--out")


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_report_of_a_missing_folder(tmp_path, call, check):
    outcome = call("report", "--suite", write_suite(tmp_path), "--out", tmp_path / "none", *check)
    fails(outcome, tmp_path / "none", "missing", "--out")
    assert not (tmp_path / "none").exists()


def test_a_users_own_files_beside_a_report_stay(copy, call):
    own = [
        copy / "report" / name for name in ("report.pdf", "report.docx", "findings.txt", "table1.old.md", "audit.md")
    ]
    for path in own:
        path.write_text("mine")
    (copy / "report/table1.d").mkdir()
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert [path.name for path in own if path.is_file() and path.read_text() == "mine"] == [p.name for p in own[:4]]
    assert not (copy / "report/audit.md").exists(), "which only a report writes, and this one has no audit"
    assert (copy / "report/table1.d").is_dir()
