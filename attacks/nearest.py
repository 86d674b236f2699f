"""The nearest image that is called something else: by the gradient (minimum norm), and from labels alone.

Attacks are Foolbox 3.3.4's. Where one of its methods is not sound the class is derived and that method mended: an L2
projection of the minimum-norm attack that is the identity; a decision-based gradient divided by the length of the
whole batch's. (The minimum-norm attack keeps its floor of 1e-12 under gradients: it goes by logits, whose gradients are
not tiny.) tests/test_foolbox.py shows each of them.
"""

import math
from typing import Any

import eagerpy as ep
import torch
from torch import Tensor, nn

from attacks.checks import Clip, batches, check_steps
from attacks.fast_gradient import moved, step
from attacks.measurement import answers, wrong
from attacks.norms import check_bound
from attacks.through_foolbox import beside, checked, differentiable, foolbox, randomness

L1_TIMES = 2
"""In L1, where the optimum is a corner of the ball, the minimum-norm attack takes so many times its steps."""
_OVERSHOOT = 1.001


class Unsteady(ValueError):
    """A model answers otherwise when it is asked again, or in other company."""


class _Overshoot:
    """Balls a thousandth larger: else the first one reaches just to a linearised boundary, and nothing is across it."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        return super().project(x=x, x0=x0, epsilon=_OVERSHOOT * epsilon)  # type: ignore[misc]


class _L1MinimumNorm(_Overshoot, foolbox.L1FMNAttack):  # type: ignore[misc]
    pass


class _LinfMinimumNorm(_Overshoot, foolbox.LInfFMNAttack):  # type: ignore[misc]
    pass


class _L2Ball(foolbox.L2FMNAttack):  # type: ignore[misc]
    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        """The nearest point of each example's own ball."""
        delta = (x - x0).raw.flatten(1)
        length = delta.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return x0 + ep.astensor(delta * (epsilon.raw[:, None] / length).clamp_max(1)).reshape(x0.shape)


class _L2MinimumNorm(_Overshoot, _L2Ball):
    pass


class _HopSkipJump(foolbox.HopSkipJumpAttack):  # type: ignore[misc]
    def approximate_gradients(self, *args: Any) -> Any:
        """Each example's estimate at length 1."""
        estimate = super().approximate_gradients(*args).raw
        return ep.astensor(torch.nn.functional.normalize(estimate.flatten(1), dim=1).view_as(estimate))


_MINIMUM_NORMS: dict[float, Any] = {1: _L1MinimumNorm, 2: _L2MinimumNorm, math.inf: _LinfMinimumNorm}
_CONSTRAINTS: dict[float, str] = {2: "l2", math.inf: "linf"}


def minimum_norm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float,
    steps: int = 200,
    clip: Clip | None = None,
    seed: int = 0,
    batch_size: int = 1000,
) -> tuple[Tensor, Tensor]:
    """The nearest x_adv (N, ...) that the fast minimum norm attack finds (Pintor et al. 2021), and ‖x_adv - x‖p (N,).

    What that found is straightened: DeepFool's step from there is taken where it leads nearer, and then the way back
    to the boundary. In L1 the attack takes `L1_TIMES` the steps. Distances are float64: 0 for an image that is wrong
    as it is, infinite where nothing was found (x comes back). The seed is of what a model draws, if it does.
    """
    check_bound(0, norm, "pixel")
    within, x, y = checked(model, x, y, clip)
    check_steps(steps)
    attack = _MINIMUM_NORMS[norm](steps=steps * (L1_TIMES if norm == 1 else 1))
    with randomness(seed, x.device), differentiable(model):
        parts = [(x[part], y[part]) for part in batches(len(x), batch_size)]
        found = [_straightened(model, *part, attack.run(within, *part), norm, clip) for part in parts]
        return _nearest(model, x, y, torch.cat(found), norm)


def decision_based(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: float, steps: int = 20, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The nearest x_adv in [0, 1] that HopSkipJump finds from labels alone (Chen et al. 2020); norm 2 or inf.

    Result as `minimum_norm`. It starts at the nearest of the other images that the model calls something else. Raises
    Unsteady where that is not certain of any image.
    """
    if norm not in _CONSTRAINTS:
        raise ValueError(f"expected norm 2 or inf for a decision-based attack, got {norm!r}")
    within, x, y = checked(model, x, y, (0.0, 1.0))
    check_steps(steps, least=0)
    with randomness(seed, x.device):
        predicted = answers(model, x).argmax(1)
        right = (predicted == y).nonzero().squeeze(1)
        apart = torch.cdist(x[right].flatten(1), x.flatten(1))
        apart[predicted[None] == y[right, None]] = math.inf
        startable = apart.amin(1) < math.inf
        right, nearest = right[startable], apart.argmin(1)[startable]
        found = x.clone()
        if len(right):
            attack = _HopSkipJump(steps=steps, constraint=_CONSTRAINTS[norm])
            try:
                found[right] = attack.run(within, x[right], y[right], starting_points=ep.astensor(x[nearest]))
            except (AssertionError, ValueError) as error:  # a point that was wrong is not, asked again
                if isinstance(error, ValueError) and "not adversarial" not in str(error):
                    raise
                raise Unsteady("expected the same answers to the same images in any company, got others") from error
        return _nearest(model, x, y, found, norm)


def _straightened(model: nn.Module, x: Tensor, y: Tensor, found: Tensor, norm: float, clip: Clip | None) -> Tensor:
    """What was found, or a nearer point: where the model, linearised at the nearest so far, meets another class.

    Class by class, twice over, then back to the boundary. These are the steps of DeepFool (Moosavi-Dezfooli et al.
    2016), which lead to the optimum of a linear model, from where another attack has got to.
    """
    best, distance = _nearest(model, x, y, found, norm)
    for _ in range(2):
        for other in range(answers(model, x[:1]).shape[1]):
            point = best.clone().requires_grad_()
            logits = model(point)
            ahead = logits[:, other] - logits.gather(1, y[:, None]).squeeze(1)
            gradient = torch.autograd.grad(ahead.sum(), point)[0]
            steepest = step(gradient, eps=1.0, norm=norm, l1="pixel")
            rise, back = ((gradient * along).flatten(1).sum(1) for along in (steepest, x - best))
            length = -(ahead.detach() + back) / rise * _OVERSHOOT
            length = length.where(length.isfinite() & (length > 0), 0.0)
            nearer = moved(x, beside(length, x) * steepest, clip)
            nearer, reached = _nearest(model, x, y, nearer, norm)
            better = reached < distance
            best[better], distance[better] = nearer[better], reached[better]
    return _at_boundary(model, x, y, best)


def _at_boundary(model: nn.Module, x: Tensor, y: Tensor, found: Tensor) -> Tensor:
    """The last wrong point that bisection meets on each example's way back from a wrong one to x."""
    best, low, high = found.clone(), torch.zeros(len(x), device=x.device), torch.ones(len(x), device=x.device)
    for _ in range(12):
        share = (low + high) / 2
        point = x + beside(share, x).to(x.dtype) * (found - x)
        broken = wrong(answers(model, point), y)
        best[broken] = point[broken]
        low, high = torch.where(broken, low, share), torch.where(broken, share, high)
    return best


def _nearest(model: nn.Module, x: Tensor, y: Tensor, found: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """What was found, and how far it is; an attack's own word that it is adversarial is not taken for it."""
    already, broken = wrong(answers(model, x), y), wrong(answers(model, found), y)
    distance = torch.linalg.vector_norm((found.double() - x.double()).flatten(1), norm, dim=1)
    distance = distance.where(broken, math.inf).where(~already, 0.0)
    return torch.where(beside(broken & ~already, x), found, x), distance
