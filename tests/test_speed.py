"""The speed command: what it counts against formulas, what it extrapolates by hand, and the files it leaves."""

import io
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import torch

from benchmark import speed
from benchmark.command_line import main
from benchmark.plan import plan
from benchmark.suite import load_suite
from reports import render_speed
from zoo.data import load_dataset

DIGITS = load_dataset("digits")
CPU = torch.device("cpu")
SUITES = Path(speed.__file__).with_name("suites")


def cell_of(model, seeds):
    """A cell of the suite `smoke` at 100 labels."""
    (cell,) = plan(load_suite("smoke"), "smoke", models=[model], labels=[100], seeds=range(seeds))
    return cell


@pytest.mark.parametrize("seeds", [1, 3])
def test_operations_of_a_ladders_step_against_the_formula(seeds):
    """2 n a b a product: forward, for the weights, and for the inputs, save where the input is the data."""
    cell = cell_of("ladder", seeds)
    operations, moved = speed.work(speed.begin(cell, DIGITS))
    widths, n, m = cell.model.widths, cell.training.labelled_batch, cell.training.unlabelled_batch
    pairs = [a * b for a, b in pairwise(widths)]
    encoder = (2 * sum(pairs) + sum(pairs[1:])) * (n + 2 * m)  # labelled, corrupted and clean passes
    decoder = 3 * sum(pairs) * m
    assert operations == 2 * seeds * (encoder + decoder)
    shifts = sum(widths[1:]) + widths[-1]
    adam = 7 * 4 * seeds * (2 * sum(pairs) + shifts + 10 * sum(widths))
    noise = 2 * 4 * seeds * (n + m) * sum(widths)
    images = 4 * seeds * (n + 2 * m) * sum(widths)  # the backward pass needs every layer of every pass at least once
    assert adam + noise + images < moved < adam + noise + 40 * images


def test_peak_and_bandwidth_are_of_this_machine():
    assert 1e8 < speed.matrix_peak("float32", CPU) < 1e16
    assert 1e8 < speed.copy_bandwidth(CPU) < 1e14
    assert torch.get_float32_matmul_precision() == "highest"


def measured_by_hand():
    """Two models at two numbers of seeds."""
    row = {
        "engine": "eager",
        "precision": "float32",
        "floor_ms": 0.5,
        "floor_share": 0.25,
        "bound_by": "bytes",
        "memory_gib": 1.0,
    }
    times = [("ladder", 1, 8.0, 6.0), ("ladder", 10, 8.0, 2.0), ("vat", 1, 4.0, 3.0), ("vat", 10, 4.0, 1.0)]
    rows = [row | {"model": m, "seeds": s, "reference_ms": r, "engine_ms": e, "ratio": r / e} for m, s, r, e in times]
    return pd.DataFrame(rows)


def test_hours_by_hand():
    """12 steps an epoch: nine seeds are nearest to ten, two to one."""
    nine, two = cell_of("ladder", 9), cell_of("vat", 2)
    steps = 12 * nine.training.epochs
    found = speed.hours([nine, two], measured_by_hand(), DIGITS)
    assert found["engine"] == pytest.approx(steps * (9 * 2.0 + 2 * 3.0) / 3.6e6)
    assert found["reference"] == pytest.approx(steps * (9 * 8.0 + 2 * 4.0) / 3.6e6)
    with pytest.raises(KeyError):
        speed.hours([cell_of("lvan", 1)], measured_by_hand(), DIGITS)


def test_a_measurement_is_consistent_with_itself():
    cell = replace(cell_of("vat", 1), training=replace(cell_of("vat", 1).training, precision="bfloat16"))
    found = speed.measure([cell], [1, 2], DIGITS, "eager")
    assert found["seeds"].tolist() == [1, 2]
    assert found["precision"].tolist() == ["bfloat16"] * 2
    for row in found.itertuples():
        assert row.ratio == pytest.approx(row.reference_ms / row.engine_ms)
        assert row.floor_share == pytest.approx(row.floor_ms / row.engine_ms)
        assert 0 < row.floor_ms < row.engine_ms
        assert 0.01 < row.memory_gib < 1000


def test_the_files_show_what_was_measured():
    files = render_speed(measured_by_hand(), {"machine": "none"})
    assert files == render_speed(measured_by_hand(), {"machine": "none"})
    page = files["speed.md"].decode()
    assert "- machine: none" in page
    assert (
        "| ladder  | 10      | eager    | float32     | 8.00                        | 2.00                     | 4.00"
        in page
    )
    assert pd.read_csv(io.BytesIO(files["speed.csv"]))["engine_ms"].tolist() == [6, 2, 3, 1]
    pixels = matplotlib.image.imread(io.BytesIO(files["speed.png"]))[..., :3]
    assert 0.02 < (pixels.min(axis=-1) < 0.9).mean() < 0.5


def test_the_command_writes_them_and_says_what_the_suite_would_take(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "STEPS", {"cpu": 1})
    options = [
        "--suite",
        "smoke",
        "--models",
        "supervised",
        "--seeds",
        "1,2",
        "--engine-mode",
        "eager",
        "--out",
        str(tmp_path / "speed"),
    ]
    monkeypatch.setattr("sys.argv", ["benchmark", "speed", *options])
    main()
    assert {path.name for path in (tmp_path / "speed").iterdir()} == {
        f"speed.{e}" for e in ("md", "tex", "csv", "png", "pdf")
    }
    out = capsys.readouterr().out
    hours = float(out.split("training 2 of 14 cells of smoke, engine, extrapolated: ")[1].split()[0])
    assert math.isfinite(hours)


@pytest.mark.parametrize("wrong", ["0", "1,-2"])
def test_no_number_of_seeds_is_refused(monkeypatch, capsys, wrong):
    monkeypatch.setattr("sys.argv", ["benchmark", "speed", "--suite", "smoke", "--seeds", wrong])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("error: --seeds: expected")


def test_a_schedule_shorter_than_the_measurement_is_timed(tmp_path, call, monkeypatch):
    monkeypatch.setattr(speed, "STEPS", {"cpu": 1})
    text = (SUITES / "smoke.toml").read_text()
    short = re.sub(r"(?m)^decay_from = .*", "decay_from = 1", re.sub(r"(?m)^epochs = .*", "epochs = 1", text))
    (tmp_path / "short.toml").write_text(short)
    suite = ("--suite", str(tmp_path / "short.toml"), "--models", "supervised", "--out", tmp_path / "out")
    code, _, err = call("speed", *suite, "--seeds", "1", "--engine-mode", "eager")
    assert (code, err) == (0, [])
    code, _, err = call("run", *suite, "--dry-run")
    assert (code, err) == (0, [])


def test_what_a_gpu_has_no_room_for_is_left_out_and_the_rest_is_shown(tmp_path, call, monkeypatch):
    whole = speed.row

    def row(cell, count, *rest):
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        return whole(cell, count, *rest)

    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "row", row)
    typed = ("speed", "--suite", "smoke", "--models", "supervised", "--engine-mode", "eager", "--out", tmp_path / "out")
    code, _, err = call(*typed, "--seeds", "1,2")
    assert (code, err) == (0, ["supervised, 2 seeds: not enough GPU memory, left out"])
    assert pd.read_csv(tmp_path / "out/speed.csv")["seeds"].tolist() == [1]
    code, _, err = call(*typed, "--seeds", "2")
    assert (code, len(err)) == (2, 2)
    assert err[1].startswith("error: not enough GPU memory for any of these: give fewer --seeds")
