"""Anyone's model under the same attacks and audit: an nn.Module that gives logits, named package.module:factory."""

import hashlib
import importlib
import math
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from attacks import fgm
from attacks.checks import check_answers, check_model
from attacks.gradients import runs_in_float64
from attacks.meanings import meaning
from attacks.measurement import answers, wrong
from benchmark.attacking import attack_models
from benchmark.collect import united
from benchmark.locks import alone
from benchmark.store import RECORDS, read_json, write_json, write_table
from benchmark.suite import AttackConfig
from zoo.data import Dataset
from zoo.errors import BadInput, told

IDENTITY = "model.json"
THEIRS = (Exception, SystemExit)  # what code that is not ours may raise
OF_A_RUN = ("config.json", "seed-*", "history.csv", "provenance.json", "tuning.csv", "cells", "suite.json")


def own_model(spec: str, device: torch.device) -> nn.Module:
    """What the factory of `package.module:factory` makes, on the device. Raises BadInput where that is no model.

    The working directory is as before, wherever the factory has gone.
    """
    module, _, factory = spec.partition(":")
    if not module or not factory:
        raise BadInput(f"--model {spec}: expected package.module:factory")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        model = getattr(importlib.import_module(module), factory)()
        if isinstance(model, nn.Module):
            return model.to(device)
    except torch.OutOfMemoryError:
        raise
    except THEIRS as error:
        raise BadInput(f"--model {spec}: {told(error)}") from error
    finally:
        os.chdir(here)
        if here in sys.path:
            sys.path.remove(here)
    raise BadInput(f"--model {spec}: expected {factory}() to give an nn.Module, got {type(model).__name__}")


class Guarded(nn.Module):
    """A model whose failures say whose they are: raises BadInput for whatever it raises itself."""

    def __init__(self, model: nn.Module, spec: str) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        """The model's answer."""
        try:
            return self.model(x)
        except torch.OutOfMemoryError:
            raise
        except THEIRS as error:
            raise BadInput(f"--model {self.spec} fails under attack: {told(error)}") from error


def fitting(model: nn.Module, data: Dataset, spec: str) -> tuple[Dataset, Tensor]:
    """The data with test images as the model takes them, (N, 1, rows, columns) or flat; and its answers to them.

    Raises BadInput for a model that takes neither, is in training mode, or gives no finite logits for the classes.
    """
    inputs = data.test_images.shape[1]
    side = math.isqrt(inputs)
    shapes = [(1, side, side), (inputs,)] if side * side == inputs else [(inputs,)]
    refused = ""
    for shape in shapes:
        images = data.test_images.view(-1, *shape)
        try:
            with torch.no_grad():
                model(images[:2])
        except torch.OutOfMemoryError:
            raise
        except THEIRS as error:
            refused = f"{refused}; {told(error)}" if refused else told(error)
            continue
        try:
            check_model(model)
            with torch.no_grad():
                few = model(images[:100])
            if not isinstance(few, torch.Tensor):
                raise ValueError(f"expected logits as one tensor, got {type(few).__name__}")
            check_answers(few, data.test_labels[:100])
            fgm(model, images[:2], eps=0.1, norm=2)
            given = answers(model, images)
            check_answers(given, data.test_labels)
        except torch.OutOfMemoryError:
            raise
        except THEIRS as error:
            said = error if isinstance(error, ValueError) else told(error)
            raise BadInput(f"--model {spec}: {said}") from error
        return replace(data, test_images=images), given
    taken = " nor ".join(f"(N, {', '.join(map(str, shape))})" for shape in shapes)
    raise BadInput(f"--model {spec} takes {'neither' if len(shapes) > 1 else 'no'} {taken} images: {refused}")


def attack_own_model(spec: str, data: Dataset, config: AttackConfig, folder: Path) -> pd.DataFrame:
    """Attack and audit a model; its records, kept in the folder as of a model of one seed and no labels.

    What the folder already has is not made again.
    """
    bare = own_model(spec, data.images.device)
    data, given = fitting(bare, data, spec)
    model = Guarded(bare, spec)
    if not runs_in_float64(model, data.test_images):
        config = replace(config, meanings=tuple(name for name in config.meanings if not meaning(name).float64))
        say(spec, "does not calculate in float64: what needs that is not run")
    with alone(folder, wait=True):
        begin(spec, model, data, given, folder)
        attack_models(lambda seeds: model, config, [0], data, folder, partial(say, spec))
        found = united([folder], "records.csv", RECORDS)
    return found.assign(dataset=data.name, model=spec.partition(":")[2], labels=0)


def begin(spec: str, model: nn.Module, data: Dataset, given: Tensor, folder: Path) -> None:
    """Who a folder's records are of.

    Raises BadInput for a folder of another model or data set, or where the model predicts otherwise by now; but of one
    that does so from call to call that cannot be told.
    """
    who = {"model": spec, "data": data.name, "predictions": predictions(given)}
    was = read_json(folder / IDENTITY)
    if was is None:
        if foreign := sorted(path.name for name in OF_A_RUN for path in folder.glob(name)):
            raise BadInput(f"{folder} is a run's own, it has {foreign[0]}: name another folder with --out")
        error, n = wrong(given, data.test_labels).double().mean().item(), len(given)
        clean = [(0, 0, "test_error", "", "", math.nan, error, n, "")]
        write_table(folder / "records.csv", pd.DataFrame(clean, columns=list(RECORDS)).astype(RECORDS), RECORDS)
        write_json(folder / IDENTITY, who)
        return
    for key in ("model", "data"):
        if was.get(key) != who[key]:
            raise BadInput(f"{folder} holds the attacks on {key} {was.get(key)!r}: name another folder with --out")
    if was.get("predictions", who["predictions"]) != who["predictions"]:  # an earlier version noted none
        if predictions(answers(model, data.test_images)) == who["predictions"]:
            was_other = f"{spec} predicts otherwise than when it was attacked"
            raise BadInput(f"{folder}: {was_other}: name another folder with --out, or delete this one")
        say(spec, "its predictions differ from call to call: taken for the model that was attacked")


def predictions(given: Tensor) -> str:
    """A digest of the classes that logits (N, classes) name: rounding does not change it."""
    return hashlib.sha256(given.argmax(1).cpu().numpy().tobytes()).hexdigest()


def say(spec: str, stage: str) -> None:
    """Tell of a stage."""
    print(f"{spec}: {stage}", flush=True)
