"""The arithmetic of a training step, in the plain form: readable, float32, its gradients PyTorch's own.

Tensors are (..., examples, units), weights (..., fan_in, fan_out), statistics (..., 1, units). `zoo.fused` computes
the same faster; a test holds the two together.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPSILON = 1e-10
Statistics = tuple[Tensor, Tensor]
"""Mean and biased variance of a layer's projections, each (..., 1, units)."""


def standardise(projection: Tensor, statistics: Statistics) -> Tensor:
    """Batch normalisation without scale or shift."""
    mean, variance = statistics
    return (projection - mean) * torch.rsqrt(variance + BATCH_NORM_EPSILON)


def batch_statistics(projection: Tensor) -> Statistics:
    """Mean and biased variance over the examples of the batch."""
    mean = projection.mean(-2, keepdim=True)
    return mean, (projection - mean).square().mean(-2, keepdim=True)  # torch.var_mean is ten times slower on a CPU


def through_statistics(z: Tensor, rsd: Tensor, g: Tensor) -> Tensor:
    """The derivative of batch normalisation at z = (projection - mean) * rsd, applied to g; it is its own transpose.

    Both statistics move with the projection: rsd * (g - mean of g - z * mean of g z).
    """
    return rsd * (g - g.mean(-2, keepdim=True) - z * (g * z).mean(-2, keepdim=True))


def combine(z: Tensor, u: Tensor, coefficients: Tensor) -> Tensor:
    """g(z~, u) = (z~ - mu(u)) v(u) + mu(u): the best denoiser if z given u is Gaussian.

    `coefficients`: (..., 10, units), a1 to a10 of Rasmus et al. (2015).
    """
    a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = torch.split(coefficients, 1, dim=-2)
    mu = a1 * torch.sigmoid(a2 * u + a3) + a4 * u + a5
    v = a6 * torch.sigmoid(a7 * u + a8) + a9 * u + a10
    z_hat: Tensor = (z - mu) * v + mu
    return z_hat


class Plain:
    """Each operation as the papers write it."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x @ weight."""
        return x @ weight

    def activate(self, z: Tensor, shift: Tensor, slope: float) -> Tensor:
        """leaky ReLU(z + shift), with its slope below zero."""
        return F.leaky_relu(z + shift, slope)

    def project(
        self, z: Tensor, shift: Tensor, weight: Tensor, slope: float, noise: Tensor | None = None, sd: float = 0.0
    ) -> Tensor:
        """(leaky ReLU(z + shift) + sd * noise) @ weight, with its slope below zero."""
        h = self.activate(z, shift, slope)
        return (h if noise is None else torch.add(h, noise, alpha=sd)) @ weight

    def normalise(self, projection: Tensor, noise: Tensor | None, sd: float) -> tuple[Tensor, Statistics]:
        """The projection by the statistics of its batch, plus sd * noise; and the statistics."""
        statistics = batch_statistics(projection)
        z = standardise(projection, statistics)
        return z if noise is None else torch.add(z, noise, alpha=sd), statistics

    def denoise(self, z: Tensor, u: Tensor, coefficients: Tensor) -> Tensor:
        """z^ from z~ and the signal from above, which is normalised first."""
        return combine(z, standardise(u, batch_statistics(u)), coefficients)

    def distance(self, z_hat: Tensor, z: Tensor, statistics: Statistics) -> Tensor:
        """Mean square of (z^ normalised by the statistics) - z over examples and units, (...)."""
        return (standardise(z_hat, statistics) - z).square().mean((-2, -1))


PLAIN = Plain()


class Calculating(nn.Module):
    """A module that calculates with the arithmetic it is told, the plain one unless within `calculating`."""

    arithmetic: Plain = PLAIN


@contextmanager
def calculating(model: nn.Module, arithmetic: Plain) -> Iterator[None]:
    """Within, the model's parts use this arithmetic: for training steps; whatever is measured is plain."""
    parts = [part for part in model.modules() if isinstance(part, Calculating)]
    try:
        for part in parts:
            part.arithmetic = arithmetic
        yield
    finally:
        for part in parts:
            part.arithmetic = PLAIN
