"""A suite: the TOML file that is the table. It is read into frozen dataclasses and becomes a plan of cells."""

import difflib
import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from attacks import NORMS, Budget, meaning
from zoo.config import (
    FIXED,
    LADDERS,
    LARGEST,
    MODELS,
    OF_COST,
    STRICT,
    WITH_COST,
    Amount,
    Hyperparameters,
    ModelConfig,
    TrainingConfig,
    appendix_a,
)
from zoo.data import CLASSES, DATASETS, INPUTS
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
NOT_OF_MODEL = {"name", "widths", "hyperparameters"}
NOT_OF_TRAINING = {"dataset", "labels", "labelled_batch"}
OF_THE_VAT_PAPER = ("vat-demo", "vat-quick", "vat-semi", "vat-supervised", "vat-figures")
VARIANTS = ("finite-difference", "released-decoder")  # of `standard`
BUILT_IN = ("smoke", "quick", "standard", *VARIANTS, "full", "released", "smoothness", *OF_THE_VAT_PAPER)


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


def plan(
    suite: Suite,
    source: str,
    *,
    models: Sequence[str] = (),
    labels: Sequence[int] = (),
    seeds: Sequence[int] = (),
    precision: str | None = None,
    chosen: bool = False,
) -> list[Cell]:
    """The cells of a suite in a fixed order, restricted to what is named. Raises BadInput as `load_suite`.

    `seeds` and `precision` stand in the place of the suite's own; `chosen`: without the cells whose hyper-parameters
    are `unchosen`, which are an error otherwise.
    """
    if precision is not None:
        suite = replace(suite, training=suite.training | {"precision": precision})
    check_names(suite, source)
    check_asked(suite, source, models, labels)
    if seeds:
        seeds = validated(LabelPlan, {"seeds": tuple(seeds), "labelled_batch": 1}, "--seeds").seeds
    return [
        cell(suite, source, model, count, tuple(sorted(seeds or suite.labels[count].seeds)))  # one order, one rounding
        for count in suite.labels
        for model in suite.models
        if (not models or model in models) and (not labels or count in labels)
        if not chosen or values(suite, model, count) is not None
    ]


def check_names(suite: Suite, source: str) -> None:
    """Raises BadInput for a name, a count or a key of a suite that is none, or that is not there."""
    for kind, names, known in (
        ("model", (*suite.models, *suite.ranges), MODELS),
        ("model", suite.hyperparameters, (*MODELS, *(f"{name}-{count}" for name in MODELS for count in suite.labels))),
        ("norm", (*suite.attack.norms, *suite.attack.curve), NORMS),
        ("data set", (suite.dataset,), DATASETS),
    ):
        for name in names:
            if name not in known:
                raise BadInput(f"{source}: {unknown(kind, name, known)}")
    of_one = {name: given for name, given in suite.model.items() if name in MODELS or isinstance(given, dict)}
    for name, given in of_one.items():
        if name not in suite.models:
            raise BadInput(f"{source} [model.{name}]: {unknown('model', name, suite.models)}")
        if not isinstance(given, dict):
            raise BadInput(f"{source}: model.{name}: expected a table, got {quoted(given)}")
    for name in suite.attack.meanings:
        try:
            meaning(name)
        except ValueError as error:
            raise BadInput(f"{source}: {error}") from None
    classes = CLASSES[suite.dataset]
    if suite.widths[-1:] != (classes,):
        raise BadInput(f"{source}: widths: expected the last one to be the {classes} classes, got {list(suite.widths)}")
    for count in suite.labels:
        if count <= 0 or count % classes:
            raise BadInput(f"{source}: labels.{count}: expected a positive multiple of the {classes} classes")
    for table, given, resolved_here in (
        ("model", suite.model, NOT_OF_MODEL),
        *((f"model.{name}", given, NOT_OF_MODEL) for name, given in of_one.items()),
        ("training", suite.training, NOT_OF_TRAINING),
    ):
        for key in sorted(resolved_here & given.keys()):
            raise BadInput(f"{source} [{table}]: unknown key {key!r}; it belongs elsewhere in the suite")


def check_asked(suite: Suite, source: str, models: Sequence[str], labels: Sequence[int]) -> None:
    """Raises BadInput for models and label counts that a suite does not have."""
    for name in models:
        if name not in MODELS:
            raise unknown("model", name, MODELS)
    for count in labels:
        if count not in suite.labels:
            raise BadInput(f"--labels {count}: {source} has {', '.join(map(str, suite.labels))}")
    if foreign := [name for name in models if name not in suite.models]:
        raise BadInput(f"--models {foreign[0]}: {source} has {', '.join(suite.models)}")


def values(suite: Suite, name: str, labels: int) -> Hyperparameters | None:
    """A cell's hyper-parameters: the suite's by cell, else by model, else Appendix A's."""
    own = suite.hyperparameters
    return own.get(f"{name}-{labels}") or own.get(name) or appendix_a(name, labels)


def unchosen(suite: Suite) -> list[str]:
    """The cells that no hyper-parameters are known of; `tune` may choose them."""
    cells = ((model, count) for count in suite.labels for model in suite.models)
    return [f"{model}-{count}" for model, count in cells if values(suite, model, count) is None]


def cell(suite: Suite, source: str, name: str, labels: int, seeds: tuple[int, ...]) -> Cell:
    """One cell of a suite, resolved: every default filled in."""
    given = values(suite, name, labels)
    if given is None:
        how = f", or let `tune --suite {source}` choose" if name in suite.ranges else ""
        raise BadInput(
            f"{source}: Appendix A has no values for {name!r} at {labels} labels: add [hyperparameters.{name}]{how}"
        )
    left_out = {*MODELS, *(() if name in WITH_COST else OF_COST), *(() if name in LADDERS else ("decoder",))}
    common = {field: value for field, value in suite.model.items() if field not in left_out}
    options = common | FIXED.get(name, {}) | suite.model.get(name, {})
    widths = (INPUTS[suite.dataset], *suite.widths)
    where = f"{source} [model]" + (f" or [model.{name}]" if name in suite.model else "")
    model = validated(ModelConfig, {"name": name, "widths": widths, "hyperparameters": given} | options, where)
    at = suite.labels[labels]
    batches = {"labelled_batch": at.labelled_batch}
    if at.unlabelled_batch:
        batches["unlabelled_batch"] = at.unlabelled_batch
    training = suite.training | batches | {"dataset": suite.dataset, "labels": labels}
    return Cell(model, validated(TrainingConfig, training, f"{source} [training]"), suite.attack, seeds)


def resolved(cells: Sequence[Cell]) -> dict[str, Any]:
    """Cells as plain JSON values, by name."""
    kind = adapter(Cell)
    return {cell.name: kind.dump_python(cell, mode="json") for cell in cells}


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
