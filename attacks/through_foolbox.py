"""Foolbox's attacks, a model and its images as they take them, and nothing left behind."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attacks.checks import Clip, check_images, check_labels, check_logits, check_model

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # Foolbox's zoo wants git, which nobody here does
with warnings.catch_warnings():  # Foolbox imports a name that SciPy has moved
    warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
    from foolbox import PyTorchModel
    from foolbox import attacks as foolbox
    from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball

__all__ = ["beside", "checked", "differentiable", "foolbox", "project_onto_l1_ball", "randomness"]

WIDE = (-1e4, 1e4)  # bounds that clip nothing: Foolbox knows no "none"


def checked(model: nn.Module, x: Tensor, y: Tensor, clip: Clip | None, eps: float = 0) -> tuple[Any, Tensor, Tensor]:
    """The model as Foolbox wants it, and x and y as gradients may pass them, y beside x.

    ValueError for a wrong model, image, label or clip, and where x moved by eps could leave Foolbox's bounds.
    """
    check_model(model)
    check_images(x, clip)
    if clip is None and (reach := x.abs().max().item() + eps if x.numel() else 0) > WIDE[1]:
        raise ValueError(
            f"expected |x| + eps of at most {WIDE[1]:g}, Foolbox's bounds where nothing is clipped, got {reach:g}"
        )
    check_labels(y, len(x))
    with torch.inference_mode(False), torch.no_grad(), randomness(0, x.device):
        x, y = x.detach().clone(), y.to(x.device).clone()
        check_logits(model(x[:1]), y, 1)
    return PyTorchModel(model, bounds=clip or WIDE, device=x.device), x, y


def beside(values: Tensor, x: Any) -> Tensor:
    """One value an example, (N,), in as many axes as x (N, ...) has."""
    return values.view(-1, *[1] * (x.ndim - 1))


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Within, gradients are on, whatever the caller has switched off, and none is left in the model's parameters."""
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in own:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in own:
            parameter.requires_grad_(True)


@contextmanager
def randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Within, PyTorch's global stream, which Foolbox draws from, is that of a seed; after, it is as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
