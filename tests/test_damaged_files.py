"""One line and exit code 2 for files of a run that are damaged, exchanged or links; what is sound stays."""

import json
from pathlib import Path

import pytest
from running import AUDIT, VAT_ONLY, fails, files, trained, write_suite

pytestmark = pytest.mark.usefixtures("plain_pictures")

DAMAGE = {
    "cut": lambda old: old[: len(old) // 2],
    "garbage": lambda old: b"\xff\x00garbage\n",
    "empty": lambda old: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["records.csv", "history.csv", "config.json", "provenance.json"])
@pytest.mark.parametrize("command", ["run", "report"])
def test_a_damaged_file_is_named_and_left_alone(copy, call, name, damage, command):
    path = copy / "cells/vat-50" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = files(copy)
    fails(call(command, "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50") / name, "not readable")
    assert files(copy) == before


@pytest.mark.parametrize("value", ["1e308", "1.01", "-0.01", "inf"])
@pytest.mark.parametrize("command", ["run", "report"])
def test_an_error_that_can_be_none_is_named_with_its_line(copy, call, value, command):
    path = copy / "cells/vat-50/records.csv"
    lines = path.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if ",attacked_error," in line)
    fields = lines[at].split(",")
    lines[at] = ",".join([*fields[:6], value, *fields[7:]])
    path.write_text("\n".join([*lines, ""]))
    said = f"(line {at + 1}: attacked_error {float(value):g}, expected 0 to 1"
    fails(call(command, "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/records.csv"), said)


def test_a_cost_that_can_be_none_is_named_with_its_line(copy, call):
    path = copy / "cells/vat-50/history.csv"
    lines = path.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if ",smoothness," in line)
    lines[at] = lines[at].rpartition(",")[0] + ",-1e308"
    path.write_text("\n".join([*lines, ""]))
    said = f"(line {at + 1}: smoothness -1e+308, expected at most 1e+39 in size"
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50/history.csv"), said)


@pytest.mark.parametrize("name", ["cells", "report", "cells/vat-50"])
@pytest.mark.parametrize("command", [("run",), ("run", "--jobs", "1"), ("attack",), ("report",)])
def test_nothing_is_written_through_a_link_in_a_run(copy, call, name, command):
    """A run's folder from elsewhere might lead anywhere; where nothing is written, it may be read."""
    away, link = copy.parent / "away", copy / name
    link.rename(away)
    link.symlink_to(away)
    write_suite(copy.parent, AUDIT)
    for path in copy.glob("cells/*/records.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if ",short_share," not in line))  # so that it is attacked again
    before = files(away)
    code, _, err = call(*command, "--suite", "tiny.toml", "--out", "run")
    assert files(away) == before
    if command != ("report",) or name == "report":
        fails((code, [], err), f"{Path('run') / name} is a link")


def test_a_run_may_be_reached_through_a_link(copy, call):
    copy.rename(copy.parent / "disk")
    copy.symlink_to(copy.parent / "disk")
    (copy / "cells/vat-50/records.csv").unlink()
    assert call("run", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert (copy.parent / "disk/cells/vat-50/records.csv").is_file()


@pytest.mark.parametrize("name", ["config.json", "provenance.json"])
@pytest.mark.parametrize("content", ["[1]", "null"])
def test_json_of_another_kind_is_named(copy, call, name, content):
    (copy / "cells/vat-50" / name).write_text(content)
    fails(call("run", "--suite", "tiny.toml", "--out", "run"), Path("run/cells/vat-50") / name)


def test_a_damaged_history_is_named_before_training(copy, call):
    cell = copy / "cells/vat-50"
    (cell / "history.csv").write_text("garbage\n")
    (cell / "seed-1.safetensors").unlink()
    outcome = call("run", "--suite", "tiny.toml", "--out", "run")
    fails(outcome, "history.csv")
    assert trained(outcome[1]) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named(copy, call, damage):
    path = copy / "cells/vat-50/seed-1.safetensors"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    suite = write_suite(copy.parent, ("eps = [0.1]", "eps = [0.1, 0.2]"))
    fails(call("run", "--suite", suite, "--out", "run"), Path("run/cells/vat-50/seed-1.safetensors"), "run again")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("vat-50/seed-1", "seed was 0 and is 1"),
        ("ladder-50/seed-0", "model.name was 'vat' and is 'ladder'"),
        ("longer/seed-0", "training.epochs was 2 and is 3"),
        ("altered", "has other numbers than were saved"),
    ],
)
@pytest.mark.parametrize("command", ["run", "attack"])
def test_a_checkpoint_that_was_exchanged_is_named_before_it_is_attacked(copy, call, source, said, command):
    path = copy / "cells/vat-50/seed-0.safetensors"
    if source == "altered":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif source == "longer/seed-0":
        suite = write_suite(copy.parent, VAT_ONLY, ("epochs = 2", "epochs = 3"))
        assert call("run", "--suite", suite, "--out", "longer")[0] == 0
        path.write_bytes(Path("longer/cells/vat-50/seed-0.safetensors").read_bytes())
    else:
        path.write_bytes((copy / "cells" / f"{source}.safetensors").read_bytes())
    suite = write_suite(copy.parent, AUDIT, ("eps = [0.1]", "eps = [0.1, 0.2]"))
    before = (copy / "cells/vat-50/records.csv").read_bytes()
    fails(call(command, "--suite", suite, "--out", "run"), Path("run/cells/vat-50/seed-0.safetensors"), said)
    assert (copy / "cells/vat-50/records.csv").read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_named(tmp_path, call, damage):
    state = tmp_path / "run/cells/vat-50/state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(DAMAGE[damage](b"0123456789"))
    outcome = call("run", "--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    fails(outcome, state, "delete it")


def test_a_precision_is_stored_shown_and_not_mixed(tmp_path, call):
    suite = ("--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    assert call("run", *suite, "--precision", "bfloat16")[0] == 0
    config = json.loads((tmp_path / "run/cells/vat-50/config.json").read_text())
    assert config["training"]["precision"] == "bfloat16"
    assert "bfloat16 products" in (tmp_path / "run/report/report.md").read_text()
    assert call("report", *suite, "--check")[0] == 0
    outcome = call("run", *suite)
    fails(outcome, "precision was 'bfloat16' and is 'float32': give the same --precision")
    assert "in the suite" not in outcome[2][0]
    fails(call("run", *suite, "--precision", "float16"), "float16")
    fails(call("run", *suite, "--precision", "bfloat16", "--engine-mode", "reference"), "reference is float32")


def test_the_reference_engine_is_recorded(tmp_path, call):
    suite = ("--suite", write_suite(tmp_path, VAT_ONLY), "--out", tmp_path / "run")
    assert call("run", *suite, "--engine-mode", "reference")[0] == 0
    noted = json.loads((tmp_path / "run/cells/vat-50/provenance.json").read_text())["stages"][0]
    assert [sitting["engine"] for sitting in noted["sittings"]] == ["reference"]


@pytest.mark.parametrize("stored", ['{"training": "x"}', '{"training": {"precision": "float7"}}', '{"training": []}'])
def test_report_on_a_damaged_configuration_is_one_line(copy, call, stored):
    (copy / "cells/vat-50/config.json").write_text(stored)
    fails(call("report", "--suite", "tiny.toml", "--out", "run"), "vat-50/config.json")
