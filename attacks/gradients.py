"""The gradient of the loss with respect to the images: one pass that serves every norm and every eps."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.checks import batches, check_images, check_labels, check_logits, check_model


@dataclass(frozen=True)
class Gradient:
    """Per-example gradients of the cross-entropy, and what they were taken with; all on x's device.

    gradient (N, ...): of each example's own loss, never divided by the batch. labels (N,): the classes of
    that loss. logits (N, classes): the model's answer on the clean x. None carries an autograd graph.
    """

    gradient: Tensor
    labels: Tensor
    logits: Tensor

    @property
    def zero(self) -> Tensor:
        """(N,) bool: every component is exactly zero, by underflow or else; there is no direction."""
        return self.gradient.flatten(1).abs().amax(1) == 0

    @property
    def nonfinite(self) -> Tensor:
        """(N,) bool: some component is NaN or infinite; there is no direction."""
        return ~self.gradient.flatten(1).isfinite().all(1)


def input_gradient(model: nn.Module, x: Tensor, y: Tensor | None = None, batch_size: int = 1000) -> Gradient:
    """d cross_entropy(model(x)_i, y_i) / d x_i for x (N, ...) and y (N,), by default the model's predictions.

    The loss is summed over examples, so an example's gradient is the same in every batch. Parameters receive
    nothing. ValueError: training mode; x, y or logits of a wrong shape or type; logits cut off from x.
    """
    check_model(model)
    check_images(x)
    if y is not None:
        check_labels(y, len(x))
        y = y.to(x.device)
    parts = [_of_batch(model, x[part], None if y is None else y[part]) for part in batches(len(x), batch_size)]
    return Gradient(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _of_batch(model: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode(False):  # gradients on, whatever the caller has switched off
        x = x.detach().clone().requires_grad_()
        logits: Tensor = model(x)
        check_logits(logits, y, len(x))
        labels = logits.detach().argmax(1) if y is None else y
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        gradient = torch.autograd.grad(loss, x, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise ValueError("expected logits differentiable with respect to x, got logits cut off from it")
    return gradient, labels, logits.detach()
