"""Encoder and decoder, written once over (..., examples, units): a leading axis, where there is one, is the seed.

Weights have shape (..., fan_in, fan_out), statistics run over axis -2, `@` broadcasts over the rest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.perturbation import Linearised
from zoo.products import Multiplying

BATCH_NORM_EPSILON = 1e-10
LEAKY_SLOPE = 0.1
Statistics = tuple[Tensor, Tensor]
"""Mean and biased variance of a layer's projections, each (..., 1, units)."""


@dataclass(frozen=True)
class Pass:
    """One way through the encoder: what every layer held, and the logits (..., examples, classes)."""

    z: list[Tensor]  # z~(l) for l = start..L, (..., examples, units): normalised, noise added, before the shift
    statistics: list[Statistics]  # of the projections of layers start+1..L
    logits: Tensor


def normalise(projection: Tensor, statistics: Statistics) -> Tensor:
    """Batch normalisation without scale or shift."""
    mean, variance = statistics
    return (projection - mean) * torch.rsqrt(variance + BATCH_NORM_EPSILON)


def batch_statistics(projection: Tensor) -> Statistics:
    """Mean and biased variance over the examples of the batch."""
    mean = projection.mean(-2, keepdim=True)
    return mean, (projection - mean).square().mean(-2, keepdim=True)  # torch.var_mean is ten times slower on a CPU


def gaussian_weight(generators: Sequence[torch.Generator] | None, fan_in: int, fan_out: int) -> nn.Parameter:
    """N(0, 1/fan_in) for each seed's generator: (seeds, fan_in, fan_out), or (fan_in, fan_out) of zeros for None."""
    if generators is None:
        return nn.Parameter(torch.zeros(fan_in, fan_out))
    draws = [torch.randn(fan_in, fan_out, generator=generator) for generator in generators]
    return nn.Parameter(torch.stack(draws) / math.sqrt(fan_in))


class Encoder(Multiplying):
    """Fully connected encoder of the VAL paper, section 4: layers 1..L, layer 0 is the input.

    z(l) = normalised h(l-1) W(l); z~(l) = z(l) + noise; h(l) = leaky ReLU(z~(l) + shift(l)); logits = scale (z~(L) +
    shift(L)). Only the logits have a scale: below a leaky ReLU followed by batch normalisation it would be redundant.
    """

    tracked: Tensor  # how many batches the running statistics have seen, (seeds,) or ()

    def __init__(self, widths: Sequence[int], generators: Sequence[torch.Generator] | None = None) -> None:
        super().__init__()
        lead = () if generators is None else (len(generators),)
        self.widths = tuple(widths)
        pairs = list(pairwise(widths))
        self.weight = nn.ParameterList([gaussian_weight(generators, *pair) for pair in pairs])
        self.shift = nn.ParameterList([torch.zeros(*lead, 1, width) for width in widths[1:]])
        self.scale = nn.Parameter(torch.ones(*lead, 1, widths[-1]))
        for layer, width in enumerate(widths[1:], start=1):
            self.register_buffer(f"mean_{layer}", torch.zeros(*lead, 1, width))
            self.register_buffer(f"variance_{layer}", torch.ones(*lead, 1, width))
        self.register_buffer("tracked", torch.zeros(lead, dtype=torch.float64))

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.widths) - 1

    def running_statistics(self) -> list[Statistics]:
        """The moving averages of layers 1..L: what a classifier uses at test time."""
        layers = range(1, self.depth + 1)
        return [(getattr(self, f"mean_{layer}"), getattr(self, f"variance_{layer}")) for layer in layers]

    @torch.no_grad()
    def track(self, statistics: Sequence[Statistics], decay: float = 0.99) -> None:
        """Move the running averages towards a batch's statistics: exponential average, free of its start value."""
        self.tracked += 1
        weight = ((1 - decay) / (1 - decay**self.tracked)).to(self.scale.dtype)[..., None, None]
        for running, batch in zip(self.running_statistics(), statistics, strict=True):
            for average, value in zip(running, batch, strict=True):
                average.lerp_(value, weight)

    def forward(
        self,
        z: Tensor,
        *,
        start: int = 0,
        noise: Sequence[Tensor | None] | None = None,
        statistics: Sequence[Statistics] | None = None,
        perturb: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Pass:
        """From z~(start), (..., examples, units), to the logits.

        `noise[l]` is added to z(l) for l > start. `statistics` of layers start+1..L, else the batch's own.
        `perturb(l, z~(l))` replaces z~(l), the start included.
        """
        z = z if perturb is None else perturb(start, z)
        zs, used = [z], []
        for layer in range(start + 1, self.depth + 1):
            h = z if layer == 1 else F.leaky_relu(z + self.shift[layer - 2], LEAKY_SLOPE)
            projection = self.product(h, self.weight[layer - 1])
            if statistics is not None:
                mean, variance = statistics[layer - start - 1]
            else:
                mean, variance = batch_statistics(projection)
            z = normalise(projection, (mean, variance))
            if noise is not None and (extra := noise[layer]) is not None:
                z = z + extra
            z = z if perturb is None else perturb(layer, z)
            zs.append(z)
            used.append((mean, variance))
        return Pass(zs, used, self.scale * (z + self.shift[-1]))

    @torch.no_grad()
    def linearise(self, z: Tensor, *, start: int = 0, **options: Any) -> Linearised:
        """The encoder from z~(start) on as it is at z, its batch statistics held fixed; `options` as in `forward`.

        J is a product of the weights with element-wise gains between them: leaky slopes and 1 / sd.
        """
        path: Pass = self(z, start=start, **options)
        slopes = [
            (z + self.shift[layer - 1] > 0).to(z.dtype) * (1 - LEAKY_SLOPE) + LEAKY_SLOPE if layer else torch.ones(())
            for layer, z in enumerate(path.z[:-1], start)
        ]
        inverse_sds = [torch.rsqrt(variance + BATCH_NORM_EPSILON) for _, variance in path.statistics]
        gains = [b * a for b, a in zip([*slopes, self.scale], [torch.ones(()), *inverse_sds], strict=True)]
        weights = list(self.weight)[start:]

        @torch.no_grad()
        def jvp(d: Tensor) -> Tensor:
            d = d if start == 0 else d * gains[0]
            for weight, gain in zip(weights, gains[1:], strict=True):
                d = self.product(d, weight) * gain
            return d

        @torch.no_grad()
        def vjp(v: Tensor) -> Tensor:
            v = v * gains[-1]
            for weight, gain in zip(reversed(weights), reversed(gains[:-1]), strict=True):
                v = self.product(v, weight.mT)
                v = v if gain.ndim == 0 else v * gain
            return v

        return Linearised(path.logits, jvp, vjp)


class Decoder(Multiplying):
    """The ladder's decoder, symmetric to the encoder, with the Gaussian combinator of Rasmus et al. (2015)."""

    def __init__(self, widths: Sequence[int], generators: Sequence[torch.Generator] | None = None) -> None:
        super().__init__()
        lead = () if generators is None else (len(generators),)
        pairs = list(pairwise(widths))
        self.weight = nn.ParameterList([gaussian_weight(generators, above, below) for below, above in pairs])
        start = torch.tensor([0.0, 1, 0, 0, 0, 0, 1, 0, 0, 0])[:, None]  # a2 = a7 = 1
        self.combinator = nn.ParameterList([start.expand(*lead, 10, width).clone() for width in widths])

    def combine(self, layer: int, z: Tensor, u: Tensor) -> Tensor:
        """g(z~, u) = (z~ - mu(u)) v(u) + mu(u): the best denoiser if z given u is Gaussian."""
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.combinator[layer].split(1, dim=-2)
        mu = a1 * torch.sigmoid(a2 * u + a3) + a4 * u + a5
        v = a6 * torch.sigmoid(a7 * u + a8) + a9 * u + a10
        z_hat: Tensor = (z - mu) * v + mu
        return z_hat

    def forward(self, corrupted: Pass) -> list[Tensor]:
        """The reconstructions z^(l), l = 0..L, (..., examples, units), from the top down."""
        u = corrupted.logits.softmax(-1)
        reconstructions: list[Tensor] = []
        for layer in reversed(range(len(self.combinator))):
            z_hat = self.combine(layer, corrupted.z[layer], normalise(u, batch_statistics(u)))
            reconstructions.insert(0, z_hat)
            if layer > 0:
                u = self.product(z_hat, self.weight[layer - 1])
        return reconstructions


def denoising_costs(reconstructions: Sequence[Tensor], clean: Pass, weights: Sequence[float]) -> list[Tensor]:
    """lambda(l) / width(l) * mean over examples of ||z^BN(l) - z(l)||^2, l = 0..L, each of shape (...).

    z^BN(l) is the reconstruction normalised by the clean path's batch statistics (Rasmus et al., Algorithm 1); the
    input has none. Gradients reach the clean path too.
    """
    costs = []
    for layer, (z_hat, z, weight) in enumerate(zip(reconstructions, clean.z, weights, strict=True)):
        if layer > 0:
            z_hat = normalise(z_hat, clean.statistics[layer - 1])
        costs.append(weight * (z_hat - z).square().mean((-2, -1)))
    return costs
