"""Checkpoints: a seed's plain weights with a card, and the state that an interrupted training resumes from."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.classifier import Classifier
from zoo.config import ModelConfig, plain
from zoo.errors import BadInput, unknown
from zoo.models import create

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensors by name: their kind of number and shape, as a safetensors header has them."""
KINDS = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3"}
SMALL = "encoder, weights of products in float16"
FINER = f"{SMALL}, above the first with 2^13 times their remainders in float8"
"""What the card of a small checkpoint says is stored."""
WEIGHT, REST = "encoder.weight.", ".rest"
DIGEST = "sha256"  # in a card as it is stored: of the tensors; files from before have none


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whoever looks sees the old one or the new one, never a part. Raises OSError naming it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file it is about
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_tensors(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Tensors and a JSON card in one safetensors file."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    card = {**card, DIGEST: digest(stored)}
    write_whole(path, save(stored, metadata={"card": json.dumps(card, sort_keys=True)}))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors' names and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_card(path: Path) -> dict[str, Any]:
    """The card of a file, none of its tensors. Raises BadInput for a file that is missing, damaged or has no card."""
    return read_tensors(path, expected={}, only_card=True)[1]


def read_tensors(
    path: Path, device: str | torch.device = "cpu", *, expected: Layout | None = None, only_card: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote. Raises BadInput for a file that is missing, damaged, altered or has no card.

    `expected`: what must be there, or BadInput, before any of it is read: a header is free to name any size.
    """
    if not path.is_file():
        raise BadInput(f"{path} is {'no regular file: expected one' if path.exists() else 'missing'}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): expected a checkpoint that may be") from error
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            card = json.loads((file.metadata() or {})["card"])
            if not isinstance(card, dict):
                raise KeyError("card")
            saved = card.pop(DIGEST, None)
            if only_card:
                return {}, card
            if expected is not None and (wrong := mismatch(file, expected)):
                raise BadInput(f"{path} does not hold what its card describes: {wrong}; delete it and run again")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError, RecursionError) as error:
        raise BadInput(f"{path} is not a checkpoint of this project ({error}): delete it and run again") from error
    if saved is not None and saved != digest(tensors):
        raise BadInput(f"{path} has other numbers than were saved: restore it, or delete it and run again")
    return tensors, card


def mismatch(file: Any, expected: Layout) -> str | None:
    """The first difference between an open file's header and what must be in it."""
    there = set(file.keys())
    for name in sorted(there ^ expected.keys()):
        return f"{name} is {'not of it' if name in there else 'missing'}"
    for name, wanted in expected.items():
        part = file.get_slice(name)
        if (found := (part.get_dtype(), tuple(part.get_shape()))) != wanted:
            return f"size mismatch for {name}: expected {wanted[0]} {wanted[1]}, got {found[0]} {found[1]}"
    return None


def layout(config: ModelConfig, seeds: int | None = None, *, parameters: bool = False) -> Layout:
    """What a model of so many seeds (None: a single one, without a seed axis) consists of; nothing is allocated."""
    with torch.device("meta"):
        model = create(config)
    named = model.named_parameters() if parameters else model.state_dict().items()
    lead = () if seeds is None else (seeds,)
    return {name: (KINDS[tensor.dtype], (*lead, *tensor.shape)) for name, tensor in named}


def of_seed(state: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """One seed's part of a state with a leading seed axis."""
    return {name: tensor[index] for name, tensor in state.items()}


def save_seed(path: Path, model: Classifier, index: int, card: Mapping[str, Any]) -> None:
    """Write one seed of a trained model as a plain single-seed checkpoint."""
    write_tensors(path, of_seed(model.state_dict(), index), {"model": plain(model.config), **card})


def save_small(path: Path, model: Classifier, *, finer: bool = False) -> None:
    """Write what a single-seed model needs at test time, the weights of its products in float16.

    `finer`: above the first product with some four bits more, a byte a weight.
    """
    write_tensors(path, packed(model, finer=finer), {**model.card, "stored": FINER if finer else SMALL})


def packed(model: Classifier, *, finer: bool) -> dict[str, Tensor]:
    """The part of a model's state that its logits depend on, as a small checkpoint has it."""
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")}
    for name in [name for name in tensors if name.startswith(WEIGHT)]:
        weight, tensors[name] = tensors[name], tensors[name].half()
        if finer and name != f"{WEIGHT}0":
            tensors[name + REST] = (2**13 * (weight - tensors[name].float())).to(torch.float8_e4m3fn)
    return tensors


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state from what `packed` gave."""
    state = {name: tensor for name, tensor in tensors.items() if not name.endswith(REST)}
    for name in tensors.keys() - state.keys():
        of = name.removesuffix(REST)
        state[of] = state[of].float() + tensors[name].float() / 2**13
    return state


def small_layout(config: ModelConfig, *, finer: bool) -> Layout:
    """What a small checkpoint consists of; nothing is allocated."""
    with torch.device("meta"):
        tensors = packed(create(config), finer=finer)
    return {name: (KINDS[of.dtype], tuple(of.shape)) for name, of in tensors.items()}


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Classifier:
    """A single-seed model in evaluation mode; its card is `model.card`. Raises BadInput for an unsound file.

    Of a small checkpoint: a `Classifier` with the model's encoder, which is all that its logits take.
    """
    check_device(device)
    card = read_card(path)
    try:
        config = TypeAdapter(ModelConfig).validate_python(card["model"])
        stored = card.get("stored")
        small = stored in (SMALL, FINER)
        expected = small_layout(config, finer=stored == FINER) if small else layout(config)
        model = (Classifier(config) if small else create(config)).to(device)
        model.load_state_dict(unpacked(read_tensors(path, device, expected=expected)[0]))
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{path} does not hold the model its card describes ({reason})") from error
    model.card = card
    return model.eval().requires_grad_(False)


def check_device(device: str | torch.device) -> None:
    """Raises BadInput for a device that is not there, or has no numbers."""
    try:
        torch.zeros(1, device=device).item()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError) as error:
        raise BadInput(f"device {str(device)!r} is not there, expected cpu or cuda: {error}") from error


class Together(nn.Module):
    """Models of one configuration as one: (models * N, inputs), the first N for the first, -> (models * N, classes)."""

    def __init__(self, models: Sequence[Classifier]) -> None:
        """`models`: of one seed each, on one device."""
        super().__init__()
        self.count = len(models)
        kind = type(models[0])  # of small checkpoints one without a decoder
        self.stacked = kind(models[0].config, range(self.count)).to(next(models[0].parameters()).device)
        states = [model.state_dict() for model in models]
        self.stacked.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Each model on its own share of x."""
        logits: Tensor = self.stacked.at_test(x.view(self.count, -1, x.shape[-1]))
        return logits.flatten(0, 1)


def load(run: str | Path, model: str, *, labels: int, seed: int, device: str | torch.device = "cpu") -> nn.Module:
    """A trained model of a run folder: `load("runs/quick", "lvan-lw", labels=50, seed=0)`.

    (N, 784) or (N, 1, 28, 28) floats in [0, 1] -> logits (N, 10). In evaluation mode, parameters without gradients.
    """
    cells = Path(run) / "cells"
    if not cells.is_dir():
        raise BadInput(f"{cells} is missing: {run} is not the folder of a run")
    known = sorted(folder.name for folder in cells.iterdir())
    name = f"{model}-{labels}"
    if name not in known:
        raise unknown("cell", name, known)
    path = cells / name / f"seed-{seed}.safetensors"
    if not path.resolve().is_relative_to(cells.resolve()):
        raise BadInput(f"{path} is a link out of the run's folder")
    if not path.is_file():
        have = sorted(file.stem.removeprefix("seed-") for file in path.parent.glob("seed-*.safetensors"))
        raise BadInput(f"{path} is missing: seeds there are {', '.join(have) or 'none'}")
    found = load_checkpoint(path, device)
    card = found.card
    whose = found.config.name, card.get("training", {}).get("labels", labels), card.get("seed")
    if whose != (model, labels, seed):
        raise BadInput(f"{path} is of another model: {whose[0]}, {whose[1]} labels, seed {whose[2]}; restore it")
    return found
