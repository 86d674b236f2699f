"""What every model is: a classifier that is trained on batches with noise from outside, and the supervised baseline.

`forward(x)` gives logits of the clean path at test-time statistics. `losses(batch, noise)` gives named terms, each a
mean over examples with the shape of the seed axis; their sum is the objective. Noise is standard Gaussian and comes
from outside, under the names and shapes of `noise_shapes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import ModelConfig
from zoo.layers import Encoder, LayerNoise, Pass
from zoo.perturbation import curvature, divergences, power_iteration, unit
from zoo.randomness import Shapes, stream

Noise = Mapping[str, Tensor]
Sizes = Mapping[str, int]  # examples a group, of the groups "labelled" and "unlabelled" (they are normalised apart)


@dataclass(frozen=True)
class Batch:
    """What one step sees: labelled (..., n, inputs), labels (..., n), unlabelled (..., m, inputs)."""

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor

    def __getitem__(self, group: str) -> Tensor:
        return self.labelled if group == "labelled" else self.unlabelled


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over examples of -log p(label): logits (..., n, classes), labels (..., n) -> (...)."""
    return -F.log_softmax(logits, -1).gather(-1, labels[..., None]).squeeze(-1).mean(-1)


class Classifier(nn.Module):
    """The supervised baseline: cross-entropy of a noisy pass; and what all models share."""

    card: dict[str, Any]  # of a loaded checkpoint: configuration, data, versions, errors

    def __init__(self, config: ModelConfig, seeds: Sequence[int] | None = None) -> None:
        """With `seeds`, parameters have a leading axis, each seed's drawn from it; without, zeros to load into."""
        super().__init__()
        self.config = config
        generators = None if seeds is None else [stream(seed, "initialisation") for seed in seeds]
        options = (config.leaky_slope, config.normalised_logits, config.noise_on, config.hidden_scale)
        self.encoder = Encoder(config.widths, generators, *options)
        self.build(generators)

    def build(self, generators: Sequence[torch.Generator] | None) -> None:
        """Whatever a model has beside the encoder."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) or images (N, 1, rows, columns) in [0, 1] -> logits (N, classes), or (seeds, N, classes)."""
        inputs = self.config.widths[0]
        flat = x if x.shape[-1] == inputs else x.flatten(1)
        if flat.shape[-1] != inputs:
            raise ValueError(f"expected (N, {inputs}) inputs or images of {inputs} pixels, got {tuple(x.shape)}")
        return self.at_test(flat)

    def at_test(self, x: Tensor) -> Tensor:
        """Logits of the clean path with running statistics, (..., N, inputs) -> (..., N, classes)."""
        return self.encode(x, statistics=self.encoder.running_statistics()).logits

    def encode(self, z: Tensor, **options: object) -> Pass:
        """`Encoder.forward`, typed."""
        result: Pass = self.encoder(z, **options)
        return result

    @torch.no_grad()
    def virtual_adversarial(self, x: Tensor, direction: Tensor, iterations: int, in_batch: bool = False) -> Tensor:
        """r_vadv / eps at test time, (..., N, inputs), from a random direction: VAT paper eq. 11 and 14.

        `in_batch`: as in training, normalised by the statistics of x itself, which move with it; without noise.
        """
        rest = self.encoder.linearise(x, statistics=None if in_batch else self.encoder.running_statistics())
        return unit(power_iteration(curvature(rest), direction, iterations))

    @torch.no_grad()
    def costs(self, x: Tensor, direction: Tensor, eps: float, iterations: int, in_batch: bool = False) -> Tensor:
        """LDS at test time of each x (..., N, inputs), shape (..., N): VAT paper eq. 5, smaller is smoother.

        `in_batch`: as in training, x and x + r each normalised by its own statistics; without noise.
        """
        moved = x + eps * self.virtual_adversarial(x, direction, iterations, in_batch)
        answer = self.in_batch if in_batch else self.at_test
        return divergences(answer(x), answer(moved))

    def in_batch(self, x: Tensor) -> Tensor:
        """Logits of the clean path by the statistics of x itself, (..., N, inputs) -> (..., N, classes)."""
        return self.encode(x).logits

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """Name -> (examples, units) of the Gaussian noise that one step uses."""
        return self.hidden_shapes("labelled", sizes["labelled"])

    def hidden_shapes(self, prefix: str, examples: int) -> Shapes:
        """Shapes of noise on hidden layers 1..L-1."""
        widths = self.config.widths
        return {f"{prefix}/hidden/{layer}": (examples, widths[layer]) for layer in range(1, len(widths) - 1)}

    def hidden_noise(self, noise: Noise, prefix: str) -> LayerNoise:
        """The noise of a pass that has it on hidden layers alone."""
        hidden = range(1, len(self.config.widths) - 1)
        return LayerNoise(self.config.hidden_sd, [None, *[noise[f"{prefix}/hidden/{layer}"] for layer in hidden], None])

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Cross-entropy of the noisy pass on labelled examples."""
        noisy = self.labelled_pass(batch.labelled, noise)
        self.track(batch, noisy)
        return {"cross_entropy": cross_entropy(noisy.logits, batch.labels)}

    def labelled_pass(self, x: Tensor, noise: Noise) -> Pass:
        """Training's pass of labelled examples, noise included: its logits are what the cross-entropy is of."""
        return self.encode(x, noise=self.hidden_noise(noise, "labelled"))

    @torch.no_grad()
    def track(self, batch: Batch, noisy: Pass, clean: Pass | None = None) -> None:
        """Update the running means and variances, (..., 1, units) a layer, by the batch's.

        `noisy` is training's pass of the labelled, `clean` that of the unlabelled: without one, where their statistics
        are tracked, it is made here.
        """
        match self.config.statistics:
            case "corrupted":
                used = noisy
            case "labelled":
                used = self.encode(batch.labelled)
            case "unlabelled":
                used = clean or self.encode(batch.unlabelled)
        self.encoder.track(used.statistics)
