"""The training loop: all seeds of a cell at once, written once for every model."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from zoo.arithmetic import PLAIN, calculating
from zoo.captured import CapturedStep
from zoo.checkpoints import write_tensors
from zoo.classifier import Batch, Classifier, Noise
from zoo.compiler import compiler_fault
from zoo.config import ModelConfig, TrainingConfig, plain
from zoo.data import Dataset, divided
from zoo.denormals import flushing, kept
from zoo.deviation import deviations
from zoo.errors import BadInput, unknown
from zoo.fused import Fused, matrix_precision
from zoo.models import create
from zoo.randomness import amount, draw, fill, permutations, stream, views
from zoo.smoothed import VAT
from zoo.state import Progress, read_state

Row = tuple[int, int, str, float]
"""seed, epoch (epochs done), measure, value."""
Engine = Literal["reference", "eager", "compiled"]
"""How a step is computed: reference, by the formulas as written; eager, by `zoo.fused`, on a GPU captured once and
replayed; compiled, the same with its element-wise chains compiled to one loop each."""
WORTH_COMPILING = 5000  # steps: compiling takes a minute, and saves some 20 ms a step on two cores


@dataclass
class Training:
    """Everything that changes while the seeds of a cell train: model, optimiser, epochs done, history."""

    config: TrainingConfig
    model: Classifier
    seeds: Sequence[int]
    data: Dataset
    engine: Engine = "eager"
    epoch: int = 0
    history: list[Row] = field(default_factory=list)
    seconds: float = 0.0  # spent in epochs and their evaluation, over all sittings
    sittings: list[dict[str, Any]] = field(default_factory=list)  # who trained from which epoch on; kept, not read

    def __post_init__(self) -> None:
        self.check()
        self.device = self.data.images.device
        self.model.to(self.device)
        on_gpu = self.device.type == "cuda"  # there the rate is a tensor, so that a captured step can be told another
        rate = torch.tensor(self.config.learning_rate, device=self.device) if on_gpu else self.config.learning_rate
        self.optimizer = torch.optim.Adam(self.model.parameters(), rate, fused=True, capturable=on_gpu)
        # Indices of images: `pool` is what is trained on, `subsets` (seeds, labels) what has labels.
        parts = divided(self.data, self.config.labels, self.config.validation, self.seeds)
        self.pool, self.subsets, self.validation = (indices.to(self.device) for indices in parts)
        self.sizes = {"labelled": self.config.labelled_batch, "unlabelled": self.config.unlabelled_batch}
        self.steps = self.config.updates(len(self.data.images))
        # What a step reads, refilled in place: indices of images, (seeds, batch), and noise by name.
        self.chosen = {name: self.subsets.new_zeros(len(self.seeds), size) for name, size in self.sizes.items()}
        self.shapes = self.model.noise_shapes(self.sizes)
        self.flat_noise = torch.empty(len(self.seeds), amount(self.shapes), device=self.device)
        self.noise = views(self.flat_noise, self.shapes)
        self.arithmetic = PLAIN if self.engine == "reference" else Fused(self.config.precision)
        self.losses = self.model.losses
        if self.engine == "compiled":
            torch.compiler.reset()  # a method is compiled for few objects, then silently no more: forget earlier models
            self.losses = torch.compile(self.losses)
        self.terms: list[str] = []
        self.captured: CapturedStep | None = None

    def check(self) -> None:
        """Raises BadInput for what does not fit together or is not there."""
        config, data, widths = self.config, self.data, self.model.config.widths
        if self.engine not in get_args(Engine):
            raise unknown("engine", self.engine, get_args(Engine))
        if self.engine == "reference" and config.precision != "float32":
            raise BadInput(f"precision = {config.precision!r}: the reference engine knows float32 alone")
        if config.dataset != data.name:
            raise BadInput(f"dataset = {config.dataset!r}: the data given are {data.name!r}")
        if (widths[0], widths[-1]) != (data.images.shape[-1], data.classes):
            inputs, classes = data.images.shape[-1], data.classes
            raise BadInput(f"widths: expected {inputs} inputs and {classes} classes, got {list(widths)}")
        if config.unlabelled_batch > (few := len(data.images) - config.validation):
            raise BadInput(f"unlabelled_batch = {config.unlabelled_batch} exceeds the {few} images to train on")

    def run_epoch(self) -> None:
        """An epoch's updates: each step is a pure function of state, batch and noise."""
        self.set_rate(self.config.rate(self.epoch))
        labelled = self.order("labelled", self.config.labels)
        unlabelled = self.pool[self.order("unlabelled", len(self.pool))]
        generators = [stream(seed, "noise", self.epoch, self.device) for seed in self.seeds]
        total = torch.zeros((), device=self.device)
        for step in range(self.steps):
            torch.gather(self.subsets, 1, labelled[:, step], out=self.chosen["labelled"])
            self.chosen["unlabelled"].copy_(unlabelled[:, step])
            fill(self.flat_noise, generators)
            if self.captured is None and self.engine != "reference" and self.device.type == "cuda":
                self.captured = CapturedStep(self.compute, self.tensors)
            total = total + (self.captured or self.compute)()
        self.epoch += 1
        self.record({f"loss/{name}": mean for name, mean in zip(self.terms, total / self.steps, strict=True)})

    def compute(self) -> Tensor:
        """One step on what `chosen` and `noise` hold; the values of its terms, (terms, seeds)."""
        terms = self.step(self.batch(self.chosen), self.noise)
        self.terms = list(terms)
        return torch.stack(list(terms.values())).detach()

    def batch(self, chosen: Mapping[str, Tensor]) -> Batch:
        """Of indices of images, (seeds, batch) each."""
        images, labelled = self.data.images, chosen["labelled"]
        return Batch(images[labelled], self.data.labels[labelled], images[chosen["unlabelled"]])

    def step(self, batch: Batch, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One update of every seed; the objective is a mean within a seed and a sum over seeds."""
        with calculating(self.model, self.arithmetic), matrix_precision(self.config.precision):
            terms = self.losses(batch, noise)
            self.optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return terms

    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps to come."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a step changes, by the name it is saved under."""
        found = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {f"adam/{index}/{name}": value for name, value in state.items()}
        return found

    def order(self, purpose: str, items: int) -> Tensor:
        """The epoch's batches, (seeds, steps, batch) indices below `items`."""
        size = self.sizes[purpose]
        rows = [permutations(seed, purpose, self.epoch, items, self.steps * size) for seed in self.seeds]
        return torch.stack(rows).view(-1, self.steps, size).to(self.device)

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Append one value a seed, each of shape (seeds,), to the history."""
        for name, column in values.items():
            pairs = zip(self.seeds, column.tolist(), strict=True)
            self.history += [(seed, self.epoch, name, value) for seed, value in pairs]

    def evaluate(self) -> None:
        """Measure what is due after this epoch; the last epoch is always due."""
        config, last = self.config, self.epoch == self.config.epochs
        shown = self.pool[: config.train_images]
        if last or self.epoch % config.evaluate_every == 0:
            self.record({"test_error": error_rate(self.model, self.data.test_images, self.data.test_labels)})
            for name, indices in (("validation_error", self.validation), ("train_error", shown)):
                if len(indices):
                    self.record({name: error_rate(self.model, self.data.images[indices], self.data.labels[indices])})
        if last or self.epoch % config.smoothness_every == 0:
            self.record({"smoothness": self.costs(self.data.test_images[: config.smoothness_images]).mean(-1)})
            if len(shown):
                self.record({"train_smoothness": self.costs(self.data.images[shown]).mean(-1)})
        self.record_points()
        if (every := config.deviation_every) and isinstance(self.model, VAT) and (last or self.epoch % every == 0):
            generators = [stream(seed, "deviation", self.epoch) for seed in self.seeds]
            found = deviations(self.model, partial(self.random_batch, generators))
            self.record({f"gradient_deviation/{iterations}": value for iterations, value in found.items()})

    @kept()
    def costs(self, x: Tensor) -> Tensor:
        """The virtual adversarial cost of each x (examples, inputs) as the model stands, (seeds, examples)."""
        generators = [stream(seed, "smoothness", 0, self.device) for seed in self.seeds]
        direction = draw(generators, {"direction": (len(x), x.shape[1])})["direction"]
        return self.model.costs(x, direction, self.config.smoothness_eps, self.config.smoothness_iterations)

    def record_points(self) -> None:
        """Of every training point what the VAT paper's Figure 1 shows: p(y = 1 | x) and LDS; at first the points."""
        if self.epoch not in self.config.points_at:
            return
        x = self.data.images
        p, costs = self.model(x).detach().softmax(-1)[..., 1], self.costs(x)
        for i in range(len(x)):
            self.record({f"point/{i}/p": p[:, i], f"point/{i}/cost": costs[:, i]})
            if self.epoch == min(self.config.points_at):
                self.record({f"point/{i}/input-{j}": x[i, j].expand(len(self.seeds)) for j in range(x.shape[1])})
                label = torch.where((self.subsets == i).any(-1), self.data.labels[i], -1)
                self.record({f"point/{i}/label": label})

    def random_batch(self, generators: Sequence[torch.Generator]) -> tuple[Batch, Noise]:
        """A mini-batch drawn anew from all that is trained on, and its noise."""
        chosen = {}
        for name, size in self.sizes.items():
            pools = self.subsets if name == "labelled" else self.pool.expand(len(self.seeds), -1)
            rows = [torch.randint(pools.shape[1], (size,), generator=each) for each in generators]
            chosen[name] = pools.gather(1, torch.stack(rows).to(self.device))
        noise = draw(generators, self.shapes)
        return self.batch(chosen), {name: value.to(self.device) for name, value in noise.items()}

    def save(self, path: Path) -> None:
        """Write all that a resumed training needs."""
        card = {name: getattr(self, name) for name in Progress.__annotations__}
        write_tensors(path, self.tensors(), card | {"model": plain(self.model.config), "training": plain(self.config)})

    @classmethod
    def resume(
        cls, path: Path, model: ModelConfig, config: TrainingConfig, data: Dataset, engine: Engine = "eager"
    ) -> "Training | None":
        """The training that `save` wrote; None where there is no file or it belongs to another configuration."""
        if not path.is_file() or (found := read_state(path, model, config)) is None:
            return None
        tensors, progress = found
        training = cls(config, create(model, progress["seeds"]), data=data, engine=engine, **progress)
        weights, whole = {}, training.optimizer.state_dict()
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            if part == "model":
                weights[rest] = tensor
            else:
                index, key = rest.split("/")
                whole["state"].setdefault(int(index), {})[key] = tensor
        training.model.load_state_dict(weights)
        training.optimizer.load_state_dict(whole)
        return training


def worth_compiling(config: TrainingConfig, data: Dataset) -> bool:
    """Whether compiled steps save more than compiling takes; on a GPU a captured step has little left to save."""
    return not data.images.is_cuda and config.epochs * config.updates(len(data.images)) >= WORTH_COMPILING


def fitting_engine(config: TrainingConfig, data: Dataset, tell: Callable[[str], None] = lambda reason: None) -> Engine:
    """Compiled where that pays and can be; eager elsewhere. Where it would pay, `tell` hears why it cannot be."""
    if not worth_compiling(config, data):
        return "eager"
    if fault := compiler_fault():
        tell(f"eager steps, as {fault}")
        return "eager"
    return "compiled"


@kept()
@torch.no_grad()
def error_rate(model: Classifier, images: Tensor, labels: Tensor, batch: int = 1000) -> Tensor:
    """Share of wrong predictions, (seeds,); NaN for a seed whose logits are not finite."""
    wrong = []
    for first in range(0, len(images), batch):
        logits = model(images[first : first + batch])
        share = (logits.argmax(-1) != labels[first : first + batch]).sum(-1).double() / len(labels)
        wrong.append(share.where(logits.isfinite().all(-1).all(-1), torch.nan))
    return torch.stack(wrong).sum(0)


@flushing()
def train(
    model: ModelConfig,
    config: TrainingConfig,
    seeds: Sequence[int],
    data: Dataset,
    *,
    state: Path | None = None,
    save_every_s: float = 60.0,
    sitting: Mapping[str, Any] | None = None,
    engine: Engine = "eager",
    progress: Callable[[Training], None] = lambda training: None,
) -> Training:
    """Train all seeds to the last epoch, from `state` if it holds an interrupted training of this configuration.

    The state is saved whenever `save_every_s` have passed; `progress` is called after every epoch. `sitting` is
    added to the training's list of those who trained it, with the epoch from which it did and its engine.
    """
    training = Training.resume(state, model, config, data, engine) if state else None
    if training is None or list(training.seeds) != list(seeds):
        training = Training(config, create(model, seeds), seeds, data, engine)
        training.record_points()
    training.sittings.append({"from_epoch": training.epoch, "engine": engine, **(sitting or {})})
    saved = time.monotonic()
    while training.epoch < config.epochs:
        started = time.monotonic()
        training.run_epoch()
        training.evaluate()
        training.seconds += time.monotonic() - started
        if state and training.epoch < config.epochs and time.monotonic() - saved >= save_every_s:
            training.save(state)
            saved = time.monotonic()
        progress(training)
    return training
