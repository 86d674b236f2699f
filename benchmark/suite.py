"""A suite: the TOML file that is the table, read into frozen dataclasses; `benchmark.plan` makes cells of it."""

import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from attacks import Budget
from zoo.config import (
    LARGEST,
    STRICT,
    Amount,
    Hyperparameters,
    ModelConfig,
    TrainingConfig,
)
from zoo.errors import BadInput, quoted, unknown
from zoo.reading import read_text

T = TypeVar("T")


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that is there twice."""
    if twice := [value for value in values if values.count(value) > 1]:
        raise BadInput(f"{twice[0]!r} is there twice")
    return values


def as_counts(tables: Any) -> Any:
    """Refuse a name that is a number in another way than it is written: "050" would be a second 50."""
    for name in tables if isinstance(tables, dict) else ():
        if isinstance(name, str) and not re.fullmatch(r"[1-9]\d*", name):
            raise BadInput(f"expected a number of labels, e.g. [labels.50], got {quoted(name)}")
    return tables


def ascending(ends: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range that cannot be divided evenly in logarithm."""
    low, high = ends
    if not 0 < low < high <= LARGEST:
        raise BadInput(f"expected 0 < low < high, at most {LARGEST:g}, got [{low:g}, {high:g}]")
    return ends


MOST_BYTES = 2**20  # of a suite's file
MOST_SEEDS = 1000  # of a cell
Names = Annotated[tuple[str, ...], Field(max_length=100)]
Radius = Annotated[float, Field(ge=0, le=LARGEST)]
Radii = Annotated[tuple[Radius, ...], Field(max_length=1000)]
Range = Annotated[tuple[float, float], AfterValidator(ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy's generators take
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_SEEDS), AfterValidator(distinct)]
OF_THE_VAT_PAPER = ("vat-demo", "vat-quick", "vat-semi", "vat-supervised", "vat-figures")
VARIANTS = ("finite-difference", "released-decoder")  # of `standard`
OF_THE_VAL_PAPER = ("full", "released", "constant-rate", "split-statistics", "smoothness")
BUILT_IN = ("smoke", "quick", "standard", *VARIANTS, *OF_THE_VAL_PAPER, *OF_THE_VAT_PAPER)


@dataclass(frozen=True, config=STRICT)
class LabelPlan:
    """What differs between label counts."""

    seeds: Seeds
    labelled_batch: Amount
    unlabelled_batch: Amount | None = None  # else the one of [training]


@dataclass(frozen=True, config=STRICT)
class AttackConfig:
    """The attacks that every checkpoint undergoes, on all test images but for the audit's."""

    norms: tuple[str, ...] = Field(min_length=1, max_length=100)
    eps: Radii = Field(min_length=1)
    meanings: Names = ("fgm",)  # of the fast gradient method, each at these norms and eps: attacks.meaning
    curve: dict[str, Radii] = Field(default_factory=dict)  # further eps of "fgm", by norm
    virtual: Radii = ()  # L2: virtual adversarial examples of each model, shown to all of its label count and seed
    virtual_images: Amount = 1000  # of the test images, the first so many
    virtual_drawn: int = Field(default=0, ge=0, le=10)  # of these, the first of so many classes are kept as images
    other_statistics: bool = False  # also by other test-time statistics than a checkpoint's own: benchmark.normalised
    audit: Budget | None = None  # none: `run` makes none, the command `attack` one of the default budget


@dataclass(frozen=True, config=STRICT)
class Suite:
    """A suite file, checked but not yet resolved; [model] and [training] hold fields of the zoo's configurations."""

    description: str
    dataset: str
    widths: tuple[int, ...]  # of the layers above the input
    training: dict[str, Any]
    attack: AttackConfig
    models: Annotated[tuple[str, ...], Field(min_length=1, max_length=100), AfterValidator(distinct)]
    labels: Annotated[dict[int, LabelPlan], BeforeValidator(as_counts)] = Field(min_length=1, max_length=10_000)
    model: dict[str, Any] = Field(default_factory=dict)  # for all models; a table by a model's name for that one alone
    hyperparameters: dict[str, Hyperparameters] = Field(default_factory=dict)  # by cell, else model, else Appendix A
    ranges: dict[str, Range] = Field(default_factory=dict)  # of eps, by model: what `tune` searches
    paper: Literal["VAL", "VAT"] = "VAL"  # whose figures this suite's are compared with


@dataclass(frozen=True, config=STRICT)
class Cell:
    """One model at one label count on one data set: all its seeds train together. Picklable, pure."""

    model: ModelConfig
    training: TrainingConfig
    attack: AttackConfig
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        return f"{self.model.name}-{self.training.labels}"


def source_of(name: str) -> tuple[str, str]:
    """What a suite's file is called, and its text: a built-in suite by name, or a user's TOML file."""
    if name in BUILT_IN:
        return f"suite {name!r}", resources.files("benchmark").joinpath(f"suites/{name}.toml").read_text()
    if not name.endswith(".toml"):
        raise unknown("suite", name, [*BUILT_IN, "<file>.toml"])
    try:
        return name, read_text(Path(name), MOST_BYTES).removeprefix("\ufeff")  # which some editors begin with
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} cannot be read ({error}): expected a suite's TOML file") from error


def load_suite(name: str) -> Suite:
    """A suite, checked. Raises BadInput: what is wrong, in which file, what is right."""
    source, text = source_of(name)
    return suite_of(text, source)


def suite_of(text: str, source: str) -> Suite:
    """A suite from its TOML text, checked. Raises BadInput as `load_suite`."""
    try:
        return validated(Suite, tomllib.loads(text), source)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source} is not TOML: {error}") from error


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once a kind: it costs more than what it validates."""
    return TypeAdapter(kind)


def validated(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """`values` as a configuration; the first error as one line, an unknown key with the nearest known one."""
    try:
        validated: T = adapter(cast(Any, kind)).validate_python(values)
        return validated
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "unexpected_keyword_argument")
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            groups = (kind, LabelPlan, AttackConfig, Budget, Hyperparameters)
            known = {name for group in groups for name in group.__annotations__}
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"{source}: unknown key {where!r}{hint}") from None
        if isinstance(cause := first.get("ctx", {}).get("error"), BadInput):
            raise BadInput(f"{source}: {where}: {cause}" if where else f"{source}: {cause}") from None
        if first["type"] == "missing":
            raise BadInput(f"{source}: {where} is required and missing") from None
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise BadInput(f"{source}: {where}: {reason}, got {quoted(first['input'])}") from None
