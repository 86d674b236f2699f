"""Files from elsewhere, thousands of them, damaged in every way: each is read, or refused in one line."""

import os
import random
import re
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import torch
from running import TINY
from test_checkpoints import build, config_of

import zoo
from benchmark.collect import collect
from benchmark.plan import plan
from benchmark.publish import collected, report_files
from benchmark.store import HISTORY, RECORDS, read_json, read_table, read_tables
from benchmark.suite import load_suite
from zoo.checkpoints import load_checkpoint, save_seed, write_tensors
from zoo.config import TrainingConfig
from zoo.errors import BadInput
from zoo.state import read_state
from zoo.training import train

pytestmark = pytest.mark.usefixtures("plain_pictures")

NASTY = (
    *(b"", b"-1", b"0", b"1e999", b"nan", b"NaN", b"null", b"true", b'"x"', b"9" * 30, b"9" * 5000, b"[]", b"{}"),
    *(b"[1]", b'{"a": 1}', b"\xff\xfe", b"\x00", b'"', b"'", b",", b"\n", b"../../x", b"/etc/passwd"),
    *(b"[" * 3000, b'{"a":' * 3000),
)
EXTREME = ("1e308", "-1e308", "inf", "-inf", "nan", "", "0", "-1", "1e-320", "2", "9223372036854775807", "Linf", "<b>")
EXTREME += ("test_error", "attacked_error", "smoothness", "mean_norm_ratio", "median_distance", "worst", "transfer/vat")
READERS = {
    ".toml": lambda path: load_suite(str(path)),
    ".json": read_json,
    ".csv": lambda path: read_table(path, RECORDS),
}
TRAINING = TrainingConfig("digits", 50, 50, 200, 2, 1, smoothness_images=10)
BUILT_IN_TEXT = (Path(zoo.__file__).parents[1] / "benchmark/suites/smoke.toml").read_text()


def mutated(content, draw):
    """A few changes: bytes flipped, cut out, doubled; a value exchanged for one that nobody expects."""
    for _ in range(draw.randint(1, 3)):
        values = list(re.finditer(rb"[A-Za-z0-9_.+-]+|\"[^\"\n]*\"", content))
        first, last = sorted(draw.choices(range(len(content) + 1), k=2))
        kind = draw.randrange(6)
        if kind == 0:
            content = content[:first] + bytes([draw.randrange(256)]) + content[first + 1 :]
        elif kind == 1:
            content = content[:first] + content[min(last, first + 40) :]
        elif kind == 2:
            content = content[:last] + content[first:last][:200] + content[last:]
        elif kind == 3:
            content = content[:first]
        elif values:
            at = draw.choice(values)
            content = content[: at.start()] + draw.choice(NASTY) + content[at.end() :]
    return content


def survive(name, count, originals, path, read):
    """`read` each of `count` mutations of a file: how many were taken; the rest is refused in one line each."""
    draw, lines, taken = random.Random(zlib.crc32(name.encode())), [], 0
    for _ in range(count):
        path.write_bytes(mutated(draw.choice(originals), draw))
        try:
            read(path)
            taken += 1
        except BadInput as error:
            lines.append(str(error))
    assert len(lines) > count / 4
    assert not [line for line in lines if not line or "\n" in line]
    return taken


def test_suites(tmp_path):
    def read(path):
        return plan(load_suite(str(path)), str(path))

    originals = [TINY.encode(), BUILT_IN_TEXT.encode()]
    assert survive("suite", 1500, originals, tmp_path / "suite.toml", read) > 50


@pytest.mark.parametrize("columns", [RECORDS, HISTORY], ids=["records", "history"])
def test_tables(finished, tmp_path, columns):
    name = "records.csv" if columns is RECORDS else "history.csv"
    original = (finished / "run/cells/vat-50" / name).read_bytes()
    assert survive(name, 1000, [original], tmp_path / name, lambda path: read_table(path, columns)) > 10


def test_json(finished, tmp_path):
    original = (finished / "run/cells/vat-50/config.json").read_bytes()
    assert survive("json", 1000, [original], tmp_path / "config.json", read_json) > 50


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "records.csv", "history.csv"])
def test_folders_of_runs(finished, tmp_path, name):
    cell, source = tmp_path / "run/cells/vat-50", finished / "run/cells/vat-50"
    shutil.copytree(source, cell, ignore=shutil.ignore_patterns("seed-*"))
    suite = load_suite(str(finished / "tiny.toml"))
    cells = [cell for cell in plan(suite, "tiny") if cell.model.name == "vat"]
    read = lambda path: collect(suite, "tiny", cells, [tmp_path / "run"])  # noqa: E731
    survive(f"folder {name}", 150, [(source / name).read_bytes()], cell / name, read)


def exchanged(table, draw):
    """One or two values of a CSV, whatever their column, become ones that are read as numbers or names there."""
    head, *rows = table.decode().splitlines()
    for _ in range(draw.randint(1, 2)):
        at = draw.randrange(len(rows))
        fields = rows[at].split(",")
        fields[draw.randrange(len(fields))] = draw.choice(EXTREME)
        rows[at] = ",".join(fields)
    return "\n".join([head, *rows, ""]).encode()


@pytest.mark.parametrize("name", ["records.csv", "history.csv"])
def test_reports_on_records_from_elsewhere(finished, tmp_path, name):
    """What is read can be reported on, or is refused in one line: no value is too large to be printed."""
    cell = tmp_path / "run/cells/vat-50"
    shutil.copytree(finished / "run", tmp_path / "run", ignore=shutil.ignore_patterns("seed-*", "report"))
    original, draw, lines = (cell / name).read_bytes(), random.Random(name), []
    enormous = re.sub(rb"((?:mean_norm_ratio,.*?,.*?,.*?|smoothness),)[\d.e-]+", rb"\g<1>3e38", original)
    assert enormous != original
    for content in (enormous, *(exchanged(original, draw) for _ in range(11))):
        (cell / name).write_bytes(content)
        try:
            report_files(collected(str(finished / "tiny.toml"), [tmp_path / "run"]), tmp_path / "run")
        except BadInput as error:
            lines.append(str(error))
    assert 2 < len(lines) < 12
    assert not [line for line in lines if not line or "\n" in line]


def with_header(header, body):
    """A safetensors file: the length of its header is right, so that what is in it is looked at."""
    return struct.pack("<Q", len(header)) + header + body


def parts(content):
    """The header and the numbers of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length], content[8 + length :]


def reading_headers(path, body, read):
    """`read` of a file with these numbers under the header that `path` holds."""

    def anew(header):
        path.with_suffix(".whole").write_bytes(with_header(header.read_bytes(), body))
        return read(path.with_suffix(".whole"))

    return anew


def test_checkpoints(tmp_path):
    save_seed(tmp_path / "sound", build(), 0, {"seed": 0})
    content = (tmp_path / "sound").read_bytes()
    header, body = parts(content)
    read = reading_headers(tmp_path / "header", body, load_checkpoint)
    assert survive("header", 5000, [header], tmp_path / "header", read) > 0
    survive("checkpoint", 500, [content], tmp_path / "changed", load_checkpoint)


def test_states(tmp_path):
    path, data, model = tmp_path / "state", zoo.load_dataset("digits"), config_of("vat")
    train(model, TRAINING, [0, 1], data, state=path, save_every_s=0)
    header, body = parts(path.read_bytes())
    assert read_state(path, model, TRAINING)[1]["epoch"] == 1
    read = reading_headers(tmp_path / "header", body, lambda path: read_state(path, model, TRAINING))
    assert survive("state", 3000, [header], tmp_path / "header", read) > 5


# ------------------------------------------------------------------------------------------- memory, folders


def test_a_header_is_checked_before_tensors_are_read(tmp_path):
    """A card of a small model over a tensor of a gigabyte: a hole in the file, which costs its sender nothing."""
    path = tmp_path / "seed-0.safetensors"
    save_seed(path, build(), 0, {"seed": 0})
    header, body = parts(path.read_bytes())
    size = len(body)
    entry = b'"more":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]},' % (2**28, size, size + 2**30)
    header = b"{" + entry + header[1:]
    with path.open("wb") as file:
        file.write(with_header(header, body))
        file.truncate(8 + len(header) + size + 2**30)
    with pytest.raises(BadInput, match="more is not of it"):
        load_checkpoint(path)


def test_a_card_of_an_enormous_model_is_refused(tmp_path):
    card = {"model": {"name": "vat", "widths": [60000] * 5, "hyperparameters": {"eps": [1.0]}}}
    write_tensors(tmp_path / "x", {}, card)
    with pytest.raises(BadInput, match="weights between layers, expected at most"):
        load_checkpoint(tmp_path / "x")


def test_numbers_of_another_kind_are_refused(tmp_path):
    save_seed(tmp_path / "x", build(), 0, {})
    model = load_checkpoint(tmp_path / "x")
    doubled = {name: tensor.double() for name, tensor in model.state_dict().items()}
    write_tensors(tmp_path / "x", doubled, model.card)
    with pytest.raises(BadInput, match="expected F32"):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize(("model", "seed"), [("../vat", 0), ("/etc/vat", 0), ("vat", "../../../away")])
def test_a_name_does_not_lead_out_of_a_run(tmp_path, model, seed):
    save_seed(tmp_path / "run/cells/vat-50/seed-0.safetensors", build(), 0, {})
    save_seed(tmp_path / "away.safetensors", build(), 0, {})
    with pytest.raises(BadInput):
        zoo.load(tmp_path / "run", model, labels=50, seed=seed)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_does_not_lead_out_of_a_run(tmp_path, what):
    save_seed(tmp_path / "away/seed-0.safetensors", build(), 0, {})
    cell = tmp_path / "run/cells/vat-50"
    if what == "file":
        cell.mkdir(parents=True)
        (cell / "seed-0.safetensors").symlink_to(tmp_path / "away/seed-0.safetensors")
    else:
        cell.parent.mkdir(parents=True)
        cell.symlink_to(tmp_path / "away")
    with pytest.raises(BadInput, match="link out of the run"):
        zoo.load(tmp_path / "run", "vat", labels=50, seed=0)


def test_a_pickle_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "x")
    with pytest.raises(BadInput, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
@pytest.mark.parametrize("name", ["suite.toml", "records.csv", "config.json", "seed-0.safetensors"])
def test_what_is_no_file_is_refused_unread(tmp_path, name, kind):
    """Reading would take all memory, or wait for ever; as if it were missing, it would be written over."""
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    read = (READERS | {".safetensors": load_checkpoint})[path.suffix]
    with pytest.raises(BadInput, match="is no regular file"):
        read(path)
    with pytest.raises(BadInput, match="is no regular file"):
        read_tables([path], RECORDS)


@pytest.mark.parametrize("name", ["suite.toml", "records.csv", "config.json"])
def test_a_file_too_large_for_its_kind_is_refused_unread(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BadInput, match="expected at most"):
        load_suite(str(path)) if name == "suite.toml" else read_json(path) if "json" in name else read_table(
            path, RECORDS
        )
