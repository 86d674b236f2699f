"""The files of a run: what is written is what is read, in one order, and what cannot be read is named."""

import json
import math
import random
import subprocess

import pandas as pd
import pytest
import torch

from benchmark import store
from benchmark.provenance import commit
from benchmark.store import HISTORY, RECORDS, merge, read_json, read_table, read_tables, write_json, write_table
from zoo.errors import BadInput

CPU = torch.device("cpu")
ROWS = [
    (0, 2, "test_error", "", "", math.nan, 0.25, 500, "06b6b8eeed0f"),
    (0, 2, "attacked_error", "fgm", "L2", 0.1, 1 / 3, 500, "06b6b8eeed0f"),
    (0, 2, "attacked_error", "fgm", "L2", 0.05, math.nan, 500, "06b6b8eeed0f"),
    (10, 2, "test_error", "", "", math.nan, math.nan, 500, "7dc20fb70742"),
    (2, 1, "lowest_test_error", "", "", math.nan, 0.0, 500, "123e45678901"),
]
TEXT = """seed,epoch,measure,attack,norm,eps,value,n,subset
0,2,attacked_error,fgm,L2,0.05,nan,500,06b6b8eeed0f
0,2,attacked_error,fgm,L2,0.1,0.3333333333333333,500,06b6b8eeed0f
0,2,test_error,,,,0.25,500,06b6b8eeed0f
2,1,lowest_test_error,,,,0.0,500,123e45678901
10,2,test_error,,,,nan,500,7dc20fb70742
"""


def frame(rows=ROWS, columns=RECORDS):
    """A table of rows, typed."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def tuples(table):
    """Rows in the order of the keys, NaN as None."""
    rows = [tuple(None if value != value else value for value in row) for row in table.itertuples(index=False)]
    return sorted(rows, key=str)


# --------------------------------------------------------------------------------------------------- tables


def test_the_file_is_as_written_by_hand(tmp_path):
    write_table(tmp_path / "deep" / "records.csv", frame(), RECORDS)
    assert (tmp_path / "deep" / "records.csv").read_bytes() == TEXT.encode()


def test_the_file_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = list(ROWS)
    for turn in range(5):
        random.Random(turn).shuffle(rows)
        write_table(tmp_path / "records.csv", frame(rows), RECORDS)
        assert (tmp_path / "records.csv").read_text() == TEXT


def test_a_table_comes_back_as_it_was(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text(TEXT)
    table = read_table(path, RECORDS)
    assert tuples(table) == sorted([tuple(None if v != v else v for v in row) for row in ROWS], key=str)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == RECORDS
    write_table(path, table, RECORDS)
    assert path.read_text() == TEXT


def test_floats_come_back_to_the_last_bit(tmp_path):
    draw = random.Random(0)
    values = [draw.random() * 10.0 ** draw.randint(-12, 6) for _ in range(2000)] + [5e-324, 0.1 + 0.2, 1e22, 1.0]
    rows = [(seed, 1, "mean_norm_ratio", "fgm", "L2", value, value, 1, "a") for seed, value in enumerate(values)]
    write_table(tmp_path / "records.csv", frame(rows), RECORDS)
    table = read_table(tmp_path / "records.csv", RECORDS)
    assert table["value"].tolist() == values
    assert table["eps"].tolist() == values


@pytest.mark.parametrize("columns", [RECORDS, HISTORY])
def test_an_empty_table_and_no_table_are_the_same(tmp_path, columns):
    nothing = read_table(tmp_path / "none.csv", columns)
    write_table(tmp_path / "empty.csv", nothing, columns)
    assert (tmp_path / "empty.csv").read_text() == ",".join(columns) + "\n"
    for table in (nothing, read_table(tmp_path / "empty.csv", columns)):
        assert len(table) == 0
        assert {name: str(kind) for name, kind in table.dtypes.items()} == columns


@pytest.mark.parametrize("more", ["", '1,2,"a\nb",,,,0.5,500,x\n', "\n"], ids=["plain", "quoted", "blank line"])
def test_tables_read_at_once_are_those_read_one_by_one(tmp_path, more):
    for name, content in {"a": TEXT, "b": TEXT.splitlines(keepends=True)[0], "d": TEXT + more, "e": TEXT}.items():
        (tmp_path / name).write_text(content)
    paths = [tmp_path / name for name in "abcde"]
    found = read_tables(paths, RECORDS)
    assert found["file"].nunique() == 3
    for at, path in enumerate(paths):
        own = found[found["file"] == at].drop(columns="file").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, read_table(path, RECORDS), check_exact=True)
    nothing = read_tables([tmp_path / "c"], RECORDS)
    assert {name: str(kind) for name, kind in nothing.dtypes.items()} == RECORDS | {"file": "int64"}


def test_merge_replaces_and_adds():
    old = frame([(0, 1, "a", 0.5), (0, 2, "a", 0.4), (1, 1, "a", 0.3)], HISTORY)
    both = merge(old, [(0, 2, "a", 0.1), (0, 2, "b", 0.2), (1, 2, "a", math.nan)], HISTORY)
    wanted = [(0, 1, "a", 0.5), (0, 2, "a", 0.1), (0, 2, "b", 0.2), (1, 1, "a", 0.3), (1, 2, "a", None)]
    assert tuples(both) == wanted


def test_merge_keeps_apart_what_differs_in_norm_or_eps():
    at = [(0, 2, "attacked_error", "fgm", norm, eps) for norm in ("L2", "Linf") for eps in (0.1, 0.3)]
    old = frame([(*key, 0.5, 500, "a") for key in at])
    both = merge(old, [(*at[1], 0.9, 500, "b")], RECORDS)
    assert {row[:6]: row[6:] for row in tuples(both)} == {
        key: (0.9, 500, "b") if key == at[1] else (0.5, 500, "a") for key in at
    }


def test_merge_with_nothing_is_what_was_there(tmp_path):
    nothing = read_table(tmp_path / "none.csv", RECORDS)
    assert len(merge(nothing, [], RECORDS)) == 0
    assert tuples(merge(nothing, ROWS, RECORDS)) == tuples(frame())
    assert tuples(merge(frame(), [], RECORDS)) == tuples(frame())
    assert tuples(merge(frame(), ROWS[:2], RECORDS)) == tuples(frame())  # a place without eps is a place


HEAD, FIRST, *_ = TEXT.splitlines(keepends=True)
UNREADABLE = {
    "empty": b"",
    "other columns": b"seed,epoch\n1,2\n",
    "columns exchanged": TEXT.replace("seed,epoch", "epoch,seed", 1).encode(),
    "no text": b"\xff\xfe\x00\x01",
    "a word for a number": (HEAD + FIRST.replace("nan", "low")).encode(),
    "a broken seed": (HEAD + FIRST.replace("0,2", "0.5,2", 1)).encode(),
    "no value": (HEAD + FIRST.replace("nan", "")).encode(),
    "a cell too many": (HEAD + FIRST.strip() + ",x\n").encode(),
    "cut after n": TEXT[: TEXT.rindex(",")].encode(),
    "cut within n": TEXT[: TEXT.rindex("0,")].encode(),
    "cut within the subset": TEXT[:-6].encode(),
    "cut before n": TEXT[: TEXT.rindex(",500")].encode(),
    "cut within a quotation": (TEXT + '"1,2').encode(),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_table_is_named(tmp_path, case):
    path = tmp_path / "records.csv"
    path.write_bytes(UNREADABLE[case])
    (tmp_path / "whole.csv").write_text(TEXT)
    among = [tmp_path / "whole.csv", path, tmp_path / "whole.csv"]
    for read in (lambda: read_table(path, RECORDS), lambda: read_tables(among, RECORDS)):
        with pytest.raises(BadInput) as error:
            read()
        message = str(error.value)
        assert message.startswith(f"{path} is not readable")
        assert "\n" not in message


# ----------------------------------------------------------------------------------------------------- JSON


def test_json_comes_back_and_is_sorted(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": "text"}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert read_json(tmp_path / "none.json") is None


@pytest.mark.parametrize("content", [b"", b'{"model": ', b"\xff{}", b"[]", b"null", b'"text"'])
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is not readable") as error:
        read_json(path)
    assert str(error.value).startswith(str(path))


# ----------------------------------------------------------------------------------------------- provenance


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The project as if it lay in an empty folder that is in no checkout."""
    monkeypatch.setattr(store, "__file__", str(tmp_path / "benchmark" / "store.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    store.environment.cache_clear()
    yield tmp_path
    store.environment.cache_clear()


def test_provenance_says_what_a_result_comes_from(elsewhere):
    found = store.environment(CPU)
    assert found.keys() == {"commit", "clean_tree", "python", "versions", "device", "threads"}
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["versions"]["pandas"] == pd.__version__
    assert found["threads"] == torch.get_num_threads()
    assert "cores" in found["device"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("key", "value"), [("sources", "0"), ("sources", {"0": ["vat"]}), ("budget", 3), ("asked", [1])]
)
def test_a_stage_of_another_kind_is_refused(tmp_path, key, value):
    stage = {"stage": "transfer", "seeds": [0], "hours": 0.1, "sittings": []}
    store.write_json(tmp_path / "provenance.json", {"stages": [stage]})
    assert store.stages(tmp_path) == [stage]
    store.write_json(tmp_path / "provenance.json", {"stages": [stage | {key: value}]})
    with pytest.raises(BadInput, match=f"provenance.json is no cell's provenance .*{key}"):
        store.stages(tmp_path)


def test_outside_a_checkout_the_commit_is_unknown(elsewhere):
    found = store.environment(CPU)
    assert (found["commit"], found["clean_tree"]) == ("unknown", False)
    assert commit(found) == "unknown"


def test_without_git_the_commit_is_unknown(elsewhere, monkeypatch):
    monkeypatch.setenv("PATH", str(elsewhere))
    assert store.environment(CPU)["commit"] == "unknown"


def test_inside_a_checkout_the_commit_is_that_of_head(elsewhere):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=elsewhere, check=True, capture_output=True)

    (elsewhere / "benchmark").mkdir()
    (elsewhere / "benchmark" / "code.py").write_text("1\n")
    git("init", "-b", "main")
    git("add", "benchmark/code.py")
    git("commit", "-m", "first")
    head = (elsewhere / ".git/refs/heads/main").read_text().strip()
    (elsewhere / "result.csv").write_text("not code\n")
    assert (store.environment(CPU)["commit"], store.environment(CPU)["clean_tree"]) == (head, True)
    store.environment.cache_clear()
    (elsewhere / "benchmark" / "code.py").write_text("2\n")
    assert (store.environment(CPU)["commit"], store.environment(CPU)["clean_tree"]) == (head, False)


def test_command_is_what_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/benchmark/__main__.py", "run", "--suite", "smoke"])
    assert store.command() == "python -m benchmark run --suite smoke"
    monkeypatch.setattr("sys.argv", ["benchmark", "run", "--data", "t\udce9"])
    assert store.command() == "python -m benchmark run --data t?"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("/home/ann/runs/quick", "runs/quick"),
        ("--out=/home/ann/runs/quick", "--out=runs/quick"),
        ("/scratch", "scratch"),
        ("runs/a/quick", "runs/a/quick"),
        ("--labels=50,100", "--labels=50,100"),
        ("", ""),
    ],
)
def test_a_recorded_command_does_not_tell_whose_disk_it_was_on(monkeypatch, typed, kept):
    monkeypatch.setattr("sys.argv", ["x", "run", typed])
    assert store.command() == f"python -m benchmark run {kept}"


def test_a_table_read_again_is_not_what_somebody_made_of_it(tmp_path):
    """The last text is parsed once; each reader has a frame of his own all the same, and sees a file's change."""
    path = tmp_path / "history.csv"
    rows = pd.DataFrame([(0, 1, "test_error", 0.25)], columns=list(HISTORY)).astype(HISTORY)
    write_table(path, rows, HISTORY)
    first = read_table(path, HISTORY)
    first.loc[0, "value"] = 1.0
    first["more"] = 1
    pd.testing.assert_frame_equal(read_table(path, HISTORY), rows)
    write_table(path, rows.assign(value=0.5), HISTORY)
    assert read_table(path, HISTORY)["value"].tolist() == [0.5]
