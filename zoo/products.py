"""Matrix products in the precision that a training names; everything around them stays in float32.

float32: as it is. tf32: on a GPU, 10 bits of each factor and float32 sums. bfloat16: 7 bits of each factor and of the
result, and float32 sums; the small products of the logits stay in float32, since probabilities hang on them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "tf32", "bfloat16"]
Product = Callable[[Tensor, Tensor], Tensor]
SMALL = 32  # a product with fewer inputs or outputs costs little


class BFloat16Product(torch.autograd.Function):
    """x @ w of float32 (..., n, k) and (..., k, m) in bfloat16, forward and backward; float32 in and out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        rounded = x.bfloat16(), w.bfloat16()
        ctx.save_for_backward(*rounded)
        return (rounded[0] @ rounded[1]).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        gradient = gradients[0].bfloat16()
        of_x, of_w = ctx.needs_input_grad
        return (gradient @ w.mT).float() if of_x else None, (x.mT @ gradient).float() if of_w else None


def bfloat16_product(x: Tensor, w: Tensor) -> Tensor:
    """x @ w, in bfloat16 unless it is small."""
    if min(w.shape[-2:]) < SMALL:
        return x @ w
    result: Tensor = BFloat16Product.apply(x, w)  # type: ignore[no-untyped-call]
    return result


class Multiplying(nn.Module):
    """A module whose matrix products are those of `in_precision`, float32 elsewhere."""

    product: Product = staticmethod(torch.matmul)


@contextmanager
def in_precision(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Within, the model's products have this precision: for training steps; whatever is measured is in float32."""
    parts = [part for part in model.modules() if isinstance(part, Multiplying)]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        for part in parts:
            part.product = bfloat16_product if precision == "bfloat16" else torch.matmul
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for part in parts:
            part.product = torch.matmul
