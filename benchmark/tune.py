"""python -m benchmark tune: hyper-parameters chosen on validation images; the test set is never looked at."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmark.options import (
    CommaList,
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
from benchmark.store import TUNING, made_by, merge, note, read_table, write_table
from benchmark.suite import Cell, Suite, load_suite, plan, source_of
from zoo.checkpoints import write_whole
from zoo.config import ADVERSARIAL, FIXED, WITH_ALPHA, Hyperparameters, ModelConfig, TrainingConfig
from zoo.data import Dataset, held_out
from zoo.denormals import flushing
from zoo.errors import BadInput
from zoo.fused import Precision
from zoo.training import Engine, fitting_engine, train

VALIDATION = 10_000  # images, of a suite that holds out none: VAT paper, section 4.1.1
real_numbers = CommaList(float, "numbers")


@dataclass(frozen=True)
class Candidate:
    """One setting of one cell, trained on what is not held out and measured on what is."""

    cell: Cell
    labels: int  # of the suite's cell: all of them, where some are held out

    @property
    def key(self) -> tuple[Any, ...]:
        """What its rows begin with."""
        model, training = self.cell.model, self.cell.training
        (eps,), alpha = model.hyperparameters.eps, model.hyperparameters.alpha
        updates = training.epochs * (training.epoch_updates or 0)
        return (training.dataset, model.name, self.labels, eps, alpha, model.iterations(0), updates)


@click.command()
@suite_option
@out_option
@data_option
@device_option
@click.option("--models", type=names, default="", help="Only these, e.g. rpt,vat; default: all that have an eps.")
@click.option("--labels", type=numbers, default="", help="Only these label counts, e.g. 100.")
@click.option("--seeds", type=numbers, default="0", show_default=True, help="Of every candidate, e.g. 0,1.")
@click.option("--eps", type=real_numbers, default="", help="Candidates; default: --count of them over the range.")
@click.option("--alpha", type=real_numbers, default="1", show_default=True, help="Candidates, e.g. 0.1,1,10.")
@click.option("--power-iterations", "iterations", type=numbers, default="", help="Candidates, e.g. 0,1,2,4.")
@click.option("--count", type=click.IntRange(min=2), default=6, show_default=True, help="Of eps, evenly in logarithm.")
@click.option("--updates", type=click.IntRange(min=1), help="Of every candidate; default: the suite's.")
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
    suite, folder = load_suite(name), out or default_folder(name)
    tunable = with_any_eps(suite)
    cells = plan(tunable, name, models=models, labels=labels, seeds=seeds, precision=precision)
    cells = [cell for cell in cells if cell.model.name in WITH_ALPHA and len(cell.model.eps()) == 1]
    if not cells:
        raise BadInput(f"tune: {name} has no model with an eps among those that are named")
    whole = data_for(cells, data, device)
    table = folder / "tuning" / "tuning.csv"
    for cell in cells:
        held = validation or cell.training.validation or VALIDATION
        apart = without_test(whole, held)
        budgeted = with_budget(cell.training, len(apart.images), updates)
        radii = eps or evenly(suite, name, cell, count)
        for model in settings(cell.model, radii, alpha, iterations):
            # K measures the smoothness too: R(K) of equation 16, Figure 4
            training = replace(budgeted, smoothness_iterations=model.iterations(0))
            candidate = Candidate(replace(cell, model=model, training=training), cell.training.labels)
            if missing := unmeasured(candidate, table, held):
                measure(candidate, missing, apart, table, engine)
    chosen = {cell.name: best(table, cell) for cell in plan(tunable, name)}
    path = folder / "tuning" / f"{Path(name).stem}.toml"
    write_whole(path, with_chosen(source_of(name)[1], chosen).encode())
    for cell_name, row in chosen.items():
        if row is not None:
            print(f"{cell_name}: {told(row)}")
    print(f"chosen: {path}; train with it: python -m benchmark run --suite {path}")


def with_any_eps(suite: Suite) -> Suite:
    """The suite with some eps for each model that has a range and no value yet: here all are replaced."""
    some = {model: Hyperparameters(eps=(low,)) for model, (low, _) in suite.ranges.items()}
    return replace(suite, hyperparameters=some | suite.hyperparameters)


def without_test(data: Dataset, count: int) -> Dataset:
    """The data with its held-out images in the place of the test set, which so is out of reach."""
    if count >= len(data.images):
        raise BadInput(
            f"tune: {count} validation images of {len(data.images)} leave none: give fewer with --validation"
        )
    rest, held = (indices.to(data.images.device) for indices in held_out(len(data.images), count))
    images, labels = data.images, data.labels
    return replace(data, images=images[rest], labels=labels[rest], test_images=images[held], test_labels=labels[held])


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


def settings(
    model: ModelConfig, eps: Sequence[float], alpha: Sequence[float], iterations: Sequence[int]
) -> Iterator[ModelConfig]:
    """Every combination; K only of a model that iterates and whose name leaves K open."""
    free = model.name not in ADVERSARIAL and "power_iterations" not in FIXED.get(model.name, {})
    given = iterations if free and iterations else (model.iterations(0),)
    for radius, weight, k in product(eps, alpha, given):
        tuned = replace(model.hyperparameters, eps=(radius,), alpha=weight)
        yield replace(model, hyperparameters=tuned, power_iterations=k)


def unmeasured(candidate: Candidate, table: Path, held: int) -> list[int]:
    """The seeds of a candidate that the table lacks."""
    rows = read_table(table, TUNING)
    rows = rows[(rows["measure"] == "validation_error") & (rows["n"] == held)]
    done = set(rows.drop(columns=["measure", "value", "n"]).itertuples(index=False, name=None))
    return [seed for seed in candidate.cell.seeds if (*candidate.key, seed) not in done]


def measure(candidate: Candidate, seeds: Sequence[int], data: Dataset, table: Path, engine: Engine | None) -> None:
    """Train the seeds and add what they come to: the validation error, and R(K) on validation images."""
    cell, started = candidate.cell, time.monotonic()
    engine = engine or fitting_engine(cell.training, data)
    training = train(cell.model, cell.training, seeds, data, engine=engine)
    named = {"test_error": "validation_error", "smoothness": "smoothness"}  # the "test set" is what was held out
    counts = {"validation_error": len(data.test_labels)}
    counts["smoothness"] = min(cell.training.smoothness_images, len(data.test_labels))
    rows = [
        (*candidate.key, seed, named[each], value, counts[named[each]])
        for seed, epoch, each, value in training.history
        if epoch == cell.training.epochs and each in named
    ]
    write_table(table, merge(read_table(table, TUNING), rows, TUNING), TUNING)
    hours = (time.monotonic() - started) / 3600
    note(table.parent, {"stage": str(candidate.key), "seeds": [*seeds], "hours": hours, "sittings": [made_by(data)]})


def best(table: Path, cell: Cell) -> "pd.Series[Any] | None":
    """The setting of a cell with the lowest mean validation error, among those of the largest budget and most seeds.

    Its K is the cell's own. A setting with a diverged seed is none; of settings that are equal, the smaller eps.
    """
    rows = read_table(table, TUNING)
    model, training = cell.model, cell.training
    own = {"dataset": training.dataset, "model": model.name, "labels": training.labels}
    own |= {"power_iterations": model.iterations(0), "measure": "validation_error"}
    for column, value in own.items():
        rows = rows[rows[column] == value]
    groups = rows.groupby(["eps", "alpha", "power_iterations", "updates", "n"])["value"]
    found = groups.agg(error=lambda values: values.mean(skipna=False), seeds="size").reset_index().dropna()
    for column in ("updates", "seeds"):
        found = found[found[column] == found[column].max()]
    return found.sort_values(["error", "eps"], kind="stable").iloc[0] if len(found) else None


def told(chosen: "pd.Series[Any]") -> str:
    """A choice and what it was made by."""
    return (
        f"eps {chosen['eps']:g}, alpha {chosen['alpha']:g}, K {chosen['power_iterations']:.0f}: validation error "
        f"{100 * chosen['error']:.2f} % of {chosen['n']:,.0f} images, {chosen['updates']:,.0f} updates, "
        f"{chosen['seeds']:.0f} seed(s)"
    )


def with_chosen(text: str, chosen: Mapping[str, "pd.Series[Any] | None"]) -> str:
    """A suite's TOML text with what was chosen for its cells, and by what."""
    for cell, row in chosen.items():
        if row is not None:
            earlier = rf"^\[hyperparameters\.{re.escape(cell)}\].*\n(?:(?!\[).*\n?)*"
            text = re.sub(earlier, "", text, flags=re.M).rstrip()
            text += f"\n\n[hyperparameters.{cell}]\n# {told(row)}\neps = [{row['eps']}]\nalpha = {row['alpha']}\n"
    return text
