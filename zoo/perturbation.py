"""The virtual adversarial perturbation: the direction in which the output distribution bends most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn import functional as F

Map = Callable[[Tensor], Tensor]


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of two categorical distributions given by logits (..., examples, classes).

    Mean over examples, shape (...). The D of VAL paper eq. 5 and VAT paper eq. 17.
    """
    return divergences(p_logits, q_logits).mean(-1)


def divergences(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of each example, of logits (..., examples, classes): (..., examples). VAT paper eq. 17."""
    log_p, log_q = F.log_softmax(p_logits, -1), F.log_softmax(q_logits, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def unit(d: Tensor) -> Tensor:
    """Each example's vector (last axis) at L2 length 1; a zero vector stays zero. Safe from under- and overflow."""
    tiny = torch.finfo(d.dtype).tiny
    d = d / d.abs().amax(-1, keepdim=True).clamp_min(tiny)
    return F.normalize(d, dim=-1, eps=tiny)


@dataclass(frozen=True)
class Linearised:
    """The rest of a network at a point: logits (..., examples, classes), d -> J d and v -> J' v.

    J is the Jacobian of all logits with respect to the point, (..., examples, units), of each seed.
    """

    logits: Tensor
    jvp: Map
    vjp: Map


def side_by_side(rests: Sequence[Linearised]) -> Linearised:
    """Of groups of examples that do not touch one another: the maps of all, each group by its own, in this order."""
    if len(rests) == 1:
        return rests[0]
    sizes = [rest.logits.shape[-2] for rest in rests]
    jvp, vjp = joined([rest.jvp for rest in rests], sizes), joined([rest.vjp for rest in rests], sizes)
    return Linearised(torch.cat([rest.logits for rest in rests], -2), jvp, vjp)


def joined(maps: Sequence[Map], sizes: list[int]) -> Map:
    """Each map of its group of examples, which are so many of (..., examples, units)."""
    return lambda v: torch.cat([each(part) for each, part in zip(maps, torch.split(v, sizes, -2), strict=True)], -2)


def curvature(rest: Linearised) -> Map:
    """d -> H d, with H the Hessian of the sum of KL(p(z) || p(z + r)) over examples at r = 0 (VAT paper eq. 9).

    H = J' (diag p - p p') J exactly: the limit xi -> 0 of VAT paper eq. 12 at the same cost.
    """
    p, top = rest.logits.softmax(-1), rest.logits.argmax(-1, keepdim=True)

    def product(d: Tensor) -> Tensor:
        jd = rest.jvp(d)
        jd = jd - jd.gather(-1, top)  # H ignores a constant; without this, float32 loses all of a confident example
        return rest.vjp(p * (jd - (p * jd).sum(-1, keepdim=True)))

    return product


def finite_difference(reference: Tensor, passes: Sequence[Map], z: Tensor, xi: float) -> Map:
    """d -> gradient of KL(reference || passes[k](z + r)) at r = xi d (VAT paper eq. 12), a fresh pass a call.

    `reference` are logits (..., examples, classes). In float32 xi = 1e-6 sits at rounding level; kept because the
    released runs did it so.
    """
    remaining = iter(passes)

    def product(d: Tensor) -> Tensor:
        r = (xi * d).detach().requires_grad_()
        with torch.enable_grad():
            divergence = kl_divergence(reference, next(remaining)(z + r)).sum()
        (g,) = grad(divergence, r)
        return g

    return product


def power_iteration(product: Map, direction: Tensor, iterations: int) -> Tensor:
    """`iterations` times d <- product(d / ||d||) from a random `direction` (VAT paper eq. 11); not normalised."""
    for _ in range(iterations):
        direction = product(unit(direction))
    return direction


def scale_to(direction: Tensor, eps: float, norm: Literal["L2", "Linf"]) -> Tensor:
    """The perturbation of size eps along `direction`: VAT paper eq. 14 (L2), or eps * sign (L-infinity)."""
    return eps * (unit(direction) if norm == "L2" else direction.sign())
