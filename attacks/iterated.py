"""Projected gradient ascent, and noise as the control of all attacks.

Ascent is Foolbox 3.3.4's. Where one of its methods is not sound the class is derived and that method mended: descent
that loses steps to a floor of 1e-12 under tiny gradients; L1 descent that scales back instead of projecting, and so
never leaves the direction of the gradient. tests/test_foolbox.py shows each of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import eagerpy as ep
import torch
from torch import Tensor, nn

from attacks.checks import Clip, batches, check_images, check_steps
from attacks.fast_gradient import moved, step
from attacks.gradients import Loss, objective
from attacks.measurement import answers, wrong
from attacks.norms import check_bound
from attacks.through_foolbox import beside, checked, differentiable, foolbox, project_onto_l1_ball, randomness

Noise = Literal["uniform", "gaussian"]


class _Annealed:
    """Steps that shrink along half a cosine: the first ones cross the ball, the last ones settle."""

    def __init__(self, stepsize: float, steps: int) -> None:
        self.stepsize, self.steps, self.done = stepsize, steps, 0

    def __call__(self, direction: Any) -> Any:
        share = (1 + math.cos(math.pi * self.done / self.steps)) / 2
        self.done += 1
        return self.stepsize * share * direction


class _Descent:
    """What Foolbox's projected gradient descent takes from here: loss, steps, its best point not its last."""

    order: float
    first_step = 2.0  # of eps, as Croce and Hein (2020) have it: far enough to leave where the model is flat
    steps: int

    loss: Loss
    first: bool  # of several starts
    start: Tensor | None = None  # where to, instead of a random point
    run: Any  # Foolbox's
    project: Any

    def climb(self, model: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Each example where its margin was largest on the way."""
        self.best, self.margin = x, torch.full((len(x),), -math.inf, device=x.device)
        last = self.run(model, x, y, epsilon=eps)
        with torch.no_grad():
            self.get_loss_fn(model, ep.astensor(y))(ep.astensor(last))
        return self.best

    def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
        """The objective, summed over examples; each example's best point is kept on the way."""

        def loss_fn(inputs: Any) -> Any:
            logits = model(inputs).raw
            margin = objective(logits.detach(), labels.raw, "margin")
            better = (margin > self.margin) | (margin.isnan() & ~self.margin.isnan())  # no answer is a wrong one
            self.margin = torch.where(better, margin, self.margin)
            self.best = torch.where(beside(better, inputs), inputs.raw.detach(), self.best)
            return ep.astensor(objective(logits, labels.raw, self.loss).sum())

        return loss_fn

    def get_random_start(self, x0: Any, epsilon: float) -> Any:
        """A random point of the ball, or the given one's nearest in it."""
        drawn = super().get_random_start(x0, epsilon)  # type: ignore[misc]
        return drawn if self.start is None else self.project(ep.astensor(self.start), x0, epsilon)

    def get_optimizer(self, x: Any, stepsize: float) -> _Annealed:
        """No step is of the size of another."""
        return _Annealed(stepsize, self.steps)

    def normalize(self, gradients: Any, *, x: Any, bounds: Any) -> Any:
        """Each example's steepest unit step."""
        return ep.astensor(step(gradients.raw, eps=1.0, norm=self.order, l1="pixel"))


class _L1Descent(_Descent, foolbox.L1ProjectedGradientDescentAttack):  # type: ignore[misc]
    order = 1
    first_step = 1.0

    def normalize(self, gradients: Any, *, x: Any, bounds: Any) -> Any:
        """First all of it on the pixel with the largest gradient; later along the gradient: projection makes it sparse.

        The one is the optimum of a linear model, the other breaks more images of a network.
        """
        return ep.astensor(step(gradients.raw, eps=1.0, norm=1 if self.first else 2, l1="pixel"))

    def project(self, x: Any, x0: Any, epsilon: float) -> Any:
        """The nearest point of the ball."""
        return x0 + project_onto_l1_ball(x - x0, epsilon * ep.ones(x, len(x)))


class _L2Descent(_Descent, foolbox.L2ProjectedGradientDescentAttack):  # type: ignore[misc]
    order = 2


class _LinfDescent(_Descent, foolbox.LinfProjectedGradientDescentAttack):  # type: ignore[misc]
    order = math.inf


_DESCENTS: dict[float, Any] = {1: _L1Descent, 2: _L2Descent, math.inf: _LinfDescent}


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: float,
    steps: int = 40,
    restarts: int = 1,
    losses: Sequence[Loss] = ("margin", "cross-entropy"),
    clip: Clip | None = None,
    near: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 1000,
) -> Tensor:
    """x (N, ...) moved by projected gradient ascent within ‖delta‖p <= eps, labels y (N,); same shape and dtype.

    A quarter of the steps from x, then `restarts` times all of them for what still stands, from x and from random
    points of the ball; they climb the losses in turn, in steps that shrink from the width of the ball to nothing. With
    `near` (N, ...), such as `minimum_norm` finds, it is from each image's point of the ball nearest to that, instead
    of from x again. An image comes back as it was where its margin was largest in the start that broke it, else in
    the first. Same seed, same result. ValueError for what is wrong with the arguments.
    """
    check_bound(eps, norm, "pixel")
    within, x, y = checked(model, x, y, clip, eps)
    check_steps(steps)
    check_steps(restarts, "restarts")
    if not losses:
        raise ValueError("expected at least one loss to climb, got none")
    if near is not None:
        check_images(near, name="near")
        if (near.shape, near.dtype) != (x.shape, x.dtype):
            raise ValueError(f"expected near as x is, {x.dtype} {tuple(x.shape)}, got {near.dtype} {tuple(near.shape)}")
    with randomness(seed, x.device), differentiable(model):
        adversarial, standing = x.clone(), torch.arange(len(x), device=x.device)
        for start, budget in enumerate([-(-steps // 4), *[steps] * restarts]):
            kind = _DESCENTS[norm]
            given = near if start == 1 else None
            attack = kind(rel_stepsize=kind.first_step, steps=budget, random_start=start > 1 or given is not None)
            attack.loss, attack.first = losses[start % len(losses)], start == 0
            reached = []
            for part in (standing[part] for part in batches(len(standing), batch_size)):
                attack.start = None if given is None else given[part]
                reached.append(attack.climb(within, x[part], y[part], eps))
            found = torch.cat(reached)
            broken = wrong(answers(model, found), y[standing])
            kept = broken if start else torch.ones_like(broken)
            adversarial[standing[kept]] = found[kept]
            standing = standing[~broken]
            if not len(standing):
                break
    return adversarial


def noise(x: Tensor, *, eps: float, norm: float, kind: Noise, clip: Clip | None = None, seed: int = 0) -> Tensor:
    """x (N, ...) plus uniform or Gaussian noise scaled to ‖delta‖p = eps, example by example: what no attack aimed."""
    check_bound(eps, norm, "pixel")
    check_images(x, clip)
    if kind not in ("uniform", "gaussian"):
        raise ValueError(f"expected kind 'uniform' or 'gaussian', got {kind!r}")
    generator = torch.Generator(x.device).manual_seed(seed)
    draw = torch.randn if kind == "gaussian" else torch.rand
    rows = draw(x.shape, generator=generator, device=x.device, dtype=x.dtype).flatten(1)
    rows = rows if kind == "gaussian" else 2 * rows - 1
    delta = eps * rows / torch.linalg.vector_norm(rows, norm, dim=1, keepdim=True)
    return moved(x, delta.view_as(x), clip)
