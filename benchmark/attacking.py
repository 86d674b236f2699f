"""A cell's checkpoints under attack: the fast gradient method and the audit."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from attacks import Budget, audit, measure_fgm_together
from benchmark.store import RECORDS, made_by, merge, note, read_json, read_table, stages, write_table
from benchmark.suite import AttackConfig
from zoo.checkpoints import load_checkpoint
from zoo.classifier import Classifier
from zoo.config import TrainingConfig, difference
from zoo.data import Dataset
from zoo.denormals import kept
from zoo.errors import BadInput

ATTACK_MEASURES = (
    "clean_error",
    "attacked_error",
    "zero_gradient_share",
    "nonfinite_gradient_share",
    "mean_norm_ratio",
    "short_share",
)
CONFIGURATION = "config.json"
Setting = tuple[str, str, float]
"""attack, norm, eps."""
VIRTUAL, STATISTICS = "virtual/", "statistics/"
NOT_OF_AUDIT = ("fgm", VIRTUAL, STATISTICS)  # begin the names of attacks that an audit leaves as they are


def checkpoint(folder: Path, seed: int) -> Path:
    """Where a seed's weights are."""
    return folder / f"seed-{seed}.safetensors"


def load_seed(folder: Path, seed: int, device: torch.device) -> Classifier:
    """A seed's model. Raises BadInput for a checkpoint of another seed, or of another training than its folder's."""
    path = checkpoint(folder, seed)
    model, stored = load_checkpoint(path, device), read_json(folder / CONFIGURATION)
    try:
        changed = None if model.card["seed"] == seed else f"seed was {seed} and is {model.card['seed']}"
        training = TypeAdapter(TrainingConfig).validate_python(model.card["training"])
        for part, config in (("model", model.config), ("training", training)):
            if stored and not changed and (field := difference(stored[part], config)):
                changed = f"{part}.{field}"
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} does not say which cell's it is: restore it, or delete it and run again") from error
    if changed:
        raise BadInput(f"{path} is not what was saved there, {changed}: restore it, or delete it and run again")
    return model


def settings(attack: AttackConfig) -> list[Setting]:
    """Each meaning at each norm and eps, and the paper's at the further eps of its curves."""
    named = [(meaning, norm, eps) for meaning in attack.meanings for norm in attack.norms for eps in attack.eps]
    return list(dict.fromkeys([*named, *(("fgm", norm, eps) for norm, curve in attack.curve.items() for eps in curve)]))


def recorded(folder: Path, measure: str) -> set[tuple[int, str, str, float]]:
    """(seed, attack, norm, eps) of a measure's records."""
    records = read_table(folder / "records.csv", RECORDS)
    of_measure = records["measure"] == measure
    seeds, names, norms, eps = (records.loc[of_measure, name].tolist() for name in ("seed", "attack", "norm", "eps"))
    return set(zip(seeds, names, norms, eps, strict=True))


def unattacked(attack: AttackConfig, seeds: Sequence[int], folder: Path) -> list[int]:
    """The seeds that lack a record of one of the suite's fast gradient methods."""
    have = recorded(folder, ATTACK_MEASURES[-1])
    return [seed for seed in seeds if any((seed, *setting) not in have for setting in settings(attack))]


def unaudited(attack: AttackConfig, seeds: Sequence[int], folder: Path) -> list[int]:
    """The seeds that lack an audit, or whose last one was of another budget."""
    if attack.audit is None:
        return []
    have = recorded(folder, "attacked_error")
    budgets = {seed: stage.get("budget") for stage in stages(folder, "audit") for seed in stage["seeds"]}
    wanted = audited(attack.audit)
    return [
        seed
        for seed in seeds
        if budgets.get(seed) != spent(attack.audit) or any((seed, *setting) not in have for setting in wanted)
    ]


def spent(budget: Budget) -> dict[str, Any]:
    """A budget as its record has it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(budget)))
    return plain


def audited(budget: Budget) -> list[Setting]:
    """The last that an audit of this budget finds."""
    return [(f"worst-{budget.images}", ball, eps) for ball, radii in budget.eps.items() for eps in radii]


@kept()
def attack_models(
    load: Callable[[Sequence[int]], nn.Module],
    attack: AttackConfig,
    seeds: Sequence[int],
    data: Dataset,
    folder: Path,
    tell: Callable[[str], None],
) -> None:
    """Whatever of the attacks and audits models lack in the records of a folder, which say of each what it errs clean.

    `load` gives the models of some seeds as one, `tell` hears of each stage.
    """
    if missing := unattacked(attack, seeds, folder):
        tell("attacking")
        started = time.monotonic()
        rows = fast_gradient_rows(load(missing), len(missing), attack, data)
        finish("attack", missing, started, data, folder)  # before the records: none of them is without its origin
        store(folder, dict(zip(missing, rows, strict=True)))
    for seed in unaudited(attack, seeds, folder):
        store_audit(partial(load, [seed]), attack.audit or Budget(), seed, folder, data, partial(of_seed, tell, seed))


def of_seed(tell: Callable[[str], None], seed: int, stage: str) -> None:
    """Tell of a stage of a seed's audit."""
    tell(f"seed {seed}: {stage}")


def finish(kind: str, seeds: Sequence[int], started: float, data: Dataset, folder: Path, **more: Any) -> None:
    """Note a stage of a cell: what was done with which seeds, for how long, by whom, and what more there is to say."""
    hours = (time.monotonic() - started) / 3600
    note(folder, {"stage": kind, "seeds": list(seeds), "hours": hours, "sittings": [made_by(data)]} | more)


def fast_gradient_rows(model: nn.Module, count: int, attack: AttackConfig, data: Dataset) -> list[list[Any]]:
    """Of each of `count` models in one: (measure, attack, norm, eps, value, n) of all the suite's settings."""
    rows: list[list[Any]] = [[] for _ in range(count)]
    for meaning in dict.fromkeys(setting[0] for setting in settings(attack)):
        at = [(norm, eps) for name, norm, eps in settings(attack) if name == meaning]
        found = measure_fgm_together(model, count, data.test_images, data.test_labels, at=at, attack=meaning)
        for own, results in zip(rows, found, strict=True):
            for result in results:
                of = (result.attack, result.norm, result.eps)
                own += [(name, *of, getattr(result, name), result.n) for name in ATTACK_MEASURES]
    return rows


def store_audit(
    load: Callable[[], nn.Module], budget: Budget, seed: int, folder: Path, data: Dataset, tell: Callable[[str], None]
) -> None:
    """Audit one model, in the place of any earlier audit of it; of a diverged one the records say so.

    What transfers to it goes too: it is measured at the audit's radii. Raises BadInput for a model that cannot be
    audited.
    """
    started = time.monotonic()
    if diverged(folder, seed):
        rows: list[Any] = [("attacked_error", *setting, math.nan, 0) for setting in audited(budget)]
    else:
        try:
            found = audit(load(), data.test_images, data.test_labels, budget, tell)
        except BadInput:
            raise
        except ValueError as error:
            raise BadInput(f"{folder}, seed {seed}: the model cannot be audited: {error}") from error
        rows = [astuple(finding) for finding in found]
    forget(folder, [seed], lambda attack: attack != "" and not attack.startswith(NOT_OF_AUDIT))
    finish("audit", [seed], started, data, folder, budget=spent(budget))
    store(folder, {seed: rows})


def diverged(folder: Path, seed: int) -> bool:
    """Whether a seed's training broke down, or it has none."""
    records = read_table(folder / "records.csv", RECORDS)
    own = records[(records["seed"] == seed) & (records["measure"] == "test_error")]
    return bool(own["value"].isna().all())


def forget(folder: Path, seeds: Sequence[int], of: Callable[[str], bool]) -> None:
    """Drop what the records have of these seeds under the attacks that `of` names, before who makes others is noted."""
    records = read_table(folder / "records.csv", RECORDS)
    gone = records["seed"].isin(seeds) & records["attack"].map(of).astype(bool)
    write_table(folder / "records.csv", records[~gone], RECORDS)


def store(folder: Path, rows: Mapping[int, Sequence[Any]]) -> None:
    """Add rows (measure, attack, norm, eps, value, n) by seed to the records; a diverged seed's values are NaN."""
    records = read_table(folder / "records.csv", RECORDS)
    trained = records[records["measure"] == "test_error"]
    of = {seed: own for seed, *own in trained[["seed", "epoch", "value", "subset"]].itertuples(index=False, name=None)}
    new = [
        (seed, epoch, *row[:4], math.nan if math.isnan(error) else row[4], row[5], subset)
        for seed, (epoch, error, subset) in of.items()
        for row in rows.get(seed, ())
    ]
    write_table(folder / "records.csv", merge(records, new, RECORDS), RECORDS)
