"""Folders of runs read back as what a report is made of."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.cell import as_trained, check_same
from benchmark.choice import check_tuned
from benchmark.dispatch import failure
from benchmark.plan import unchosen
from benchmark.store import EXAMPLES, HISTORY, RECORDS, keys_of, read_table, read_tables, stages
from benchmark.suite import Cell, Suite
from reports import STRANGE, UNCHOSEN, UNPROVEN
from reports.cells import TUNING
from zoo.config import ADVERSARIAL, WITH_COST, ModelConfig, canonical, hashed
from zoo.data import CHECKSUMS, TEST_IMAGES
from zoo.errors import BadInput

THREAT_MODEL = {
    "attack": "fast gradient method, one step, white box",
    "clipping": "none",
    "labels": "the model's own predictions",
    "images": "all test images, final epoch's model",
}
TRAINING_IMAGES = dict.fromkeys(CHECKSUMS, 60_000)
PLACE = ["dataset", "model", "labels"]
OF_NO_ATTACK = ("test_error", "lowest_test_error")
ABOUT = ("config.json", "provenance.json", "history.csv")  # of a cell
NOT_KEYS = ("label", "predicted", "pixels")


@dataclass(frozen=True)
class Collected:
    """What `reports.render` takes."""

    records: pd.DataFrame
    history: pd.DataFrame
    plan: pd.DataFrame
    provenance: dict[str, Any]
    tuning: pd.DataFrame
    examples: pd.DataFrame


def collect(suite: Suite, name: str, cells: Sequence[Cell], runs: Sequence[Path]) -> Collected:
    """The records of one run of a suite, complete or not, or of several put together.

    Raises BadInput for an unreadable record, for a cell that was run with another configuration, and for records of
    two runs that contradict each other.
    """
    cells = [in_runs(cell, runs) for cell in cells]
    for cell, run in product(cells, runs):
        check_tuned(cell, run / "tuning", but=("training.precision",))  # which is the cell's own affair
    records = gathered(cells, runs, "records.csv", RECORDS)
    history = gathered(cells, runs, "history.csv", HISTORY)
    examples = gathered(cells, runs, "examples.csv", EXAMPLES)
    tuning = united([run / "tuning" for run in runs], "tuning.csv", TUNING)
    seeds = records.groupby(PLACE)["seed"].unique().to_dict()
    epochs = pd.concat([history, records])[[*PLACE, "seed", "epoch"]].groupby([*PLACE, "seed"])["epoch"].max().to_dict()
    planned: list[tuple[str, str, int, int, float]] = []
    origin: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    unproven: list[str] = []
    for cell in cells:
        where = place(cell)
        of = [(*where, seed) for seed in dict.fromkeys([*cell.seeds, *seeds.get(where, ())])]
        planned += [(*each, epochs.get(each, 0) * updates(cell)) for each in of]
        if noted := stages_of(folders_of(cell, runs), runs):
            origin[cell.name] = noted
        folders = folders_of(cell, runs)
        recorded = [folder for folder in folders if (folder / "records.csv").is_file()]
        reasons = {folder: reason for folder in folders if (reason := failure(folder))}
        if reasons and not (set(recorded) - reasons.keys() and set(cell.seeds) <= set(seeds.get(where, ()))):
            failed[cell.name] = list(reasons.values())[-1]
        lacking = [[file for file in ABOUT if not (folder / file).is_file()] for folder in recorded]
        unproven += [f"{cell.name} ({' and '.join(each)} missing)" for each in lacking if each]
    if tuned := stages_of([run / "tuning" for run in runs], runs):
        origin["tuning"] = tuned
    plan = pd.DataFrame(planned, columns=[*PLACE, "seed", "updates"])
    lacks = {UNPROVEN: unproven, STRANGE: [folder.name for folder in strangers(suite, cells, runs)], "failed": failed}
    about = provenance(suite, name, cells, origin) | {key: value for key, value in lacks.items() if value}
    return Collected(records, history, plan, about, tuning, examples)


def strangers(suite: Suite, cells: Sequence[Cell], runs: Sequence[Path]) -> list[Path]:
    """Folders beside those of the cells that are of no cell of the suite: a report knows nothing of them."""
    known = {cell.name for cell in cells} | set(unchosen(suite))
    there = [folder for run in runs for folder in sorted((run / "cells").glob("*"))]
    return [folder for folder in there if folder.is_dir() and folder.name not in known]


def stages_of(folders: Sequence[Path], runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What was done in a cell's folders, each stage once with the runs that have it."""
    found: dict[str, dict[str, Any]] = {}
    for folder, run in zip(folders, distinguished(runs), strict=True):
        for stage in stages(folder):
            found.setdefault(json.dumps(stage, sort_keys=True), stage | {"runs": []})["runs"].append(run)
    return list(found.values())


def place(cell: Cell) -> tuple[str, str, int]:
    """What a cell's rows are found by in a report: `PLACE`."""
    return cell.training.dataset, cell.model.name, cell.training.labels


def folders_of(cell: Cell, runs: Sequence[Path]) -> list[Path]:
    """A cell's folder in every run."""
    return [run / "cells" / cell.name for run in runs]


def gathered(cells: Sequence[Cell], runs: Sequence[Path], name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a table of all cells, with each cell's `PLACE`; of a single run, the usual case, read at once."""
    whole = read_tables([runs[0] / "cells" / cell.name / name for cell in cells], columns)
    if len(runs) > 1 or whole.duplicated(["file", *places(name, columns)]).any() or misplaced(whole).any():
        tables = [united(folders_of(cell, runs), name, columns).assign(file=at) for at, cell in enumerate(cells)]
        whole = pd.concat(tables, ignore_index=True)
    where = pd.DataFrame([place(cell) for cell in cells], columns=PLACE)
    return whole.drop(columns="file").join(where.iloc[whole["file"]].set_axis(whole.index))


def places(name: str, columns: Mapping[str, str]) -> list[str]:
    """What may be recorded only once in a cell."""
    keys = [column for column in keys_of(columns) if column not in NOT_KEYS]
    return [key for key in keys if key != "epoch"] if name == "records.csv" else keys


def misplaced(table: pd.DataFrame) -> "pd.Series[bool]":
    """Rows of an attack whose measure is of none: they would stand beside the measure's own as its duplicates."""
    if "attack" not in table:
        return pd.Series(False, table.index)
    attacked = (table["attack"] != "") | (table["norm"] != "") | table["eps"].notna()
    return table["measure"].isin(OF_NO_ATTACK) & attacked


def in_runs(cell: Cell, runs: Sequence[Path]) -> Cell:
    """The cell in the precision that these runs have it in. Raises BadInput where a run has it otherwise."""
    found: dict[Path, Cell] = {}
    for folder in folders_of(cell, runs):
        if (folder / "config.json").is_file():
            found[folder / "config.json"] = as_trained(cell, folder)
            check_same(found[folder / "config.json"], folder)
    for (first, one), (second, other) in zip(list(found.items()), list(found.items())[1:], strict=False):
        if one != other:
            said = f"precision {one.training.precision} and {other.training.precision}"
            raise BadInput(f"{first} and {second} are of different cells ({said}): report on them apart")
    return next(iter(found.values()), cell)


def united(folders: Sequence[Path], name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a cell's table in all of its folders; what two of them have alike is there once.

    Raises BadInput where two files have different values of one thing, or one file has it twice or of an attack that
    it is not of.
    """
    keys = [column for column in keys_of(columns) if column not in NOT_KEYS]
    once = places(name, columns)
    found = [read_table(folder / name, columns) for folder in folders]
    tables = [table.assign(file=str(folder / name)) for folder, table in zip(folders, found, strict=True)]
    whole = pd.concat(tables, ignore_index=True)
    if (wrong := whole[misplaced(whole)]).size:
        row = wrong.iloc[0]
        raise BadInput(f"{row['file']}: recorded of an attack, which it is not of: {named(row, keys)}; remove the line")
    if (within := whole[whole.duplicated([*once, "file"])]).size:
        row = within.iloc[0]
        raise BadInput(f"{row['file']}: recorded twice: {named(row, once)}; remove one of the lines")
    rows = whole.drop_duplicates(list(columns))
    if (twice := rows[rows.duplicated(once, keep=False)]).size:
        _, same = next(iter(twice.groupby(once, dropna=False, sort=False)))
        one, other = (row for _, row in same.iloc[:2].iterrows())
        what = next(column for column in ("value", *columns) if repr(one[column]) != repr(other[column]))
        raise BadInput(
            f"{one['file']} and {other['file']} contradict each other: {named(one, once)} has {what} {one[what]!r} "
            f"in one and {other[what]!r} in the other; report on them apart, or delete one cell"
        )
    return rows.drop(columns="file")


def named(row: "pd.Series[Any]", keys: Sequence[str]) -> str:
    """What a row is of: "seed 0, measure test_error"."""
    return ", ".join(f"{key} {row[key]}" for key in keys if str(row[key]) not in ("", "nan"))


def updates(cell: Cell) -> float:
    """How many steps an epoch takes, NaN where the size of the data set is not fixed."""
    images = TRAINING_IMAGES.get(cell.training.dataset)
    return cell.training.updates(images) if images else math.nan


def distinguished(runs: Sequence[Path]) -> list[str]:
    """A name for each of several runs, as short as tells them apart; none is needed for a single one."""
    if len(runs) == 1:
        return [""]
    parts = [run.resolve().parts for run in runs]
    depth = next((d for d in range(1, 100) if len({each[-d:] for each in parts}) == len(parts)), 100)
    return ["/".join(each[-depth:]) for each in parts]


def provenance(
    suite: Suite, name: str, cells: Sequence[Cell], origin: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Everything needed to judge the numbers: what was done, by which code, on which machine, for how long."""
    noted = [stage for of in origin.values() for stage in of]
    sittings = [sitting for stage in noted for sitting in stage["sittings"]]
    where = [sitting["environment"] for sitting in sittings]
    hours = sum(stage["hours"] for stage in noted if stage["stage"] == "training")
    packages = dict.fromkeys(package for each in where for package in each["versions"])
    return {
        "suite": Path(name).stem,
        "description": suite.description,
        **({} if suite.paper == "VAL" else {"paper": suite.paper}),
        "suite hash": hashed({cell.name: canonical(cell) for cell in cells}),
        **({UNCHOSEN: left_out} if (left_out := unchosen(suite)) else {}),
        "command": unique(sitting["command"] for sitting in sittings),
        "device": unique(f"{each['device']}, {each['threads']} threads" for each in where),
        "hours": f"{hours:.2f} of training, summed over cells",
        "commit": unique(commit(each) for each in where),
        "python": unique(each["python"] for each in where),
        "versions": {package: unique(each["versions"].get(package, "none") for each in where) for package in packages},
        "attack": THREAT_MODEL | {"norms": list(suite.attack.norms), "eps": list(suite.attack.eps)},
        "training": {key: unique(shared(cell, key) for cell in cells) for key in SHARED},
        "data": checksums(sittings),
        "models": {cell.name: described(cell) for cell in cells},
        "cells": {cell: [done(stage) for stage in noted] for cell, noted in origin.items()},
    }


def checksums(sittings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of each data file. Raises BadInput where sittings had different ones by one name."""
    found: dict[str, str] = {}
    for sitting in sittings:
        for file, value in sitting["checksums"].items():
            if found.setdefault(file, value) != value:
                raise BadInput(
                    f"{file} is not the same data in all records (checksums {found[file]} and {value}): report on the "
                    "runs apart, or delete the cells of one of them and run them again"
                )
    return found


def shared(cell: Cell, key: str) -> Any:
    """A field of a cell's training; images of a test set as many as there are."""
    value = getattr(cell.training, key)
    return min(value, TEST_IMAGES[cell.training.dataset]) if key == "smoothness_images" else value


def commit(environment: Mapping[str, Any]) -> str:
    """The commit of a sitting, and whether the tree was clean; where git did not tell, neither is known."""
    if environment["commit"] == "unknown":
        return "unknown"
    return f"{environment['commit']} ({'clean tree' if environment['clean_tree'] else 'tree changed'})"


SHARED = (
    "epochs",
    "decay_from",
    "learning_rate",
    "smoothness_eps",
    "smoothness_iterations",
    "smoothness_images",
)


def described(cell: Cell) -> str:
    """What a cell's model is tuned by and fed with, in one line."""
    model, training = cell.model, cell.training
    parts = [f"batch {training.labelled_batch} + {training.unlabelled_batch}"]
    parts += [f"layers {'-'.join(map(str, model.widths))}", f"{training.precision} products"]
    for symbol, values in (("λ", model.hyperparameters.denoising_weights), ("ε", model.hyperparameters.eps)):
        parts += [f"{symbol} {' '.join(f'{value:g}' for value in values)}"] if values else []
    parts += [perturbing(model)] if model.hyperparameters.eps else []
    parts += [] if model.normalised_logits else ["logits not normalised"]
    noise = f"{model.corruption_sd:g} everywhere" if model.hyperparameters.denoising_weights else ""
    parts += ["the released decoder"] if model.decoder == "released" else []
    parts += ["activations perturbed"] if model.perturbed_on == "activation" else []
    parts += ["perturbed batches normalised in two parts"] if model.perturbed_statistics == "split" else []
    parts += ["a scale at every layer"] if model.hidden_scale else []
    where = "hidden layers" if model.noise_on == "normalised" else "activations"
    parts += [f"noise sd {noise or f'{model.hidden_sd:g} on {where}'}", f"test statistics {model.statistics}"]
    return ", ".join(parts)


def perturbing(model: ModelConfig) -> str:
    """How a model's perturbations are found, of which examples, and with whose noise their cost is measured."""
    if model.name in ADVERSARIAL:
        return f"{model.norm}, one exact gradient step, of labelled"
    if model.power_iterations == 0:
        found = "K = 0, at random"
    else:
        product = "exact products" if model.xi is None else f"finite differences {model.xi:g}"
        found = f"K = {model.power_iterations}, {product}, noise sd {model.hidden_sd:g}"
    cost = f", {model.sign} sign, {model.scored_noise} noise where it is scored" if model.name in WITH_COST else ""
    return f"{model.norm}, {found}, of {model.perturbed}{cost}"


def done(stage: Mapping[str, Any]) -> str:
    """Who did a stage of a cell, a sitting after the other."""
    sittings = [
        f"{sitting['environment']['device']}, commit {commit(sitting['environment'])}, {sitting['command']}"
        for sitting in stage["sittings"]
    ]
    seeds = ", ".join(map(str, stage["seeds"]))
    run = f"run {' and '.join(stage['runs'])}, " if any(stage["runs"]) else ""
    return f"{run}{stage['stage']} of seeds {seeds}, {stage['hours']:.3f} h: {'; then '.join(sittings)}"


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))
