"""Records of several runs put together in one report, and runs that do not go together."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from running import fails, files

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture
def halves(copy):
    """The complete run `run` taken apart: `one` has vat and seed 0 of the ladder, `two` the ladder whole."""
    root = copy.parent
    for name in ("one", "two"):
        shutil.copytree(copy / "cells", root / name / "cells")
    shutil.rmtree(root / "two/cells/vat-50")
    for table in ("records.csv", "history.csv"):
        path = root / "one/cells/ladder-50" / table
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("1,")))
    return root


def test_two_runs_give_the_report_of_one(halves, call):
    assert call("report", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two")[0] == 0
    for name in ("table1.csv", "table2.csv", "pairs.csv", "robustness.csv", "smoothness.csv", "table1.tex"):
        assert (halves / "one/report" / name).read_bytes() == (halves / "run/report" / name).read_bytes()
    origin = (halves / "one/report/provenance.csv").read_text()
    assert 'vat-50,stage 1,"run one, training of seeds 0, 1' in origin
    assert 'ladder-50,stage 1,"run one and two, training of seeds 0, 1' in origin
    assert "stage 3" not in origin, "each run has the ladder's training and its attacks: they are the same"
    alone = pd.read_csv(halves / "run/report/provenance.csv").set_index("what")["value"]
    assert pd.read_csv(halves / "one/report/provenance.csv").set_index("what")["value"]["hours"] == alone["hours"]
    assert call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two", "--check")[0] == 0


@pytest.mark.parametrize(
    ("table", "start", "column", "value"),
    [("records.csv", "0,2,test_error", 6, "0.9"), ("history.csv", "0,1,test_error", 3, "0.9")],
)
def test_runs_that_contradict_each_other_are_both_named(halves, call, table, start, column, value):
    path = halves / "two/cells/ladder-50" / table
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(start))
    lines[at] = ",".join(value if i == column else cell for i, cell in enumerate(lines[at].split(",")))
    path.write_text("\n".join(lines) + "\n")
    outcome = call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two")
    other = Path("cells/ladder-50") / table
    fails(outcome, Path("one") / other, Path("two") / other, "contradict", "seed 0", "test_error", value)
    assert not (halves / "one/report").exists()


def test_a_line_recorded_twice_is_named(copy, call):
    path = copy / "cells/vat-50/records.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    fails(
        call("report", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/records.csv"), "recorded twice"
    )


@pytest.mark.parametrize("measure", ["test_error", "lowest_test_error"])
@pytest.mark.parametrize("column", ["attack", "norm", "eps"])
def test_an_error_that_is_recorded_of_an_attack_is_named(copy, call, measure, column):
    """Beside the error itself it is there twice, to a reader who asks for the measure."""
    path = copy / "cells/vat-50/records.csv"
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    row = records[records["measure"] == measure].iloc[:1].assign(**{column: "0.5"})
    pd.concat([records, row]).to_csv(path, index=False, lineterminator="\n")
    said = (Path("run/cells/vat-50/records.csv"), f"measure {measure}, {column} 0.5; remove the line")
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), *said)


@pytest.mark.parametrize(("column", "value"), [("epoch", "1"), ("subset", "other"), ("n", "7")])
def test_one_error_recorded_in_two_ways_is_said_to_be_there_twice(copy, call, column, value):
    path = copy / "cells/vat-50/records.csv"
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    row = records[records["measure"] == "test_error"].iloc[:1].assign(**{column: value})
    pd.concat([records, row]).to_csv(path, index=False, lineterminator="\n")
    said = (Path("run/cells/vat-50/records.csv"), "recorded twice: seed 0, measure test_error;")
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), *said)


def test_runs_that_differ_in_the_subset_alone_are_told_so(halves, call):
    path = halves / "two/cells/ladder-50/records.csv"
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    records.loc[(records["measure"] == "test_error") & (records["seed"] == "0"), "subset"] = "other"
    records.to_csv(path, index=False, lineterminator="\n")
    outcome = call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two")
    fails(
        outcome, "one/cells/ladder-50", "two/cells/ladder-50", "measure test_error has subset", "'other' in the other"
    )


def test_what_failed_in_one_run_and_ended_in_another_is_no_failure(halves, call):
    for run, failed in (("two", "ladder-50"), ("two", "vat-50"), ("one", "ladder-50")):
        path = halves / run / "cells" / failed / "failed.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"reason": "killed"}')
        typed = ("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two")
        assert call(*typed)[0] == 0
        page = (halves / "one/report/report.md").read_text()
        assert "vat-50: killed" not in page, "it ended in the other run"
        assert ("ladder-50: killed" in page) == (failed == "ladder-50" and run == "one"), "where it failed in both"


def test_records_of_other_data_are_not_put_together(copy, call):
    path = copy / "cells/vat-50/provenance.json"
    checksum = json.loads(path.read_text())["stages"][0]["sittings"][0]["checksums"]["digits"]
    path.write_text(path.read_text().replace(checksum, "0" * 64))
    outcome = call("report", "--suite", "tiny.toml", "--out", "run")
    fails(outcome, "digits is not the same data in all records", checksum, "0" * 64, "report on the runs apart")


@pytest.mark.parametrize("merged", [["run"], ["./run/"], ["other/../run"], ["other", "other/"]])
def test_a_run_is_not_merged_with_itself(copy, call, merged):
    shutil.copytree(copy, copy.parent / "other")
    before = files(copy)
    options = [piece for run in merged for piece in ("--merge", run)]
    for check in ((), ("--check",)):
        outcome = call("report", "--suite", "tiny.toml", "--out", "run", *options, *check)
        fails(outcome, f"--merge {Path(merged[-1])}", "has this run already")
    assert files(copy) == before


def test_what_is_merged_is_a_run(copy, call):
    (copy.parent / "empty").mkdir()
    outcome = call("report", "--suite", "tiny.toml", "--out", "run", "--merge", "empty")
    fails(outcome, "empty is not the folder of a run")


def test_runs_of_another_precision_or_suite_are_not_mixed(halves, call):
    config = halves / "two/cells/ladder-50/config.json"
    content = config.read_text()
    config.write_text(content.replace('"precision": "float32"', '"precision": "bfloat16"'))
    outcome = call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two")
    fails(outcome, Path("one/cells/ladder-50/config.json"), Path("two/cells/ladder-50/config.json"), "precision")
    config.write_text(content.replace('"epochs": 2', '"epochs": 3'))
    fails(call("report", "--suite", "tiny.toml", "--out", "one", "--merge", "two"), "two/cells/ladder-50", "epochs")


def test_a_missing_run_to_merge_is_named(copy, call):
    fails(call("report", "--suite", "tiny.toml", "--out", "run", "--merge", "none"), "none is missing")
