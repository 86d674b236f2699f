"""The arithmetic of `zoo.arithmetic`, fast: each chain of element-wise operations between two products is one
function with a backward pass written by hand. Eager they save memory; compiled, each becomes one loop.

Products may be rounded: float32 is as it is; tf32, on a GPU, keeps 10 bits of each factor and float32 sums; bfloat16
keeps 7 bits of each factor and of the result, with float32 sums, and the small products of the logits stay in
float32, since probabilities hang on them. Statistics, differences and sums over examples are always float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from zoo.arithmetic import (
    BATCH_NORM_EPSILON,
    Plain,
    Statistics,
    batch_statistics,
    combine,
    standardise,
    through_statistics,
)

Precision = Literal["float32", "tf32", "bfloat16"]
SMALL = 32  # a product with fewer inputs or outputs costs little


def wide(x: Tensor) -> Tensor:
    """A product's result in the precision of everything else."""
    return x.float() if x.dtype == torch.bfloat16 else x


# The chains: no autograd in them. Each backward takes what its forward kept and the gradients of what it returned.


def activate(z: Tensor, shift: Tensor, slope: float, dtype: torch.dtype) -> Tensor:
    """leaky ReLU(z + shift), rounded."""
    t = z + shift
    return torch.maximum(t, slope * t).to(dtype)


def activate_backward(h: Tensor, g: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """d loss / d z (..., n, units) and d shift (..., 1, units) from g = d loss / d h; h has its argument's sign."""
    positive = torch.relu(torch.sign(wide(h)))  # not h > 0: a compiler would keep that as bytes, slow on a CPU
    g = wide(g) * (slope + (1 - slope) * positive)
    return g, g.sum(-2, keepdim=True)


def normalise(projection: Tensor, noise: Tensor | None, sd: float) -> tuple[Tensor, Tensor, Tensor]:
    """z, and mean and biased variance."""
    projection = wide(projection)
    mean, variance = batch_statistics(projection)
    z = standardise(projection, (mean, variance))
    return z if noise is None else torch.add(z, noise, alpha=sd), mean, variance


def normalise_backward(
    projection: Tensor, mean: Tensor, variance: Tensor, g: Tensor, g_mean: Tensor, g_variance: Tensor
) -> Tensor:
    """d loss / d projection (..., n, units), from those by z, by mean and by variance (..., 1, units)."""
    rsd, n = torch.rsqrt(variance + BATCH_NORM_EPSILON), projection.shape[-2]
    z = (wide(projection) - mean) * rsd
    through = through_statistics(z, rsd, g) + g_mean / n + (2 / n) * g_variance * (wide(projection) - mean)
    return through.to(projection.dtype)


def denoise(z: Tensor, u: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z^, and mean and biased variance of u."""
    mean, variance = batch_statistics(wide(u))
    return combine(z, standardise(wide(u), (mean, variance)), coefficients), mean, variance


def denoise_backward(
    z: Tensor, u: Tensor, mean: Tensor, variance: Tensor, coefficients: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """d loss / d z~, d u (..., n, units) and d coefficients (..., 10, units), from g = d loss / d z^."""
    a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = torch.split(coefficients, 1, dim=-2)
    rsd = torch.rsqrt(variance + BATCH_NORM_EPSILON)
    unit = (wide(u) - mean) * rsd
    s, t = torch.sigmoid(a2 * unit + a3), torch.sigmoid(a7 * unit + a8)
    mu = a1 * s + a4 * unit + a5
    v = a6 * t + a9 * unit + a10
    g_mu, g_v = g * (1 - v), g * (z - mu)
    g_s, g_t = g_mu * a1 * s * (1 - s), g_v * a6 * t * (1 - t)
    g_unit = g_s * a2 + g_mu * a4 + g_t * a7 + g_v * a9
    parts = [g_mu * s, g_s * unit, g_s, g_mu * unit, g_mu, g_v * t, g_t * unit, g_t, g_v * unit, g_v]
    g_coefficients = torch.cat([part.sum(-2, keepdim=True) for part in parts], dim=-2)
    return g * v, through_statistics(unit, rsd, g_unit).to(u.dtype), g_coefficients


def distance(z_hat: Tensor, z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Of z^ and z (..., n, units): mean square over examples and units, (...)."""
    return (standardise(z_hat, (mean, variance)) - z).square().mean(-2).mean(-1)


def distance_backward(
    z_hat: Tensor, z: Tensor, mean: Tensor, variance: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d loss / d z^, d z (..., n, units), d mean and d variance (..., 1, units), from g (...) by the distance."""
    rsd = torch.rsqrt(variance + BATCH_NORM_EPSILON)
    unit = (z_hat - mean) * rsd
    g_unit = (2 / (z.shape[-2] * z.shape[-1])) * g[..., None, None] * (unit - z)
    g_hat = g_unit * rsd
    g_variance = -0.5 * rsd.square() * (g_unit * unit).sum(-2, keepdim=True)
    return g_hat, -g_unit, -g_hat.sum(-2, keepdim=True), g_variance


# The chains and the rounded product, to autograd.


class Activate(Function):
    """`activate`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, shift: Tensor, slope: float, dtype: torch.dtype) -> Tensor:
        h: Tensor = activate(z, shift, slope, dtype)
        ctx.save_for_backward(h)
        ctx.slope = slope
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        (h,) = ctx.saved_tensors
        return *activate_backward(h, g[0], ctx.slope), None, None


class Normalise(Function):
    """`normalise`."""

    @staticmethod
    def forward(ctx: Any, projection: Tensor, noise: Tensor | None, sd: float) -> Any:
        z, mean, variance = normalise(projection, noise, sd)
        ctx.save_for_backward(projection, mean, variance)
        return z, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        return normalise_backward(*ctx.saved_tensors, *g), None, None


class Denoise(Function):
    """`denoise`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, u: Tensor, coefficients: Tensor) -> Any:
        z_hat, mean, variance = denoise(z, u, coefficients)
        ctx.save_for_backward(z, u, mean, variance, coefficients)
        return z_hat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        return denoise_backward(*ctx.saved_tensors, *g)


class Distance(Function):
    """`distance`."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Any:
        ctx.save_for_backward(*given)
        return distance(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        return distance_backward(*ctx.saved_tensors, *g)


class Bfloat16Product(Function):
    """x @ weight in bfloat16, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        return g[0] @ weight.mT if of_x else None, x.mT @ g[0] if of_weight else None


class Fused(Plain):
    """With products in a precision."""

    def __init__(self, precision: Precision = "float32") -> None:
        self.precision = precision

    def short(self, weight: Tensor) -> bool:
        """Whether products with this weight are rounded."""
        return self.precision == "bfloat16" and min(weight.shape[-2:]) >= SMALL

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x @ weight; bfloat16 if it was rounded."""
        if not self.short(weight):
            return x @ weight
        result: Tensor = Bfloat16Product.apply(x, weight)  # type: ignore[no-untyped-call]
        return result

    def activate(self, z: Tensor, shift: Tensor, slope: float) -> Tensor:
        h: Tensor = Activate.apply(z, shift, slope, z.dtype)  # type: ignore[no-untyped-call]
        return h

    def project(
        self, z: Tensor, shift: Tensor, weight: Tensor, slope: float, noise: Tensor | None = None, sd: float = 0.0
    ) -> Tensor:
        dtype = torch.bfloat16 if self.short(weight) and noise is None else z.dtype
        h = Activate.apply(z, shift, slope, dtype)  # type: ignore[no-untyped-call]
        return self.product(h if noise is None else torch.add(h, noise, alpha=sd), weight)

    def normalise(self, projection: Tensor, noise: Tensor | None, sd: float) -> tuple[Tensor, Statistics]:
        z, mean, variance = Normalise.apply(projection, noise, sd)  # type: ignore[no-untyped-call]
        return z, (mean, variance)

    def denoise(self, z: Tensor, u: Tensor, coefficients: Tensor) -> Tensor:
        z_hat: Tensor = Denoise.apply(z, u, coefficients)  # type: ignore[no-untyped-call]
        return z_hat

    def distance(self, z_hat: Tensor, z: Tensor, statistics: Statistics) -> Tensor:
        result: Tensor = Distance.apply(z_hat, z, *statistics)  # type: ignore[no-untyped-call]
        return result


@contextmanager
def matrix_precision(precision: Precision) -> Iterator[None]:
    """Within, float32 products on a GPU are tf32 if that is the precision, else exact; bfloat16 ones sum in float32."""
    matmul = torch.backends.cuda.matmul
    before, reduced = torch.get_float32_matmul_precision(), matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        matmul.allow_bf16_reduced_precision_reduction = reduced
