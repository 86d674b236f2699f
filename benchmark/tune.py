"""python -m benchmark tune: hyper-parameters chosen on validation images; the test set is never looked at."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import click
import numpy as np
from pydantic import Field, TypeAdapter

from benchmark.choice import CONFIGURATION, Choice, best, check_tuned, common, with_chosen
from benchmark.locks import alone, check_writable
from benchmark.options import (
    CommaList,
    check_precision,
    data_for,
    data_option,
    default_folder,
    device_option,
    engine_option,
    names,
    numbers,
    out_option,
    precision_option,
    suite_option,
)
from benchmark.plan import plan, unchosen
from benchmark.store import made_by, merge, note, read_json, read_table, write_json, write_table
from benchmark.suite import Cell, Suite, source_of, suite_of
from reports.cells import TUNING
from zoo.checkpoints import write_whole
from zoo.config import (
    ADVERSARIAL,
    FIXED,
    LARGEST,
    MOST,
    WITH_ALPHA,
    Count,
    Hyperparameters,
    TrainingConfig,
)
from zoo.data import Dataset, held_out, labelled_subset
from zoo.denormals import flushing
from zoo.errors import BadInput
from zoo.fused import Precision
from zoo.training import Engine, fitting_engine, train

VALIDATION = 10_000  # images, of a suite that holds out none: VAT paper, section 4.1.1
SIZE: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)])
ITERATIONS: TypeAdapter[int] = TypeAdapter(Count)
sizes = CommaList(SIZE.validate_python, f"finite numbers from 0 up, at most {LARGEST:g},")
counts = CommaList(ITERATIONS.validate_python, "whole numbers from 0 to 1000")


@dataclass(frozen=True)
class Candidate:
    """One setting of one cell, trained on what is not held out and measured on what is."""

    cell: Cell
    of: Cell  # the suite's own: its labels may be all of them, where some are held out

    @property
    def key(self) -> tuple[Any, ...]:
        """What its rows begin with."""
        model, training = self.cell.model, self.cell.training
        (eps,), alpha = model.hyperparameters.eps, model.hyperparameters.alpha
        updates = training.epochs * (training.epoch_updates or 0)
        return (training.dataset, model.name, self.of.training.labels, eps, alpha, model.iterations(0), updates)


@click.command()
@suite_option
@out_option
@data_option
@device_option
@click.option("--models", type=names, default="", help="Only these, e.g. rpt,vat; default: all that have an eps.")
@click.option("--labels", type=numbers, default="", help="Only these label counts, e.g. 100.")
@click.option("--seeds", type=numbers, default="0", show_default=True, help="Of every candidate, e.g. 0,1.")
@click.option("--eps", type=sizes, default="", help="Candidates; default: --count of them over the range.")
@click.option("--alpha", type=sizes, default="1", show_default=True, help="Candidates, e.g. 0.1,1,10.")
@click.option("--power-iterations", "iterations", type=counts, default="", help="Candidates, e.g. 0,1,2,4.")
@click.option(
    "--count", type=click.IntRange(2, 1000), default=6, show_default=True, help="Of eps, evenly in logarithm."
)
@click.option("--updates", type=click.IntRange(1, MOST), help="Of every candidate; default: the suite's.")
@click.option("--validation", type=click.IntRange(min=1), help="Images held out; default: the suite's, or 10,000.")
@precision_option
@engine_option
@flushing()
def tune(
    name: str,
    out: Path | None,
    data: Path | None,
    device: str,
    models: tuple[str, ...],
    labels: tuple[int, ...],
    seeds: tuple[int, ...],
    eps: tuple[float, ...],
    alpha: tuple[float, ...],
    iterations: tuple[int, ...],
    count: int,
    updates: int | None,
    validation: int | None,
    precision: Precision | None,
    engine: Engine | None,
) -> None:
    """Train candidates on what is not held out, choose by the validation error, and write the suite with the choice."""
    source, text = source_of(name)
    suite, folder = suite_of(text, source), (out or default_folder(name)) / "tuning"
    tunable, table = with_any_eps(suite), folder / "tuning.csv"
    known = plan(tunable, name, precision=precision, chosen=True)
    cells = plan(tunable, name, models=models, labels=labels, seeds=seeds, precision=precision)
    cells = [cell for cell in cells if cell.model.name in WITH_ALPHA and len(cell.model.eps()) == 1]
    if not cells:
        raise BadInput(f"tune: {name} has no model with an eps among those that are named")
    check_precision(engine, cells)
    for cell in known:
        check_tuned(cell, folder)
    held = validation or cells[0].training.validation or VALIDATION
    whole = data_for([replace(each, training=replace(each.training, validation=0)) for each in cells], data, device)
    apart, tried = without_test(whole, held), []
    for cell in cells:
        check_rest(cell, apart, len(whole.images))
        radii = eps or evenly(suite, name, cell, count)
        budgeted = with_budget(cell.training, len(apart.images), updates)
        tried += [*candidates(cell, budgeted, radii, alpha, iterations)]
    check_writable(folder)
    for candidate in tried:
        if missing := unmeasured(candidate, table, held):
            measure(candidate, missing, apart, table, engine)
    path = folder / f"{Path(name).stem}.toml"
    chosen = write_chosen(path, text, known, table)
    for cell in cells:
        if cell.name not in chosen:
            k = cell.model.iterations(0)
            print(f"{cell.name}: nothing to choose from: no setting with the suite's K, {k}, that did not diverge")
    for cell_name, choice in chosen.items():
        print(f"{cell_name}: {choice.reason}")
    if chosen:
        print(f"chosen: {path}; train with it: python -m benchmark run --suite {path}")


def write_chosen(path: Path, text: str, cells: Sequence[Cell], table: Path) -> dict[str, Choice]:
    """Write the suite with what is best for each of its cells, and return that; no file where nothing is."""
    with alone(path.parent, wait=True):  # so that of two at once the later one knows what both have measured
        if chosen := {cell.name: choice for cell in cells if (choice := best(table, cell))}:
            text = with_chosen(text, chosen)
            plan(suite_of(text, str(path)), str(path), chosen=True)  # what cannot be planned is not written
            write_whole(path, text.encode())
    return chosen


def with_any_eps(suite: Suite) -> Suite:
    """The suite with some eps for each cell that has a range and no values yet: here all eps are replaced."""
    some = {
        f"{model}-{count}": Hyperparameters(eps=ends[:1])
        for model, ends in suite.ranges.items()
        for count in suite.labels
    }
    own = suite.hyperparameters | {cell: some[cell] for cell in unchosen(suite) if cell in some}
    return replace(suite, hyperparameters=own)


def without_test(data: Dataset, count: int) -> Dataset:
    """The data with its held-out images in the place of the test set, which so is out of reach."""
    if count >= len(data.images):
        raise BadInput(
            f"tune: {count} validation images of {len(data.images)} leave none: give fewer with --validation"
        )
    rest, held = (indices.to(data.images.device) for indices in held_out(len(data.images), count))
    images, labels = data.images, data.labels
    return replace(data, images=images[rest], labels=labels[rest], test_images=images[held], test_labels=labels[held])


def check_rest(cell: Cell, data: Dataset, whole: int) -> None:
    """Refuse to hold out so many of all images that the cell cannot be trained on the rest as the suite says."""
    training, left = cell.training, len(data.images)
    labels = training.labels if training.labels < whole else left
    needed = max(training.labelled_batch, training.unlabelled_batch, labels)
    if needed > left:
        raise BadInput(
            f"tune: {whole - left} validation images of {whole} leave {left}, but {cell.name} needs {needed}: "
            "give fewer with --validation"
        )
    labelled_subset(data.labels.cpu(), labels, data.classes, cell.seeds[0])


def with_budget(training: TrainingConfig, images: int, updates: int | None) -> TrainingConfig:
    """On so many images, the schedule shortened in proportion to a budget of updates, measured at the end alone."""
    training = replace(training, labels=min(training.labels, images), validation=0, deviation_every=None)
    each = training.updates(images) if updates is None else max(1, round(updates / training.epochs))
    epochs = training.epochs if updates is None else max(1, round(updates / each))
    return replace(
        training,
        epoch_updates=each,
        epochs=epochs,
        decay_from=training.decay_from * epochs // training.epochs,
        evaluate_every=epochs,
        smoothness_every=epochs,
    )


def evenly(suite: Suite, name: str, cell: Cell, count: int) -> Sequence[float]:
    """So many eps over the model's range, evenly in their logarithm, to three digits. Raises BadInput without one."""
    if cell.model.name not in suite.ranges:
        raise BadInput(f"tune: {name} has no range for {cell.model.name!r}: add it to [ranges], or give --eps")
    low, high = suite.ranges[cell.model.name]
    return [float(f"{value:.3g}") for value in np.geomspace(low, high, count)]


def candidates(
    cell: Cell, training: TrainingConfig, eps: Sequence[float], alpha: Sequence[float], iterations: Sequence[int]
) -> Iterator[Candidate]:
    """Every combination; K only of a model that iterates and whose name leaves K open."""
    model = cell.model
    free = model.name not in ADVERSARIAL and "power_iterations" not in FIXED.get(model.name, {})
    given = iterations if free and iterations else (model.iterations(0),)
    for radius, weight, k in product(eps, alpha, given):
        tuned = replace(model.hyperparameters, eps=(radius,), alpha=weight)
        own = replace(model, hyperparameters=tuned, power_iterations=k)
        # K measures the smoothness too: R(K) of equation 16, Figure 4
        yield Candidate(replace(cell, model=own, training=replace(training, smoothness_iterations=k)), cell)


def unmeasured(candidate: Candidate, table: Path, held: int) -> list[int]:
    """The seeds of a candidate that the table lacks."""
    rows = read_table(table, TUNING)
    rows = rows[(rows["measure"] == "validation_error") & (rows["n"] == held)]
    done = set(rows.drop(columns=["measure", "value", "n"]).itertuples(index=False, name=None))
    return [seed for seed in candidate.cell.seeds if (*candidate.key, seed) not in done]


def measure(candidate: Candidate, seeds: Sequence[int], data: Dataset, table: Path, engine: Engine | None) -> None:
    """Train the seeds and add what they come to: the validation error, and R(K) on validation images."""
    cell, started = candidate.cell, time.monotonic()
    engine = engine or fitting_engine(cell.training, data, print)
    training = train(cell.model, cell.training, seeds, data, engine=engine)
    named = {"test_error": "validation_error", "smoothness": "smoothness"}  # the "test set" is what was held out
    counts = {"validation_error": len(data.test_labels)}
    counts["smoothness"] = min(cell.training.smoothness_images, len(data.test_labels))
    rows = [
        (*candidate.key, seed, named[each], value, counts[named[each]])
        for seed, epoch, each, value in training.history
        if epoch == cell.training.epochs and each in named
    ]
    hours = (time.monotonic() - started) / 3600
    stage = {"stage": str(candidate.key), "seeds": [*seeds], "hours": hours, "sittings": [made_by(data)]}
    folder, of = table.parent, candidate.of
    with alone(folder, wait=True):  # another `tune` may be at work here
        check_tuned(of, folder)
        write_json(folder / CONFIGURATION, (read_json(folder / CONFIGURATION) or {}) | {of.name: common(of)})
        write_table(table, merge(read_table(table, TUNING), rows, TUNING), TUNING)
        note(folder, stage)
