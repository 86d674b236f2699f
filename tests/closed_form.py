"""Models on which an attack's optimum is known in closed form, and what to hold it against."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

DUAL = {1: math.inf, 2: 2, math.inf: 1}
every_norm = pytest.mark.parametrize("norm", DUAL)


class Linear(nn.Module):
    """Two classes, logits (w (x - 1/2) + b, 0) times a scale: a step of length eps moves the margin by eps ‖w‖dual."""

    def __init__(self, pixels: int, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(pixels)
        self.weight = nn.Parameter(scale * torch.randn(pixels, generator=generator))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        margin = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([margin, torch.zeros_like(margin)], 1)


class Constant(nn.Module):
    """Class 1 everywhere, its gradient zero: nothing can be found."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0 * x.flatten(1).sum(1), torch.ones(len(x))], 1)


class Weighted(nn.Module):
    """Several classes, logits (x - 1/2) W."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) @ self.weight


class Sphere(nn.Module):
    """Class 1 beyond the distance 1 from grey."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        beyond = (x - 0.5).square().sum(1) - 1
        return torch.stack([-beyond, beyond], 1)


class Blind(nn.Module):
    """Class 0 with a slope towards brighter images, where they are in [0, 1]; outside, no answer."""

    def forward(self, x: Tensor) -> Tensor:
        slope = 0.1 * x.mean(1)
        outside = (x.amax(1) > 1) | (x.amin(1) < 0)
        return torch.stack([2 - slope, slope.masked_fill(outside, math.nan)], 1)


class Walled(nn.Module):
    """Class 1 where the first pixel is above 1; flat everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        beyond = (x[:, 0] > 1).float() + 0 * x.sum(1)
        return torch.stack([1 - 2 * beyond, 2 * beyond - 1], 1)


class Fickle(nn.Module):
    """Class 1 for bright images, as long as it is asked the first `times`; then never again."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.asked, self.times = 0, times
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        margin = x.mean(1) - 0.5 if self.asked <= self.times else -torch.ones(len(x))
        return torch.stack([-margin, margin], 1)


def problem(pixels: int, n: int = 30, scale: float = 1.0) -> tuple[Linear, Tensor, Tensor]:
    """A model, images and the labels that it gives them."""
    model, x = Linear(pixels, scale), torch.rand(n, pixels, generator=torch.Generator().manual_seed(n))
    return model, x, model(x).argmax(1)


def dual_norm(model: Linear, norm: float) -> float:
    return float(np.linalg.norm(model.weight.detach().numpy().astype(np.float64), DUAL[norm]))


def margins(model: Linear, x: Tensor) -> np.ndarray:
    weight = model.weight.detach().numpy().astype(np.float64)
    return np.abs((x.flatten(1).numpy().astype(np.float64) - 0.5) @ weight)


def lengths(delta: Tensor, norm: float) -> np.ndarray:
    return np.array([np.linalg.norm(row.numpy().astype(np.float64).ravel(), norm) for row in delta])
