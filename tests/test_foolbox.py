"""What Foolbox 3.3.4 does where it is not sound: when a test here fails, its mended class in `attacks` can go."""

import math
import warnings

import eagerpy as ep
import numpy as np
import torch
from closed_form import Linear, dual_norm, lengths, problem
from torch import nn

from attacks.nearest import _HopSkipJump

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
    import foolbox


def within(model: nn.Module) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(model, bounds=(-1e4, 1e4), device="cpu")


def test_foolbox_own_l1_ascent_stops_far_short() -> None:
    """It spreads every step over all pixels and scales back, so it never leaves the direction of the gradient."""
    model, x, y = problem(784)
    theirs = foolbox.attacks.L1ProjectedGradientDescentAttack(random_start=False).run(within(model), x, y, epsilon=0.3)
    reached = ((theirs - x) @ model.weight).abs().detach().numpy() / (0.3 * dual_norm(model, 1))
    assert reached.max() < 0.6


def test_foolbox_own_ascent_hardly_moves_under_tiny_gradients() -> None:
    """It divides by no less than 1e-12."""
    model, x, y = problem(784, scale=1e-30)
    theirs = foolbox.attacks.L2ProjectedGradientDescentAttack(random_start=False).run(within(model), x, y, epsilon=0.3)
    assert lengths(theirs - x, 2).max() < 1e-3  # asked for: 0.3


def test_foolbox_own_l2_minimum_norm_attack_does_not_project() -> None:
    _, x, _ = problem(12)
    radius, inner = torch.full((30,), 0.1), foolbox.attacks.L2FMNAttack()
    kept = inner.project(ep.astensor(x + 1.0), ep.astensor(x), ep.astensor(radius)).raw
    assert lengths(kept - x, 2).min() > 1  # asked for: 0.1


def test_foolbox_own_minimum_norm_attacks_stop_at_a_linear_boundary_and_find_nothing() -> None:
    model, x, y = problem(12, n=200)
    found = foolbox.attacks.LInfFMNAttack(steps=200).run(within(model), x, y)
    assert (model(found).argmax(1) == y).any()


def test_foolbox_own_linf_noise_is_longer_than_asked() -> None:
    """It divides by the largest component, not by the largest in size."""
    x = torch.full((100, 5), 0.5)
    theirs = foolbox.attacks.LinfAdditiveUniformNoiseAttack().run(within(Linear(5)), x, torch.zeros(100), epsilon=0.1)
    assert lengths(theirs - x, math.inf).max() > 0.2


def test_foolbox_own_decision_based_steps_shrink_with_the_batch() -> None:
    model, x, y = problem(12)
    is_wrong = lambda moved: ep.astensor(model(moved.raw).argmax(1) != y)  # noqa: E731
    given = is_wrong, ep.astensor(x), 50, ep.astensor(torch.full((30,), 0.5))
    theirs, ours = (
        lengths(attack(constraint="l2").approximate_gradients(*given).raw, 2)
        for attack in (foolbox.attacks.HopSkipJumpAttack, _HopSkipJump)
    )
    np.testing.assert_allclose(np.linalg.norm(theirs), 1, rtol=1e-5)  # of the batch as a whole
    np.testing.assert_allclose(ours, 1, rtol=1e-5)
