"""The fast gradient method (Goodfellow et al. 2015), its direction taken from CleverHans."""

import torch
from cleverhans.torch.utils import optimize_linear
from torch import Tensor, nn

from attacks.checks import Clip, batches, check_images, check_labels, check_model
from attacks.gradients import Loss, in_float64, input_gradient
from attacks.norms import L1Meaning, check_bound


def fgm(
    model: nn.Module,
    x: Tensor,
    *,
    eps: float,
    norm: float,
    l1: L1Meaning = "spread",
    y: Tensor | None = None,
    clip: Clip | None = None,
    loss: Loss = "cross-entropy",
    float64: bool = False,
    batch_size: int = 1000,
) -> Tensor:
    """x (N, ...) moved by one step of length eps that raises the loss; same shape, dtype and device.

    Defaults are the virtual adversarial ladder paper's: labels y are the model's predictions, nothing is clipped,
    the loss is the cross-entropy. `float64`: the gradient is that of a copy of the model in float64. Images without
    a direction (zero or non-finite gradient) come back unchanged. The batch size does not change the result.
    ValueError as in `input_gradient` and `step`, or where x is outside clip.
    """
    check_bound(eps, norm, l1)
    check_model(model)
    check_images(x, clip)
    x = x.detach()
    if y is not None:
        check_labels(y, len(x))
    adversarial = torch.empty_like(x)
    of, points = (in_float64(model), x.double()) if float64 else (model, x)
    for part in batches(len(x), batch_size):
        found = input_gradient(of, points[part], None if y is None else y[part], loss=loss, batch_size=batch_size)
        delta = step(found.gradient, eps=eps, norm=norm, l1=l1)
        adversarial[part] = moved(x[part], delta.to(x.dtype), clip)
    return adversarial


def step(gradient: Tensor, *, eps: float, norm: float, l1: L1Meaning = "spread") -> Tensor:
    """delta (N, ...) with ‖delta_i‖ = eps along gradient_i (N, ...); zero where gradient_i has no direction.

    Each example's gradient is divided by its largest component first: that changes no direction, and keeps
    CleverHans' floor of 1e-12 under the squared L2 norm from shortening the steps of confident examples.
    ValueError: eps negative or not finite, a norm other than 1, 2, inf, an unknown meaning of L1.
    """
    check_bound(eps, norm, l1)
    rows = gradient.flatten(1)  # (N, pixels)
    unit = rows / rows.abs().amax(1, keepdim=True)
    usable = unit.abs().amax(1) == 1  # false for 0/0 and for anything non-finite
    delta = torch.zeros_like(rows)
    if usable.any():
        delta[usable] = _direction(unit[usable], norm, l1)
    return (eps * delta).reshape(gradient.shape)


def moved(x: Tensor, delta: Tensor, clip: Clip | None) -> Tensor:
    """x + delta, clamped to clip = (low, high) where one is given."""
    return x + delta if clip is None else (x + delta).clamp(*clip)


def _direction(unit: Tensor, norm: float, l1: L1Meaning) -> Tensor:
    """(N, pixels) of norm 1, from gradients whose largest component is 1."""
    if norm != 1:
        return _cleverhans(unit, norm)
    if l1 == "spread":
        return _spread(unit)
    largest = unit.abs() == 1
    direction = _spread(unit * largest)
    # CleverHans shares eps among tied pixels too, but asserts that the rounded shares add up to exactly 1.
    # With 11 ties in float32 they do not, and a gradient near underflow is full of ties.
    alone = largest.sum(1) == 1
    if alone.any():
        direction[alone] = _cleverhans(unit[alone], norm)
    return direction


def _spread(rows: Tensor) -> Tensor:
    return rows / rows.abs().sum(1, keepdim=True)


def _cleverhans(unit: Tensor, norm: float) -> Tensor:
    direction: Tensor = optimize_linear(unit, 1.0, norm)
    return direction
