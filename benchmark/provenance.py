"""Where a report's numbers come from: what was done, by which code, on which machine, with which configuration."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.plan import unchosen
from benchmark.suite import Cell, Suite
from reports import UNCHOSEN
from zoo.config import ADVERSARIAL, WITH_COST, ModelConfig, canonical, hashed
from zoo.data import TEST_IMAGES
from zoo.errors import BadInput

THREAT_MODEL = {
    "attack": "fast gradient method, one step, white box",
    "clipping": "none",
    "labels": "the model's own predictions",
    "images": "all test images, final epoch's model",
}
SHARED = (
    "epochs",
    "decay_from",
    "learning_rate",
    "smoothness_eps",
    "smoothness_iterations",
    "smoothness_images",
)


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
