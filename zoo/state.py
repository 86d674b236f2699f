"""The state of an interrupted training as it lies on the disk: checked before a tensor of it is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter
from torch import Tensor
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from zoo.checkpoints import Layout, layout, read_card, read_tensors
from zoo.config import ModelConfig, TrainingConfig, difference
from zoo.errors import BadInput

T = TypeVar("T")
Count = Annotated[int, Field(ge=0)]


class Interrupted(TypedDict):
    """Where a training stands."""

    seeds: list[Count]
    epoch: Count  # epochs done


class Progress(Interrupted):
    """All that a state's card holds of a training; see the fields of `Training`."""

    history: list[tuple[int, int, str, float]]
    seconds: float
    sittings: list[dict[str, Any]]


def interrupted(path: Path) -> Interrupted:
    """Where the training that wrote a state stands. Raises BadInput for a file that is none."""
    return checked(path, read_card(path), TypeAdapter(Interrupted))


def read_state(path: Path, model: ModelConfig, config: TrainingConfig) -> tuple[dict[str, Tensor], Progress] | None:
    """Tensors and progress of a training; None where they belong to another configuration.

    Raises BadInput for a file that is no state, or that holds other tensors than such a training has.
    """
    card = read_card(path)
    progress = checked(path, card, TypeAdapter(Progress))
    try:
        if difference(card["model"], model) or difference(card["training"], config):
            return None
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not the state of a training: delete it to train anew") from error
    if progress["epoch"] >= config.epochs or not progress["seeds"]:
        raise BadInput(f"{path} is the state of no interrupted training: delete it to train anew")
    return read_tensors(path, expected=of_training(model, progress["seeds"]))[0], progress


def checked(path: Path, card: dict[str, Any], kind: TypeAdapter[T]) -> T:
    """A card as what it must be."""
    try:
        return kind.validate_python(card)
    except ValueError as error:
        raise BadInput(f"{path} is not the state of a training: delete it to train anew") from error


def of_training(model: ModelConfig, seeds: Sequence[int]) -> Layout:
    """What `Training.tensors` holds after a step: weights, and Adam's moments of every parameter."""
    found = {f"model/{name}": kind for name, kind in layout(model, len(seeds)).items()}
    for index, kind in enumerate(layout(model, len(seeds), parameters=True).values()):
        found |= {f"adam/{index}/exp_avg": kind, f"adam/{index}/exp_avg_sq": kind, f"adam/{index}/step": ("F32", ())}
    return found
