"""How noisy the gradient of the regulariser is: normalised SD norm, VAT paper eq. 21 and Figure 7a."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zoo.classifier import Batch, Noise
from zoo.smoothed import VAT

DRAWS = 50  # mini-batches with their perturbations a measurement; the paper names no number
COMPARED = (0, 1)  # K: of RPT and of VAT


def normalised_deviation(gradients: Iterable[Tensor]) -> Tensor:
    """Root of the trace of the variance (ddof 1) over the L2 norm of the mean, of draws (..., parameters) -> (...).

    Sums are float64 and no draw is kept. With few draws the norm of the mean is too large, by its own error.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for gradient in gradients:
        count, gradient = count + 1, gradient.double()
        total, squares = total + gradient, squares + gradient.square().sum(-1)
    mean = total / count
    trace = (squares - count * mean.square().sum(-1)) / (count - 1)
    ratio: Tensor = trace.clamp_min(0).sqrt() / torch.linalg.vector_norm(mean, dim=-1)
    return ratio


def deviations(model: VAT, draw: Callable[[], tuple[Batch, Noise]], draws: int = DRAWS) -> dict[int, Tensor]:
    """K -> (seeds,): eq. 21 of this model as it stands, each K on batches of its own from `draw`."""
    found = {}
    for iterations in COMPARED:
        other = copy.copy(model)  # the same parameters under another K
        other.config = replace(model.config, name="vat", power_iterations=iterations, perturbations=1)
        parameters = list(other.encoder.parameters())
        found[iterations] = normalised_deviation(flat(other, parameters, *draw()) for _ in range(draws))
    return found


def flat(model: VAT, parameters: Sequence[Tensor], batch: Batch, noise: Noise) -> Tensor:
    """The gradient of the regulariser alone by all weights, (seeds, parameters)."""
    gradients = torch.autograd.grad(model.regulariser(batch, noise).sum(), parameters, allow_unused=True)
    return torch.cat([g.flatten(1) for g in gradients if g is not None], -1)
