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

from zoo.data import INPUTS
from zoo.errors import BadInput, unknown
from zoo.fused import Precision

MOST = 10**9  # images, epochs, steps: what is computed from them stays a number that all can hold
Count = Annotated[int, Field(ge=0, le=1000)]
Counts = Annotated[tuple[Count, ...], Field(max_length=64)]
Averaged = Literal["unlabelled", "labelled", "corrupted"]  # corrupted: labelled ones, in training's noisy pass
Amount = Annotated[int, Field(gt=0, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Width = Annotated[int, Field(le=2**16)]
LARGEST = 1e30  # of a real number: float32 ends at 3e38
Real = Annotated[float, Field(le=LARGEST)]
Layered = Annotated[tuple[Real, ...], Field(max_length=64)]
MOST_WEIGHTS = 10**8  # of an encoder: a configuration from elsewhere must not fill the memory
STRICT = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
RPT, ADVERSARIAL = ("rpt", "rpt-9"), ("adversarial-linf", "adversarial-l2")
MODELS = ("supervised", *RPT, *ADVERSARIAL, "vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
LADDERS = ("ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
VIRTUAL_ADVERSARIAL = (*RPT, "vat", "lvac", "lvac-lw", "lvan", "lvan-lw")
WITH_COST = (*RPT, "vat", "lvac", "lvac-lw")  # a virtual adversarial one
WITH_ALPHA = (*WITH_COST, *ADVERSARIAL)
LAYER_WISE = ("lvac-lw", "lvan-lw")
# What a name says of a model, as fields of ModelConfig: where they differ, the name is wrong.
FIXED: dict[str, dict[str, Any]] = {
    "supervised": {"statistics": "labelled"},  # it sees no unlabelled images, nor does adversarial training
    "rpt": {"power_iterations": 0},  # VAT paper eq. 16: R(0)
    "rpt-9": {"power_iterations": 0, "perturbations": 9},  # VAT paper, section 4.5
    "adversarial-linf": {"norm": "Linf", "statistics": "labelled"},  # VAT paper eq. 4
    "adversarial-l2": {"norm": "L2", "statistics": "labelled"},  # VAT paper eq. 3
}
OF_COST = ("perturbations", "sign", "scored_noise")  # fields that say how a virtual adversarial cost is made
NOT_OF_LADDERS = ("normalised_logits", "noise_on", "hidden_scale")  # their decoder is for the encoder without
MEANT_FOR: dict[str, tuple[str, ...]] = {  # fields that at any value but their default are of some models alone
    "decoder": LADDERS,
    "perturbed_on": ("lvac-lw",),
    "perturbed_statistics": tuple(name for name in LADDERS if name in VIRTUAL_ADVERSARIAL),
    **dict.fromkeys(OF_COST, WITH_COST),
    **dict.fromkeys(NOT_OF_LADDERS, tuple(name for name in MODELS if name not in LADDERS)),
}
# Fields that came later, and what was done before: at these values hashes are what they were without them.
LATER: dict[str, Any] = {
    "alpha": 1.0,
    "leaky_slope": 0.1,
    "normalised_logits": True,
    "noise_on": "normalised",
    "hidden_scale": False,
    "decoder": "rasmus",
    "perturbed_on": "normalised",
    "perturbed_statistics": "batch",
    "perturbations": 1,
    "sign": "drawn",
    "scored_noise": "shared",
    "epoch_updates": None,
    "decay": "linear",
    "validation": 0,
    "deviation_every": None,
    "train_images": 0,
    "points_at": (),
    "virtual": (),  # of a suite's attacks
    "virtual_images": 1000,
    "other_statistics": False,
    "virtual_drawn": 0,
}


@dataclass(frozen=True, config=STRICT)
class Hyperparameters:
    """What a model is tuned by, per layer 0, 1, ...: the last value given holds for all layers above."""

    denoising_weights: Layered = ()  # lambda(l) of the ladder's cost
    eps: Layered = ()  # radius of the perturbation; one value: the input alone is perturbed
    alpha: Real = Field(default=1.0, ge=0)  # weight of the (virtual) adversarial cost: VAT paper eq. 8


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """One model, complete; docs/choices.md gives the sources of the defaults."""

    name: str
    widths: Annotated[tuple[Width, ...], Field(max_length=64)]  # units of layers 0 (input) .. L (classes)
    hyperparameters: Hyperparameters = Hyperparameters()
    corruption_sd: Real = Field(default=0.3, ge=0)  # Gaussian noise of the ladder's corrupted path, every layer
    hidden_sd: Real = Field(default=0.5, ge=0)  # Gaussian noise on hidden layers: VAT's passes, and passes that find r
    power_iterations: Count | Annotated[tuple[Count, ...], Field(max_length=64)] = (
        3  # K, for all layers or for 0, 1, ...; 0: a random perturbation
    )
    norm: Literal["L2", "Linf"] = "L2"  # what bounds the perturbation
    xi: Real | None = Field(default=None, gt=0)  # None: exact Hessian products; else finite differences, fresh noise
    perturbed: Literal["unlabelled", "labelled", "all"] = "unlabelled"  # which examples of a batch
    perturbations: int = Field(default=1, gt=0, le=1000)  # directions drawn for each example, their costs averaged
    sign: Literal["drawn", "larger"] = "drawn"  # of a cost's r: the start's, or each example's larger cost of r and -r
    scored_noise: Literal["shared", "fresh"] = "shared"  # of a cost's perturbed pass: the unperturbed one's, or its own
    leaky_slope: float = Field(default=0.1, ge=0, lt=1)  # of the activation below zero; 0: ReLU (VAT paper, section 4)
    normalised_logits: bool = True  # batch normalisation of the last layer too; not with a ladder's decoder
    noise_on: Literal["normalised", "activation"] = "normalised"  # what hidden noise is added to; a ladder's: the first
    decoder: Literal["rasmus", "released"] = "rasmus"  # a ladder's: of Rasmus et al. (2015), or of the released runs
    perturbed_on: Literal["normalised", "activation"] = "normalised"  # of lvac-lw's hidden layers: z~(l), or h(l)
    perturbed_statistics: Literal["batch", "split"] = "batch"  # around r; split: its first and its rest apart
    hidden_scale: bool = False  # a scale at every layer, not the logits alone; not with a ladder's decoder
    statistics: Averaged = "unlabelled"  # what test-time averages are taken over

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
        needed = (("denoising_weights", LADDERS), ("eps", (*VIRTUAL_ADVERSARIAL, *ADVERSARIAL)))
        for field, models in needed:
            count = len(getattr(given, field))
            if (count > 0) != (self.name in models):
                word = "are needed" if count == 0 else "have no meaning"
                raise BadInput(f"hyperparameters.{field} {word} for model {self.name!r}")
        if self.power_iterations == ():
            raise BadInput("power_iterations: expected a number, or one for each layer")
        by_layer = () if isinstance(self.power_iterations, int) else self.power_iterations
        for field, values, layers in (
            ("hyperparameters.denoising_weights", given.denoising_weights, len(self.widths)),
            ("hyperparameters.eps", given.eps, len(self.widths) - 1),
            ("power_iterations", by_layer, len(self.widths) - 1),
        ):
            if len(values) > layers:
                raise BadInput(f"{field}: expected at most {layers} values, one a layer, got {len(values)}")
        if min(given.denoising_weights + given.eps, default=0) < 0:
            raise BadInput(f"hyperparameters of {self.name!r}: expected values >= 0")
        if given.eps and (len(given.eps) > 1) != (self.name in LAYER_WISE):
            raise BadInput(
                f"hyperparameters.eps of {self.name!r}: expected "
                + ("a value for each of two or more layers" if self.name in LAYER_WISE else "one value")
            )
        if given.alpha != 1 and self.name not in WITH_ALPHA:
            raise BadInput(f"hyperparameters.alpha has no meaning for model {self.name!r}")
        for field, whose in MEANT_FOR.items():
            if self.name not in whose and (value := getattr(self, field)) != LATER[field]:
                raise BadInput(f"{field} = {json.dumps(value)} has no meaning for model {self.name!r}")
        if self.perturbed_statistics == "split" and self.perturbed == "labelled":
            raise BadInput('perturbed_statistics = "split" has no meaning where perturbed = "labelled"')
        for field, value in FIXED.get(self.name, {}).items():
            if getattr(self, field) != value:
                raise BadInput(f"{field} of {self.name!r}: expected {value!r}, got {getattr(self, field)!r}")
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
        return dict(enumerate(spread(radii, len(self.widths) - 1) if self.name in LAYER_WISE else radii))


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How one model at one label count is trained and measured."""

    dataset: str
    labels: Amount
    labelled_batch: Amount
    unlabelled_batch: Amount
    epochs: Amount
    decay_from: Natural  # epoch from which the learning rate falls
    learning_rate: Real = Field(default=0.002, gt=0)  # of Adam
    decay: Literal["linear", "exponential"] = "linear"  # to 0 after the last epoch; by 0.9 an epoch (VAT paper, App. A)
    epoch_updates: Amount | None = None  # updates in an epoch; None: one pass over unlabelled images
    validation: Natural = 0  # training images held out (VAT paper, App. C): `zoo.data.held_out`
    precision: Precision = "float32"  # of the matrix products in a training step
    evaluate_every: Amount = 1  # epochs between measurements of the test error
    smoothness_every: Amount = 1  # epochs between measurements of the virtual adversarial cost
    smoothness_eps: Real = Field(default=5.0, gt=0)  # its radius (L2): VAL paper, Figure 3
    smoothness_iterations: Count = 1  # its power iterations, whatever the model was trained with
    smoothness_images: Amount = 1000  # the first so many test images
    deviation_every: Amount | None = None  # epochs between measurements of VAT paper eq. 21
    train_images: Natural = 0  # the first so many training images are measured as the test's are
    points_at: Counts = ()  # epochs at which every training point's output is recorded: VAT paper, Figure 1

    @model_validator(mode="after")
    def consistent(self) -> "TrainingConfig":
        """Refuse what cannot be trained."""
        if self.labelled_batch > self.labels:
            raise BadInput(f"labelled_batch = {self.labelled_batch} exceeds labels = {self.labels}")
        if self.points_at and INPUTS.get(self.dataset) != 2:
            raise BadInput(f"points_at: only points of two inputs can be shown, not those of {self.dataset!r}")
        if self.decay_from > self.epochs:
            raise BadInput(f"decay_from = {self.decay_from} exceeds epochs = {self.epochs}")
        return self

    def rate(self, epoch: int) -> float:
        """The learning rate of epoch 0, 1, ...: constant before `decay_from`."""
        if epoch < self.decay_from:
            return self.learning_rate
        if self.decay == "exponential":
            return self.learning_rate * 0.9 ** (epoch - self.decay_from)
        return self.learning_rate * (self.epochs - epoch) / (self.epochs - self.decay_from)

    def updates(self, images: int) -> int:
        """How many updates an epoch takes, of so many training images."""
        return self.epoch_updates or (images - self.validation) // self.unlabelled_batch


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


def canonical(config: Any) -> dict[str, Any]:
    """A configuration as it is hashed."""
    return asdict(config, dict_factory=without_later)


def without_later(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dataclass's fields, but for those that came later and say what was done before."""
    return {name: value for name, value in fields if name not in LATER or value != LATER[name]}


def fingerprint(*configs: Any) -> str:
    """SHA-256 (16 hex digits) of configurations' canonical JSON."""
    return hashed([canonical(config) for config in configs])


def hashed(values: Any) -> str:
    """SHA-256 (16 hex digits) of JSON values in canonical order."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(stored: Mapping[str, Any], config: Any) -> str | None:
    """The first field in which a configuration differs from one stored earlier: "epochs was 10 and is 40".

    A field that was not stored came later: its default stands for what was done before. Raises ValueError where
    `stored` is no configuration.
    """
    if stored == (now := plain(config)):
        return None
    was = plain(TypeAdapter(type(config)).validate_python(stored))
    return next((f"{name} was {was[name]!r} and is {now[name]!r}" for name in now if was[name] != now[name]), None)
