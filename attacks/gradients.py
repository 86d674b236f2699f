"""The gradient of the loss with respect to the images: one pass that serves every norm and every eps."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.checks import batches, check_images, check_labels, check_logits, check_model, check_no_probabilities

Loss = Literal["cross-entropy", "margin"]


@dataclass(frozen=True)
class Gradient:
    """Per-example gradients of a loss, and what they were taken with; all on x's device.

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


def objective(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """What an attack raises, (N,): the cross-entropy, or the margin, largest other logit minus the label's.

    The margin is Carlini and Wagner's (2017, f6 without its floor): it has no softmax that could saturate.
    ValueError for another loss.
    """
    if loss == "cross-entropy":
        return functional.cross_entropy(logits, labels, reduction="none")
    if loss != "margin":
        raise ValueError(f"expected loss to be 'cross-entropy' or 'margin', got {loss!r}")
    own = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


def input_gradient(
    model: nn.Module, x: Tensor, y: Tensor | None = None, *, loss: Loss = "cross-entropy", batch_size: int = 1000
) -> Gradient:
    """d objective(model(x)_i, y_i) / d x_i for x (N, ...) and y (N,), by default the model's predictions.

    The loss is summed over examples, so an example's gradient is the same in every batch. Parameters receive
    nothing. ValueError: training mode; x, y or logits of a wrong shape or type; probabilities; logits cut off from x.
    """
    check_model(model)
    check_images(x)
    if y is not None:
        check_labels(y, len(x))
        y = y.to(x.device)
    parts = [_of_batch(model, x[part], None if y is None else y[part], loss) for part in batches(len(x), batch_size)]
    return Gradient(*(torch.cat(column) for column in zip(*parts, strict=True)))


def in_float64(model: nn.Module) -> nn.Module:
    """A copy of the model that calculates in float64: there gradients underflow far later."""
    with torch.inference_mode(False):
        return copy.deepcopy(model).double()


def runs_in_float64(model: nn.Module, x: Tensor) -> bool:
    """Whether that copy answers: a model may have float32 written into its code."""
    try:
        with torch.no_grad():
            return bool(in_float64(model)(x[:1].double()).dtype == torch.float64)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of code that is not ours
        return False


def _of_batch(model: nn.Module, x: Tensor, y: Tensor | None, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
        x, y = x.detach().clone().requires_grad_(), None if y is None else y.clone()
        logits: Tensor = model(x)
        check_logits(logits, y, len(x))
        check_no_probabilities(logits.detach())
        labels = logits.detach().argmax(1) if y is None else y
        total = objective(logits, labels, loss).sum()
        gradient = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None:
        raise ValueError("expected logits differentiable with respect to x, got logits cut off from it")
    return gradient, labels, logits.detach()
