"""The files of a run: records and history of a cell, configuration and provenance; and how they are read back."""

import functools
import importlib.metadata
import io
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from reports.cells import TUNING
from zoo.checkpoints import write_whole
from zoo.data import Dataset
from zoo.errors import BadInput
from zoo.reading import read_text

RECORDS = {
    "seed": "int64",
    "epoch": "int64",
    "measure": "str",
    "attack": "str",
    "norm": "str",
    "eps": "float64",
    "value": "float64",
    "n": "int64",
    "subset": "str",
}
HISTORY = {"seed": "int64", "epoch": "int64", "measure": "str", "value": "float64"}
EXAMPLES = {
    "seed": "int64",
    "eps": "float64",
    "example": "int64",
    "label": "int64",
    "predicted": "int64",
    "pixels": "str",
}
SHARES = ("_error", "_share")  # end the names of measures that are a share of images
LARGEST = 1e39  # float32 ends below
UNREADABLE = (ValueError, ArithmeticError, pd.errors.ParserError)
MOST_BYTES = 2**28  # of a table or a JSON file
ROOMS = ("benchmark", "zoo", "attacks", "reports")
PACKAGES = ("torch", "numpy", "cleverhans", "foolbox", "pandas", "matplotlib", "scikit-learn", "safetensors")


class Environment(TypedDict):
    """Of a sitting: see `environment`."""

    commit: str
    clean_tree: bool
    python: str
    versions: dict[str, str]
    device: str
    threads: int


class Sitting(TypedDict):
    """One process's part in a stage: see `made_by`."""

    command: str
    environment: Environment
    checksums: dict[str, str]


class Stage(TypedDict):
    """Of a cell's provenance: see `note`."""

    stage: str
    seeds: list[int]
    hours: float
    sittings: list[Sitting]
    budget: NotRequired[dict[str, Any]]  # of an audit
    sources: NotRequired[dict[str, dict[str, str]]]  # seed -> model -> its training, of what models do to each other
    asked: NotRequired[dict[str, int]]  # of virtual adversarial examples


STAGES = TypeAdapter(list[Stage])  # made once: it costs more than what it validates


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A CSV with exactly these columns, empty if there is no file. Raises BadInput for an unreadable one."""
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    try:
        content = read_text(path, MOST_BYTES)
        if not content.endswith("\n"):
            raise ValueError("the last line is cut off")
        return parsed_once(content, tuple(columns.items())).copy(deep=False)
    except UNREADABLE as error:
        raise BadInput(
            f"{path} is not readable ({str(error).splitlines()[0]}): restore it, or delete the cell"
        ) from error


def read_tables(paths: Sequence[Path], columns: Mapping[str, str]) -> pd.DataFrame:
    """`read_table` of many files in one frame, where `file` is the position of a row's own; fast: parsed as one."""
    head = ",".join(columns) + "\n"
    try:
        texts = {at: read_text(path, MOST_BYTES) for at, path in enumerate(paths) if path.exists()}
        if all(text.startswith(head) and text[-1] == "\n" and '"' not in text for text in texts.values()):
            frame = parsed(head + "".join(text.removeprefix(head) for text in texts.values()), columns)
            lines = [text.count("\n") - 1 for text in texts.values()]
            if len(frame) == sum(lines):
                return frame.assign(file=np.repeat(np.array([*texts], dtype=int), lines))
    except UNREADABLE:
        pass  # which of them it is, is found one by one
    return pd.concat([read_table(path, columns).assign(file=at) for at, path in enumerate(paths)], ignore_index=True)


@functools.lru_cache(maxsize=1)  # of a cell's records, one question after another is asked
def parsed_once(content: str, columns: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """`parsed`, not again for the text of the last time."""
    return parsed(content, dict(columns))


def parsed(content: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """A CSV text as a frame. Raises one of `UNREADABLE`."""
    with np.errstate(invalid="raise"):  # of a number that is no integer of its size
        frame = pd.read_csv(
            io.StringIO(content),
            keep_default_na=False,
            na_values={"eps": [""], "value": ["nan"]},
            dtype=dict(columns),
        )
    if list(frame.columns) != list(columns):
        raise ValueError(f"expected columns {', '.join(columns)}, got {', '.join(frame.columns)}")
    if "value" in columns:
        check_values(frame)
    return frame


def check_values(frame: pd.DataFrame) -> None:
    """Raises ValueError for a share that can be none, or another value that no float32 comes to; inf and nan are."""
    values = frame["value"]
    outside = ~(values.between(0, 1 + 1e-9) | values.isna())
    share = outside & frame["measure"].where(outside, "").str.endswith(SHARES)
    wrong = np.asarray(share | ((values.abs() > LARGEST) & (values.abs() < np.inf)), dtype=bool)
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = "0 to 1, or nan" if share[at] else f"at most {LARGEST:g} in size"
        raise ValueError(f"line {at + 2}: {frame['measure'].iloc[at]} {values[at]:g}, expected {expected}")


def write_table(path: Path, frame: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Write a table in a fixed order of rows; the file is whole or absent. NaN values are written as nan."""
    ordered = frame.sort_values(keys_of(columns), kind="stable")
    if "value" in columns:
        ordered = ordered.assign(value=ordered["value"].map(repr))
    buffer = io.StringIO()
    ordered.to_csv(buffer, columns=list(columns), index=False, lineterminator="\n")
    write_whole(path, buffer.getvalue().encode())


def merge(old: pd.DataFrame, rows: Iterable[Sequence[Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """`old` and new rows; where a seed's measure is in both at one place, the new one holds."""
    new = pd.DataFrame(list(rows), columns=list(columns)).astype(dict(columns))
    both = new if old.empty else pd.concat([old, new])
    return both.drop_duplicates(keys_of(columns), keep="last")


def keys_of(columns: Mapping[str, str]) -> list[str]:
    """What a row is found by; in TUNING by n too: with more images held out, another training is measured."""
    return [name for name in columns if name not in ("value", "n", "subset") or (name == "n" and columns == TUNING)]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole."""
    write_whole(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote, None where there is no file. Raises BadInput for an unreadable one."""
    if not path.exists():
        return None
    try:
        value: dict[str, Any] = json.loads(read_text(path, MOST_BYTES))
        if not isinstance(value, dict):
            raise ValueError("expected an object")
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{path} is not readable ({error}): restore it, or delete the cell") from error
    return value


@functools.cache
def environment(device: torch.device) -> dict[str, Any]:
    """Where a result comes from: code, versions, machine. Asked once, when the process starts to work."""
    return {
        "commit": git("rev-parse", "HEAD") or "unknown",
        "clean_tree": git("status", "--porcelain", "--", *ROOMS) == "",  # not where git does not tell
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
    }


def note(folder: Path, stage: dict[str, Any]) -> None:
    """Append who did a stage of a cell, with what and for how long, to its provenance."""
    path = folder / "provenance.json"
    write_json(path, {"stages": [*stages(folder), stage]})


def stages(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """What `note` has noted there, of a kind of stage or of all. Raises BadInput where the file is something else."""
    path = folder / "provenance.json"
    if (found := read_json(path)) is None:
        return []
    try:
        noted: list[dict[str, Any]] = list(found["stages"])
        STAGES.validate_python(noted)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no cell's provenance ({error!r}): restore it, or delete the cell") from error
    return [stage for stage in noted if kind in ("", stage["stage"])]


def made_by(data: Dataset) -> dict[str, Any]:
    """One sitting of a stage: what was typed, where, on which data."""
    return {"command": command(), "environment": environment(data.images.device), "checksums": data.checksums}


def command() -> str:
    """What was typed; of an absolute path the last two parts alone, as records are published and disks are not.

    A byte that is no text is a question mark.
    """
    typed = " ".join(["python -m benchmark", *map(without_disk, sys.argv[1:])])
    return typed.encode(errors="replace").decode()


def without_disk(argument: str) -> str:
    """ "--out=/home/ann/runs/quick" -> "--out=runs/quick"."""
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    return option + equals + "/".join(path.parts[1:][-2:]) if path.is_absolute() else argument


def git(*arguments: str) -> str | None:
    """Standard output of a git command in this project's own checkout; None where there is none."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():  # of an enclosing project, git would tell as well
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        return f"{name}, {sum(line.startswith('processor') for line in lines)} cores"
    return name
