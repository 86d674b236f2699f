"""What a model is and how it is trained: frozen, validated, hashed."""

import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from zoo.errors import BadInput, unknown
from zoo.fused import Precision

Count = Annotated[int, Field(ge=0, le=1000)]
Counts = Annotated[tuple[Count, ...], Field(max_length=64)]
Width = Annotated[int, Field(le=2**16)]
Layered = Annotated[tuple[float, ...], Field(max_length=64)]
MOST_WEIGHTS = 10**8  # of an encoder: a configuration from elsewhere must not fill the memory
STRICT = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
MODELS = ("supervised", "vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
LADDERS = ("ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
VIRTUAL_ADVERSARIAL = ("vat", "lvac", "lvac-lw", "lvan", "lvan-lw")
LAYER_WISE = ("lvac-lw", "lvan-lw")


@dataclass(frozen=True, config=STRICT)
class Hyperparameters:
    """What a model is tuned by, per layer 0, 1, ...: the last value given holds for all layers above."""

    denoising_weights: Layered = ()  # lambda(l) of the ladder's cost
    eps: Layered = ()  # radius of the perturbation; one value: the input alone is perturbed


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """One model, complete; the README's table of choices gives the sources of the defaults."""

    name: str
    widths: Annotated[tuple[Width, ...], Field(max_length=64)]  # units of layers 0 (input) .. L (classes)
    hyperparameters: Hyperparameters = Hyperparameters()
    corruption_sd: float = Field(default=0.3, ge=0)  # Gaussian noise of the ladder's corrupted path, every layer
    hidden_sd: float = Field(default=0.5, ge=0)  # Gaussian noise on hidden layers: VAT's passes, and passes that find r
    power_iterations: Count | Annotated[tuple[Count, ...], Field(max_length=64)] = (
        3  # K, for all layers or for 0, 1, ...; 0: a random perturbation
    )
    norm: Literal["L2", "Linf"] = "L2"  # what bounds the perturbation
    xi: float | None = Field(default=None, gt=0)  # None: exact Hessian products; else finite differences, fresh noise
    perturbed: Literal["unlabelled", "all"] = "unlabelled"  # which examples of a batch
    statistics: Literal["unlabelled", "labelled"] = "unlabelled"  # what test-time averages are taken over

    @model_validator(mode="after")
    def consistent(self) -> "ModelConfig":
        """Refuse a model that is not there or lacks what it is tuned by."""
        if self.name not in MODELS:
            raise unknown("model", self.name, MODELS)
        if len(self.widths) < 3 or min(self.widths) < 1:
            raise BadInput(f"widths: expected three or more positive layer widths, got {list(self.widths)}")
        if (weights := sum(a * b for a, b in pairwise(self.widths))) > MOST_WEIGHTS:
            raise BadInput(f"widths: {weights} weights between layers, expected at most {MOST_WEIGHTS}")
        given = self.hyperparameters
        needed = (("denoising_weights", LADDERS), ("eps", VIRTUAL_ADVERSARIAL))
        for field, models in needed:
            count = len(getattr(given, field))
            if (count > 0) != (self.name in models):
                word = "are needed" if count == 0 else "have no meaning"
                raise BadInput(f"hyperparameters.{field} {word} for model {self.name!r}")
        if self.power_iterations == ():
            raise BadInput("power_iterations: expected a number, or one for each layer")
        if min(given.denoising_weights + given.eps, default=0) < 0:
            raise BadInput(f"hyperparameters of {self.name!r}: expected values >= 0")
        if given.eps and (len(given.eps) > 1) != (self.name in LAYER_WISE):
            raise BadInput(
                f"hyperparameters.eps of {self.name!r}: expected "
                + ("a value for each of two or more layers" if self.name in LAYER_WISE else "one value")
            )
        if self.name == "supervised" and self.statistics != "labelled":
            raise BadInput("statistics of 'supervised': expected 'labelled', it sees no unlabelled images")
        return self

    def denoising_weights(self) -> list[float]:
        """lambda(l) for l = 0..L."""
        return spread(self.hyperparameters.denoising_weights, len(self.widths))

    def iterations(self, layer: int) -> int:
        """K of a layer."""
        given = self.power_iterations
        return given if isinstance(given, int) else given[min(layer, len(given) - 1)]

    def eps(self) -> dict[int, float]:
        """eps(l) of each perturbed layer: the input, or with `-lw` every layer below the logits."""
        radii = self.hyperparameters.eps
        return dict(enumerate(radii if len(radii) < 2 else spread(radii, len(self.widths) - 1)))


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How one model at one label count is trained and measured."""

    dataset: str
    labels: int = Field(gt=0)
    labelled_batch: int = Field(gt=0)
    unlabelled_batch: int = Field(gt=0)
    epochs: int = Field(gt=0)  # an epoch is one pass over the unlabelled images
    decay_from: int = Field(ge=0)  # epoch from which the learning rate falls linearly to 0
    learning_rate: float = Field(default=0.002, gt=0)  # of Adam
    precision: Precision = "float32"  # of the matrix products in a training step
    evaluate_every: int = Field(default=1, gt=0)  # epochs between measurements of the test error
    smoothness_every: int = Field(default=1, gt=0)  # epochs between measurements of the virtual adversarial cost
    smoothness_eps: float = Field(default=5.0, gt=0)  # its radius (L2): VAL paper, Figure 3
    smoothness_iterations: int = Field(default=1, gt=0)  # its power iterations, whatever the model was trained with
    smoothness_images: int = Field(default=1000, gt=0)  # the first so many test images

    @model_validator(mode="after")
    def consistent(self) -> "TrainingConfig":
        """Refuse what cannot be trained."""
        if self.labelled_batch > self.labels:
            raise BadInput(f"labelled_batch = {self.labelled_batch} exceeds labels = {self.labels}")
        if self.decay_from > self.epochs:
            raise BadInput(f"decay_from = {self.decay_from} exceeds epochs = {self.epochs}")
        return self

    def rate(self, epoch: int) -> float:
        """The learning rate of epoch 0, 1, ...: constant, then linear to zero after the last epoch."""
        if epoch < self.decay_from:
            return self.learning_rate
        return self.learning_rate * (self.epochs - epoch) / (self.epochs - self.decay_from)


def spread(values: tuple[float, ...], count: int) -> list[float]:
    """`values`, the last one repeated, cut to `count`."""
    return [*values, *[values[-1]] * count][:count]


@functools.cache
def published_values() -> dict[str, Any]:
    """The table of Appendix A."""
    return tomllib.loads(resources.files("zoo").joinpath("appendix_a.toml").read_text())


def appendix_a(model: str, labels: int) -> Hyperparameters | None:
    """The published hyper-parameters of a model at a label count; None where the paper gives none."""
    table = published_values()
    if model == "supervised":
        return Hyperparameters()
    values = table.get(model, {}).get(str(labels))
    return None if values is None else Hyperparameters(**values)


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def fingerprint(*configs: Any) -> str:
    """SHA-256 (16 hex digits) of configurations' canonical JSON."""
    text = json.dumps([plain(config) for config in configs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(stored: Mapping[str, Any], config: Any) -> str | None:
    """The first field in which a configuration differs from one stored earlier: "epochs was 10 and is 40".

    A field that was not stored came later: its default stands for what was done before. Raises ValueError where
    `stored` is no configuration.
    """
    was, now = plain(TypeAdapter(type(config)).validate_python(stored)), plain(config)
    return next((f"{name} was {was[name]!r} and is {now[name]!r}" for name in now if was[name] != now[name]), None)
