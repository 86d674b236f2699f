"""Anyone's model under the same attacks and audit: an nn.Module that gives logits, named package.module:factory."""

import hashlib
import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from attacks import fgm
from attacks.checks import check_answers, check_model
from attacks.measurement import answers, wrong
from benchmark.attacking import attack_models
from benchmark.store import RECORDS, read_json, read_table, write_json, write_table
from benchmark.suite import AttackConfig
from zoo.data import Dataset
from zoo.errors import BadInput

IDENTITY = "model.json"


def own_model(spec: str, device: torch.device) -> nn.Module:
    """What the factory of `package.module:factory` makes, on the device. Raises BadInput where that is no model."""
    module, _, factory = spec.partition(":")
    if not module or not factory:
        raise BadInput(f"--model {spec}: expected package.module:factory")
    sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(module), factory)()
    except Exception as error:  # of code that is not ours
        raise BadInput(f"--model {spec}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(model, nn.Module):
        raise BadInput(f"--model {spec}: expected {factory}() to give an nn.Module, got {type(model).__name__}")
    return model.to(device)


def fitting(model: nn.Module, data: Dataset, spec: str) -> Dataset:
    """The data with test images as the model takes them: (N, 1, rows, columns), or flat.

    Raises BadInput for a model that takes neither, is in training mode, or gives no finite logits for the classes.
    """
    side = round(data.test_images.shape[1] ** 0.5)
    refused = ""
    for images in (data.test_images.view(-1, 1, side, side), data.test_images):
        try:
            with torch.no_grad():
                model(images[:2])
        except Exception as error:  # of code that is not ours
            refused = f"{refused}; {error}" if refused else str(error)
            continue
        try:
            check_model(model)
            with torch.no_grad():
                few = model(images[:100])
            if not isinstance(few, torch.Tensor):
                raise ValueError(f"expected logits as one tensor, got {type(few).__name__}")
            check_answers(few, data.test_labels[:100])
            for float64 in (False, True):
                fgm(model, images[:2], eps=0.1, norm=2, float64=float64)
        except Exception as error:  # of code that is not ours
            raise BadInput(f"--model {spec}: {error}") from error
        return replace(data, test_images=images)
    shapes = f"(N, 1, {side}, {side}) nor (N, {side * side})"
    raise BadInput(f"--model {spec} takes neither {shapes} images: {refused}")


def attack_own_model(spec: str, data: Dataset, config: AttackConfig, folder: Path) -> pd.DataFrame:
    """Attack and audit a model; its records, kept in the folder as of a model of one seed and no labels.

    What the folder already has is not made again, unless the model answers otherwise by now.
    """
    model = own_model(spec, data.images.device)
    data = fitting(model, data, spec)
    given = answers(model, data.test_images)
    who = {"model": spec, "answers": hashlib.sha256(given.cpu().numpy().tobytes()).hexdigest()}
    if read_json(folder / IDENTITY) != who:
        for name in (IDENTITY, "records.csv", "provenance.json"):
            (folder / name).unlink(missing_ok=True)
        error, n = wrong(given, data.test_labels).double().mean().item(), len(given)
        clean = [(0, 0, "test_error", "", "", math.nan, error, n, "")]
        write_table(folder / "records.csv", pd.DataFrame(clean, columns=list(RECORDS)).astype(RECORDS), RECORDS)
        write_json(folder / IDENTITY, who)
    attack_models(lambda seeds: model, config, [0], data, folder, lambda stage: print(f"{spec}: {stage}", flush=True))
    found = read_table(folder / "records.csv", RECORDS)
    return found.assign(dataset=data.name, model=spec.partition(":")[2], labels=0)
