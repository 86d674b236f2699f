"""What several commands take: their options, and what these come to."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import click
import torch
from click.core import ParameterSource

from benchmark.suite import Cell
from zoo.compiler import compiler_fault
from zoo.data import Dataset, held_out, labelled_subset, load_dataset
from zoo.errors import BadInput, quoted
from zoo.fused import Precision
from zoo.training import Engine


class Folder(click.Path):
    """A folder whose name every file format here can take."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click.BadParameter for "", as of an unset variable, and for bytes that are no text."""
        if value == "":
            self.fail("expected a folder, got an empty name", param, ctx)
        try:
            os.fsencode(value).decode()
        except UnicodeDecodeError:
            self.fail(f"expected a name in UTF-8, got {str(value)!a}", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = Folder()


def a_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Raises BadInput, before the first hour is spent, for a path that a file is in the way of."""
    there = None if value is None else next(each for each in (value, *value.parents) if each.exists())
    if there is not None and not there.is_dir():
        raise BadInput(f"{parameter.opts[0]} {value}: {there} is a file: expected a folder, or a name that is free")
    return value


suite_option = click.option("--suite", "name", required=True, help="A built-in suite, or a TOML file of your own.")
out_option = click.option("--out", type=FOLDER, callback=a_folder, help="The run's folder; default runs/<suite>.")
data_option = click.option("--data", type=FOLDER, help="Folder with torchvision's layout; else $BENCHMARK_DATA.")
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
precision_option = click.option(
    "--precision", type=click.Choice(get_args(Precision)), help="Of training's products; default: the suite's."
)


def chosen_engine(context: click.Context, parameter: click.Parameter, value: str) -> Engine | None:
    """None for auto. Raises BadInput for one that cannot be had."""
    if value == "compiled" and (fault := compiler_fault()):
        raise BadInput(f"--engine-mode compiled: {fault}; install g++, or name one in CXX, or use eager")
    return None if value == "auto" else cast(Engine, value)


engine_option = click.option(
    "--engine-mode",
    "engine",
    type=click.Choice(["auto", *get_args(Engine)]),
    default="auto",
    show_default=True,
    callback=chosen_engine,
    help="auto: compiled where training is long enough to pay for it and a compiler works, else eager.",
)


def check_precision(engine: Engine | None, cells: Sequence[Cell]) -> None:
    """Raises BadInput for a cell in a precision that the engine that was asked for does not have."""
    if engine == "reference" and (short := [cell for cell in cells if cell.training.precision != "float32"]):
        raise BadInput(
            f"--engine-mode reference is float32, but {short[0].name} has precision {short[0].training.precision}"
        )


def gpus(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Raises BadInput for an amount of GPUs that Ray does not give to a task."""
    if value is None or value.is_integer() or 0.0001 <= value <= 1:
        return value
    raise BadInput(f"{parameter.opts[0]} {value:g}: expected a share of one GPU, e.g. 0.5, or a whole number of GPUs")


class CommaList(click.ParamType[tuple[Any, ...]]):
    """`a,b,c` as a tuple."""

    def __init__(self, item: Callable[[str], Any], name: str) -> None:
        self.item, self.name = item, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Raises click.BadParameter for an item of another type, and for no item where the user typed the option.

        `--models "$MODELS"` of an unset variable means all models to nobody.
        """
        if isinstance(value, tuple):
            return value
        try:
            items = tuple(self.item(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"expected {self.name} separated by commas, got {value!r}", param, ctx)
        if not items and param and ctx and ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
            self.fail(f"expected {self.name} separated by commas, or the option left out, got {value!r}", param, ctx)
        return items


SHARDED = re.compile(r"\d{1,9}/\d{1,9}")


class Shard(click.ParamType[tuple[int, int]]):
    """`i/n`, with i from 1 to n."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Raises click.BadParameter for anything else."""
        part, _, parts = str(value).partition("/")
        if not SHARDED.fullmatch(str(value)) or not 1 <= int(part) <= int(parts):
            self.fail(f"expected i/n with i from 1 to n, e.g. 3/16, got {quoted(value)}", param, ctx)
        return int(part), int(parts)


SHARD = Shard()
names, numbers = CommaList(str, "names"), CommaList(int, "whole numbers")


def default_folder(name: str) -> Path:
    """runs/<suite>, whatever folder a user's TOML file is in."""
    return Path("runs") / Path(name).stem


def pick_device(name: str) -> torch.device:
    """The device that was asked for; auto prefers a GPU. Raises BadInput where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this torch sees no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def data_for(cells: list[Cell], root: Path | None, device: str) -> Dataset:
    """The cells' data on the device. Raises BadInput, before the first hour is spent, for a cell it cannot train."""
    data = load_dataset(cells[0].training.dataset, root).to(pick_device(device))
    most = max(cells, key=lambda cell: cell.training.labels)
    trained_on, _ = held_out(len(data.images), most.training.validation)
    labelled_subset(data.labels.cpu()[trained_on], most.training.labels, data.classes, most.seeds[0])
    for cell in cells:
        if cell.training.unlabelled_batch > len(trained_on):
            asked = f"{cell.name}: unlabelled_batch = {cell.training.unlabelled_batch}"
            raise BadInput(f"{asked} exceeds the {len(trained_on)} training images")
    return data
