"""What must hold of a model and its inputs before an attack's number means anything."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Clip = tuple[float, float]


def check_model(model: nn.Module) -> None:
    """ValueError if any part of the model is in training mode: batches would mix, noise would be on.

    And for what is no module, or one that torch lets no gradient pass.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected model as a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if module.training:
            where = f" in its part {name!r}" if name else ""
            raise ValueError(f"expected a model in evaluation mode (model.eval()), got training mode{where}")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_inference():
            raise ValueError(f"expected a model made outside torch.inference_mode(), got its {name!r} made within")


def check_tensor(name: str, value: Any) -> None:
    """ValueError for anything else, such as a NumPy array."""
    if not isinstance(value, Tensor):
        raise ValueError(f"expected {name} as a torch.Tensor, got {type(value).__name__}")


def check_images(x: Tensor, clip: Clip | None = None, name: str = "x") -> None:
    """ValueError, of this name, unless x is (N, ...), N >= 1, finite, float32 or float64, and inside clip where given.

    Half precision is refused: a step of eps = 0.3 spread over 784 pixels is lost in its rounding.
    """
    check_tensor(name, x)
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"expected {name} of dtype float32 or float64, got {str(x.dtype).removeprefix('torch.')}")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"expected {name} of shape (N, ...) with N >= 1, got {tuple(x.shape)}")
    if bad := int((~x.isfinite()).sum()):
        raise ValueError(f"expected finite {name}, got {bad} values that are not")
    if clip is not None:
        low, high = clip
        if not low < high:
            raise ValueError(f"expected clip as (low, high) with low < high, got {clip}")
        if x.min() < low or x.max() > high:
            raise ValueError(f"expected {name} within clip {clip}, got values from {x.min():.4g} to {x.max():.4g}")


def check_labels(y: Tensor, n: int) -> None:
    """ValueError unless y holds one int64 class for each of n examples."""
    check_tensor("y", y)
    if y.shape != (n,):
        raise ValueError(f"expected y of shape ({n},), got {tuple(y.shape)}")
    if y.dtype != torch.int64:
        raise ValueError(f"expected y of dtype int64, got {str(y.dtype).removeprefix('torch.')}")


def check_logits(logits: Tensor, y: Tensor | None, n: int) -> None:
    """ValueError unless logits are (n, classes) and every label in y is one of those classes."""
    check_tensor("logits", logits)
    if logits.ndim != 2 or logits.shape[0] != n or logits.shape[1] < 2:
        raise ValueError(f"expected logits of shape ({n}, classes), got {tuple(logits.shape)}")
    if y is not None and (y.min() < 0 or y.max() >= logits.shape[1]):
        raise ValueError(f"expected labels from 0 to {logits.shape[1] - 1}, got {int(y.min())} to {int(y.max())}")


def check_answers(answers: Tensor, y: Tensor) -> None:
    """ValueError unless answers to clean images are finite logits in float32 or float64.

    A softmax too many would hide the gradient, and so would rounding to half precision.
    """
    check_logits(answers, y, len(y))
    if answers.dtype not in (torch.float32, torch.float64):
        kind = str(answers.dtype).removeprefix("torch.")
        raise ValueError(f"expected logits of dtype float32 or float64, got {kind}")
    if bad := int((~answers.isfinite().all(1)).sum()):
        raise ValueError(f"expected finite logits, got values that are not on {bad} of {len(y)} images")
    check_no_probabilities(answers)


def check_no_probabilities(answers: Tensor) -> None:
    """ValueError for answers (N, classes) that look like a softmax's, or for 100 and more like a sigmoid's."""
    if not (answers >= 0).all() or answers.max() > 1 or answers.max() <= 0:
        return
    if (answers.sum(1) - 1).abs().max() < 1e-4:
        raise ValueError(
            "expected logits, got probabilities (each row is positive and sums to 1): leave out the softmax"
        )
    if len(answers) >= 100:
        raise ValueError("expected logits, got values from 0 to 1 alone, as probabilities are: leave out the sigmoid")


def check_steps(count: int, name: str = "steps", least: int = 1) -> None:
    """ValueError for fewer than the least that make an attack."""
    if not isinstance(count, int) or count < least:
        raise ValueError(f"expected {name} >= {least}, got {count}")


def batches(n: int, batch_size: int) -> list[slice]:
    """Slices that cover 0..n in steps of batch_size; ValueError where that is below 1."""
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}")
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
