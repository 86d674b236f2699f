"""Iterated, minimum-norm and decision-based attacks, and noise as their control.

Attacks are Foolbox 3.3.4's. Where one of its methods is not sound the class is derived and that method mended:
descent that loses steps to a floor of 1e-12 under tiny gradients (the minimum-norm attack keeps its floor: it goes by
logits, which are not tiny); L1 descent that scales back instead of projecting, and so never leaves the direction of the
gradient; an L2 projection of the minimum-norm attack that is the identity; a decision-based gradient divided by the
length of the whole batch's. tests/test_attacks_iterated.py shows each of them.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import eagerpy as ep
import torch
from torch import Tensor, nn

from attacks.checks import Clip, batches, check_images, check_labels, check_model
from attacks.fast_gradient import moved, step
from attacks.gradients import Loss, objective
from attacks.measurement import answers, wrong
from attacks.norms import check_bound

with warnings.catch_warnings():  # Foolbox imports a name that SciPy has moved
    warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
    from foolbox import PyTorchModel
    from foolbox import attacks as foolbox
    from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball

L1_TIMES = 2
"""In L1, where the optimum is a corner of the ball, the minimum-norm attack takes so many times its steps."""
_OVERSHOOT = 1.001
WIDE = (-1e4, 1e4)  # bounds that clip nothing: Foolbox knows no "none"
Noise = Literal["uniform", "gaussian"]


class Unsteady(ValueError):
    """A model answers otherwise when it is asked again, or in other company."""


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
            self.best = torch.where(_beside(better, inputs), inputs.raw.detach(), self.best)
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


_DESCENTS: dict[float, Any] = {1: _L1Descent, 2: _L2Descent, math.inf: _LinfDescent}
_MINIMUM_NORMS: dict[float, Any] = {1: _L1MinimumNorm, 2: _L2MinimumNorm, math.inf: _LinfMinimumNorm}
_CONSTRAINTS: dict[float, str] = {2: "l2", math.inf: "linf"}


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
    within, y = _checked(model, x, y, clip)
    if steps < 1 or restarts < 1:
        raise ValueError(f"expected steps and restarts >= 1, got {steps} and {restarts}")
    if not losses:
        raise ValueError("expected at least one loss to climb, got none")
    if near is not None and near.shape != x.shape:
        raise ValueError(f"expected near of shape {tuple(x.shape)}, got {tuple(near.shape)}")
    x = x.detach()
    adversarial, standing = x.clone(), torch.arange(len(x), device=x.device)
    with _randomness(seed, x.device), _differentiable(model):
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


def minimum_norm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float,
    steps: int = 200,
    clip: Clip | None = None,
    batch_size: int = 1000,
) -> tuple[Tensor, Tensor]:
    """The nearest x_adv (N, ...) that the fast minimum norm attack finds (Pintor et al. 2021), and ‖x_adv - x‖p (N,).

    What that found is straightened: DeepFool's step from there is taken where it leads nearer, and then the way back
    to the boundary. In L1 the attack takes `L1_TIMES` the steps. Distances are float64: 0 for an image that is wrong
    as it is, infinite where nothing was found (x comes back).
    """
    check_bound(0, norm, "pixel")
    within, y = _checked(model, x, y, clip)
    attack = _MINIMUM_NORMS[norm](steps=steps * (L1_TIMES if norm == 1 else 1))
    with _differentiable(model):
        parts = [(x[part].detach(), y[part]) for part in batches(len(x), batch_size)]
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
    within, y = _checked(model, x, y, (0.0, 1.0))
    x = x.detach()
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
            with _randomness(seed, x.device):
                found[right] = attack.run(within, x[right], y[right], starting_points=ep.astensor(x[nearest]))
        except AssertionError as error:  # a point that was wrong is not, asked again
            raise Unsteady("expected the same answers to the same images in any company, got others") from error
    return _nearest(model, x, y, found, norm)


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


def _checked(model: nn.Module, x: Tensor, y: Tensor, clip: Clip | None) -> tuple[Any, Tensor]:
    """The model as Foolbox wants it, and y beside x; ValueError for a wrong model, image, label or clip."""
    check_model(model)
    check_images(x, clip)
    check_labels(y, len(x))
    return PyTorchModel(model, bounds=clip or WIDE, device=x.device), y.to(x.device)


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
            nearer = moved(x, _beside(length, x) * steepest, clip)
            nearer, reached = _nearest(model, x, y, nearer, norm)
            better = reached < distance
            best[better], distance[better] = nearer[better], reached[better]
    return _at_boundary(model, x, y, best)


def _at_boundary(model: nn.Module, x: Tensor, y: Tensor, found: Tensor) -> Tensor:
    """The last wrong point that bisection meets on each example's way back from a wrong one to x."""
    best, low, high = found.clone(), torch.zeros(len(x), device=x.device), torch.ones(len(x), device=x.device)
    for _ in range(12):
        share = (low + high) / 2
        point = x + _beside(share, x).to(x.dtype) * (found - x)
        broken = wrong(answers(model, point), y)
        best[broken] = point[broken]
        low, high = torch.where(broken, low, share), torch.where(broken, share, high)
    return best


def _nearest(model: nn.Module, x: Tensor, y: Tensor, found: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """What was found, and how far it is; an attack's own word that it is adversarial is not taken for it."""
    already, broken = wrong(answers(model, x), y), wrong(answers(model, found), y)
    distance = torch.linalg.vector_norm((found.double() - x.double()).flatten(1), norm, dim=1)
    distance = distance.where(broken, math.inf).where(~already, 0.0)
    return torch.where(_beside(broken & ~already, x), found, x), distance


def _beside(values: Tensor, x: Any) -> Tensor:
    """One value an example, (N,), in as many axes as x (N, ...) has."""
    return values.view(-1, *[1] * (x.ndim - 1))


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
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
def _randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Within, PyTorch's global stream, which Foolbox draws from, is that of a seed; after, it is as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
