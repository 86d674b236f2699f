"""A suite becomes a plan: its cells in a fixed order, each resolved, restricted to what is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from attacks import NORMS, meaning
from benchmark.suite import Cell, LabelPlan, Suite, adapter, validated
from zoo.config import (
    FIXED,
    MEANT_FOR,
    MODELS,
    OF_COST,
    Hyperparameters,
    ModelConfig,
    TrainingConfig,
    appendix_a,
)
from zoo.data import CLASSES, DATASETS, INPUTS
from zoo.errors import BadInput, quoted, unknown

NOT_OF_MODEL = {"name", "widths", "hyperparameters"}
# In [model]: of the models that have it, left out of the others.
OF_SOME = (*OF_COST, "decoder", "perturbed_on", "perturbed_statistics")
NOT_OF_TRAINING = {"dataset", "labels", "labelled_batch"}


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
    for field in OF_SOME:
        if field in suite.model and not {*MEANT_FOR[field]} & {*suite.models}:
            raise BadInput(f"{source} [model]: {field} is of none of {', '.join(suite.models)}: leave it out")
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
    left_out = {*MODELS, *(field for field in OF_SOME if name not in MEANT_FOR[field])}
    common = {field: value for field, value in suite.model.items() if field not in left_out}
    options = common | FIXED.get(name, {}) | suite.model.get(name, {})
    widths = (INPUTS[suite.dataset], *suite.widths)
    where = f"{source} [model]" + (f" or [model.{name}]" if name in suite.model else "")
    model = validated(ModelConfig, {"name": name, "widths": widths, "hyperparameters": given} | options, where)
    at = suite.labels[labels]
    batches = {"labelled_batch": at.labelled_batch}
    if at.unlabelled_batch:
        batches["unlabelled_batch"] = at.unlabelled_batch
    given_training = suite.training | batches | {"dataset": suite.dataset, "labels": labels}
    training = validated(TrainingConfig, given_training, f"{source} [training]")
    check_together(model, training, source)
    return Cell(model, training, suite.attack, seeds)


def check_together(model: ModelConfig, training: TrainingConfig, source: str) -> None:
    """Raises BadInput for a model that, trained so, would not be what its fields say."""
    labelled, unlabelled = training.labelled_batch, training.unlabelled_batch
    if model.perturbed_statistics == "split" and unlabelled < labelled + 2:
        raise BadInput(
            f'{source}: perturbed_statistics = "split" of {model.name!r} takes two examples or more besides the '
            f"{labelled} of the first part: expected unlabelled_batch >= {labelled + 2}, got {unlabelled}"
        )
    if model.xi is not None and training.precision != "float32" and not model.hidden_sd:
        raise BadInput(
            f'{source}: xi of {model.name!r} without noise (hidden_sd = 0) takes precision = "float32": in '
            f"{training.precision} the difference of two passes is rounding"
        )


def resolved(cells: Sequence[Cell]) -> dict[str, Any]:
    """Cells as plain JSON values, by name."""
    kind = adapter(Cell)
    return {cell.name: kind.dump_python(cell, mode="json") for cell in cells}
