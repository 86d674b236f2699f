"""What the most careful evaluators ask of a model before they believe that it is robust, measured on some images.

Only figures come out of here; a report draws the verdicts. Attacks know the true labels, x_adv is not clipped (but by
the decision-based attack), and an image that is wrong as it is counts as broken by all.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

import pydantic
import torch
from pydantic import Field
from torch import Tensor, nn

from attacks.checks import check_answers, check_images, check_labels, check_model, check_tensor
from attacks.fast_gradient import step
from attacks.gradients import in_float64, input_gradient, runs_in_float64
from attacks.iterated import noise, pgd
from attacks.meanings import Meaning
from attacks.measurement import answers, wrong
from attacks.nearest import L1_TIMES, Unsteady, decision_based, minimum_norm
from attacks.norms import NORMS
from attacks.through_foolbox import WIDE, randomness

Ball = Literal["L1", "L2", "Linf"]
Count = Annotated[int, Field(gt=0, le=10**6)]
Radius = Annotated[float, Field(gt=0, le=WIDE[1] - 1, allow_inf_nan=False)]  # of images in [0, 1]
BALLS: Mapping[str, float] = MappingProxyType({"L1": 1, "L2": 2, "Linf": math.inf})
STEPS_IN = {"L1": ("L1-spread", "L1-pixel"), "L2": ("L2",), "Linf": ("Linf",)}
EPS: dict[Ball, tuple[float, ...]] = {
    "L1": (0.3, 3.0, 10.0, 30.0, 300.0),
    "L2": (0.3, 1.0, 2.0, 3.0, 20.0),
    "Linf": (0.05, 0.1, 0.2, 0.3, 1.0),
}
"""Radii of each norm's ball; within the last one any model should be as good as a guess."""
ASCENT_TIMES: dict[Ball, int] = {"L1": 2, "L2": 2, "Linf": 1}
"""Times the steps, and times the restarts, of projected gradient ascent: there more of it still breaks some images."""
SINGLE_STEPS = {
    "single-step": Meaning(labels="true"),
    "single-step/margin": Meaning(labels="true", loss="margin"),
    "single-step/float64": Meaning(labels="true", float64=True),
}


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Budget:
    """How much work an audit is; the attacks' names in the records say what they took."""

    images: Count = 1000  # the first so many of those given
    eps: dict[Ball, Annotated[tuple[Radius, ...], Field(min_length=1)]] = Field(default_factory=EPS.copy)
    steps: Count = 40  # of projected gradient ascent, on margin and cross-entropy in turn; see ASCENT_TIMES
    restarts: Count = 2
    more_steps: Count = 100  # at the radius that breaks about half, on what stood there
    more_restarts: Count = 3
    minimum_norm_steps: Count = 100  # twice as many in L1
    decision_images: Count = 100  # of the decision-based attack, the first so many
    decision_steps: Count = 10
    noise_draws: Count = 10

    @pydantic.model_validator(mode="after")
    def consistent(self) -> "Budget":
        """ValueError where more ascent is not more: it would take the name of the other, and its place."""
        usual, more = (self.steps, self.restarts), (self.more_steps, self.more_restarts)
        if usual == more or any(a > b for a, b in zip(usual, more, strict=True)):
            raise ValueError(f"expected more than {usual[0]} steps x {usual[1]} restarts, got {more[0]} x {more[1]}")
        return self


@dataclass(frozen=True)
class Finding:
    """A figure of an audit; norm is empty and eps is NaN where it is of none; n images."""

    measure: str
    attack: str
    norm: str
    eps: float
    value: float
    n: int


def curve(radii: Sequence[float]) -> list[float]:
    """Twelve further radii, evenly apart on a logarithmic scale, from a tenth of the smallest to the largest."""
    low, high = math.log10(min(radii)) - 1, math.log10(max(radii))
    between = [float(f"{10 ** (low + (high - low) * k / 11):.3g}") for k in range(12)]
    return [eps for eps in between if eps not in radii]


def audit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    budget: Budget | None = None,
    tell: Callable[[str], None] = lambda stage: None,
) -> list[Finding]:
    """A model's audit on images x (N, ...) in [0, 1] with labels y (N,): the first `budget.images` of them.

    The same on every call. `tell` hears of each stage. ValueError for a model that is in training mode, whose answers
    are not finite or are probabilities, and for wrong images or labels.
    """
    check_tensor("x", x)
    with randomness(0, x.device):  # of a model that draws
        return Audit(model, x, y, budget or Budget()).run(tell)


class Audit:
    """The images that each attack broke, stage by stage, and the figures so far."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> None:
        self.model, self.budget = model, budget
        check_model(model)
        check_tensor("y", y)
        few, theirs = (of[: budget.images] if of.ndim else of for of in (x, y))
        self.x, self.y = few.detach(), theirs.to(x.device)
        check_images(self.x, (0.0, 1.0))
        check_labels(self.y, len(self.x))
        self.answers = self.ask(self.x)
        check_answers(self.answers, self.y)
        self.clean = wrong(self.answers, self.y)
        self.broken: dict[tuple[str, str, float], Tensor] = {}  # (attack, ball, eps) -> (N,) bool
        # the least eps known to break each image
        within = torch.full((len(self.x),), math.inf, dtype=torch.float64, device=self.x.device)
        within[self.clean] = 0.0
        self.within: dict[str, Tensor] = {ball: within.clone() for ball in budget.eps}  # (N,)
        self.near: dict[str, Tensor] = {}  # (N, ...): the nearest image found that is called something else
        self.found: list[Finding] = []

    def run(self, tell: Callable[[str], None]) -> list[Finding]:
        """All stages, in order."""
        self.add("nondeterminism", self.unsteadiness(), attack="audit")
        self.add("clean_error", self.clean, attack="audit")
        probable = (self.answers >= 0).all(1) & ((self.answers.sum(1) - 1).abs() < 1e-4)
        self.add("probability_share", probable, attack="audit")
        self.add("saturated_share", self.answers.softmax(1).amax(1) == 1, attack="audit")
        for stage in (self.single_steps, self.minimum_norms, self.descents, self.decisions, self.noises):
            tell(stage.__name__.replace("_", " "))
            stage()
        for (attack, ball, eps), hit in self.broken.items():
            self.add("attacked_error", hit, attack, ball, eps)
        for ball, radii in self.budget.eps.items():
            for eps in (*radii, *curve(radii)):
                self.add("attacked_error", self.worst(ball, eps), f"worst-{self.budget.images}", ball, eps)
        return self.found

    def single_steps(self) -> None:
        """The fast gradient method by cross-entropy, by margin and in float64, and the gradients it goes by."""
        for attack, meaning in SINGLE_STEPS.items():
            if meaning.float64 and not runs_in_float64(self.model, self.x):
                continue
            of, points = (in_float64(self.model), self.x.double()) if meaning.float64 else (self.model, self.x)
            found = input_gradient(of, points, self.y, loss=meaning.loss)
            self.add("zero_gradient_share", found.zero, attack)
            self.add("nonfinite_gradient_share", found.nonfinite, attack)
            for ball, eps in self.radii():
                for name in STEPS_IN[ball]:
                    delta = step(found.gradient, eps=eps, norm=BALLS[ball], l1=NORMS[name].l1)
                    self.strike(attack, ball, eps, self.x + delta.to(self.x.dtype))

    def noises(self) -> None:
        """What an image survives that nobody aimed at."""
        for kind in ("uniform", "gaussian"):
            for ball, eps in self.radii():
                for draw in range(self.budget.noise_draws):
                    moved = noise(self.x, eps=eps, norm=BALLS[ball], kind=kind, seed=draw)
                    self.strike(f"noise-{kind}-{self.budget.noise_draws}", ball, eps, moved)

    def minimum_norms(self) -> None:
        """How far the nearest image is that is called something else: one number an image, good for every eps."""
        steps = self.budget.minimum_norm_steps
        for ball, radii in self.budget.eps.items():
            attack = f"fmn-{steps * L1_TIMES if ball == 'L1' else steps}"
            self.near[ball], distance = minimum_norm(self.model, self.x, self.y, norm=BALLS[ball], steps=steps)
            self.within[ball] = torch.minimum(self.within[ball], distance)
            self.add("median_distance", distance.median(), attack, ball)
            for eps in radii:
                self.broken[attack, ball, eps] = distance <= eps

    def descents(self) -> None:
        """Projected gradient ascent; at the radius that breaks about half, more of it on the images that stood."""
        budget, everyone = self.budget, torch.ones_like(self.clean)
        for ball, radii in budget.eps.items():
            times = ASCENT_TIMES[ball]
            hits = {}
            for eps in radii:
                hits[eps] = self.ascend(ball, eps, times * budget.steps, times * budget.restarts, everyone)
            eps = min(radii, key=lambda eps: abs(hits[eps].double().mean().item() - 0.5))
            self.ascend(ball, eps, times * budget.more_steps, times * budget.more_restarts, ~hits[eps], seed=1)

    def decisions(self) -> None:
        """An attack that sees labels alone, beside all that see gradients, on the same few images."""
        few, steps = slice(self.budget.decision_images), self.budget.decision_steps
        if self.unsteadiness():  # it counts on every answer that it gets
            return
        for ball in (ball for ball in self.budget.eps if ball in ("L2", "Linf")):
            try:
                _, distance = decision_based(self.model, self.x[few], self.y[few], norm=BALLS[ball], steps=steps)
            except Unsteady:
                continue
            for eps in self.budget.eps[ball]:
                self.add("white_box_error", self.worst(ball, eps)[few], f"hsj-{steps}", ball, eps)
                self.add("attacked_error", distance <= eps, f"hsj-{steps}", ball, eps)
            self.within[ball][few] = torch.minimum(self.within[ball][few], distance)

    def unsteadiness(self) -> Tensor:
        """The largest difference of a logit between two passes, or in other company where that is beyond rounding."""
        again = (self.answers - self.ask(self.x)).abs().max()
        halves = torch.cat([self.ask(part) for part in self.x.tensor_split(2) if len(part)])
        apart = (self.answers - halves).abs().max()
        return again if apart <= 1e-3 * self.answers.abs().max() else torch.maximum(again, apart)

    def ascend(self, ball: str, eps: float, steps: int, restarts: int, on: Tensor, seed: int = 0) -> Tensor:
        """Which images fall to projected gradient ascent on some of them; the others count as fallen before."""
        moved = self.x.clone()
        if on.any():
            given, near = (self.model, self.x[on], self.y[on]), self.near[ball][on]
            moved[on] = pgd(*given, eps=eps, norm=BALLS[ball], steps=steps, restarts=restarts, near=near, seed=seed)
        attack = f"pgd-{steps}x{restarts}"
        self.strike(attack, ball, eps, moved, self.clean | ~on)
        return self.broken[attack, ball, eps]

    def strike(self, attack: str, ball: str, eps: float, moved: Tensor, fell: Tensor | None = None) -> None:
        """Images that are wrong after an attack, or were before, or fell to it earlier; of several tries, after any."""
        hit = wrong(self.ask(moved), self.y) | (self.clean if fell is None else fell)
        self.broken[attack, ball, eps] = hit | self.broken.get((attack, ball, eps), hit)
        self.within[ball] = torch.where(hit, self.within[ball].clamp_max(eps), self.within[ball])

    def worst(self, ball: str, eps: float) -> Tensor:
        """Each image's worst case over all attacks so far, at this eps or a smaller one: (N,) bool."""
        return self.within[ball] <= eps

    def ask(self, x: Tensor) -> Tensor:
        """The model's answer."""
        return answers(self.model, x)

    def radii(self) -> Iterator[tuple[str, float]]:
        """Every ball and radius."""
        return ((ball, eps) for ball, radii in self.budget.eps.items() for eps in radii)

    def add(self, measure: str, value: Tensor, attack: str, ball: str = "", eps: float = math.nan) -> None:
        """One figure more: a number, or the share of flags."""
        images = len(value) if value.ndim else len(self.x)
        self.found.append(Finding(measure, attack, ball, eps, value.double().mean().item(), images))
