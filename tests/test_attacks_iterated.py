"""Iterated, minimum-norm and decision-based attacks and noise, where their optimum is known in closed form."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from closed_form import (
    DUAL,
    Blind,
    Constant,
    Fickle,
    Linear,
    Sphere,
    Walled,
    Weighted,
    dual_norm,
    every_norm,
    lengths,
    margins,
    problem,
)
from torch import Tensor

from attacks import decision_based, minimum_norm, noise, pgd
from attacks.nearest import Unsteady

# ------------------------------------------------------------------------------------------------ in closed form


@every_norm
@pytest.mark.parametrize("shape", [(784,), (1, 28, 28)])
def test_ascent_reaches_the_optimum_and_stays_in_the_ball(norm: float, shape: tuple[int, ...]) -> None:
    model, x, y = problem(784)
    x_adv = pgd(model, x.view(-1, *shape), y, eps=0.3, norm=norm, batch_size=7)
    assert x_adv.shape == (30, *shape)
    delta = x_adv.flatten(1) - x
    sign = torch.where(y == 0, -1.0, 1.0)  # against the label
    moved = (delta @ model.weight.detach() * sign).numpy()
    np.testing.assert_allclose(moved, 0.3 * dual_norm(model, norm), rtol=1e-5)
    assert lengths(delta, norm).max() <= 0.3 * (1 + 1e-5)


@every_norm
def test_random_starts_are_in_the_ball_and_reach_the_optimum_too(norm: float) -> None:
    model, x, y = problem(50, n=200)
    eps = 0.02 / dual_norm(model, norm) * 50
    right = margins(model, x) > eps * dual_norm(model, norm)
    assert 0 < right.sum() < 200
    x_adv = pgd(model, x, y, eps=eps, norm=norm, restarts=3)
    np.testing.assert_array_equal((model(x_adv).argmax(1) == y).numpy(), right)
    assert lengths(x_adv - x, norm).max() <= eps * (1 + 1e-5)


@every_norm
@pytest.mark.parametrize("pixels", [12, 100, 784])
def test_the_nearest_wrong_image_is_as_near_as_it_can_be(norm: float, pixels: int) -> None:
    model, x, y = problem(pixels)
    x_adv, distance = minimum_norm(model, x, y, norm=norm, steps=100, batch_size=16)
    wanted = margins(model, x) / dual_norm(model, norm)
    np.testing.assert_allclose(distance.numpy(), wanted, rtol=0.01)
    np.testing.assert_allclose(lengths(x_adv - x, norm), distance.numpy(), rtol=1e-6)
    assert (model(x_adv).argmax(1) != y).all()


@every_norm
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_nearest_of_several_classes_is_found(norm: float, classes: int, seed: int) -> None:
    """Of ten the fast minimum norm attack alone is up to 30 % too far in L1, 5 in the others."""
    generator = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(784, classes, generator=generator), torch.rand(20, 784, generator=generator)
    model = Weighted(weight)
    y = model(x).argmax(1)
    _, distance = minimum_norm(model, x, y, norm=norm, steps=40)
    w, logits = weight.double().numpy(), ((x.double() - 0.5) @ weight.double()).numpy()
    wanted = [
        min(
            (row[own] - row[other]) / np.linalg.norm(w[:, other] - w[:, own], DUAL[norm])
            for other in range(classes)
            if other != own
        )
        for row, own in zip(logits, y.tolist(), strict=True)
    ]
    np.testing.assert_allclose(distance.numpy(), wanted, rtol=0.01)


@every_norm
def test_what_was_found_beyond_the_boundary_comes_back_to_it(norm: float) -> None:
    """On a curved boundary, the sphere of radius 1 around the images, no straight step ends."""
    x = torch.full((5, 6), 0.5) + 0.05 * torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    x_adv, distance = minimum_norm(Sphere(), x, torch.zeros(5, dtype=torch.int64), norm=norm, steps=3)
    radius = (x_adv - 0.5).square().sum(1).sqrt()
    np.testing.assert_allclose(radius.numpy(), 1, rtol=1e-3)
    assert (radius > 1).all()
    np.testing.assert_allclose(lengths(x_adv - x, norm), distance.numpy(), rtol=1e-6)


@every_norm
def test_ascent_keeps_a_point_without_an_answer(norm: float) -> None:
    """Outside [0, 1] the model answers NaN, which is wrong; inside, nothing is: the way there is all that counts."""
    model, x, y = Blind().eval(), torch.full((8, 20), 0.5), torch.zeros(8, dtype=torch.int64)
    x_adv = pgd(model, x, y, eps=12.0, norm=norm, steps=8)
    assert model(x_adv).isnan().any(1).all()


@every_norm
def test_ascent_can_start_near_a_point(norm: float) -> None:
    """Beyond a wall that no gradient crosses, the point itself, if it is in the ball, or its nearest there, is kept."""
    model, x, y = Walled().eval(), torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64)
    near = torch.zeros(4, 9)
    near[:, 0] = torch.tensor([1.5, 2.0, 3.0, 9.0])
    assert torch.equal(pgd(model, x, y, eps=2.5, norm=norm, restarts=1), x)
    x_adv = pgd(model, x, y, eps=2.5, norm=norm, restarts=1, near=near)
    assert (model(x_adv).argmax(1) == 1).all()
    assert lengths(x_adv, norm).max() <= 2.5 * (1 + 1e-5)
    assert (model(pgd(model, x, y, eps=0.9, norm=norm, restarts=1, near=near)).argmax(1) == 0).all()


@pytest.mark.parametrize("norm", [2, math.inf])
def test_labels_alone_lead_near_the_boundary_and_never_through_it(norm: float) -> None:
    model, x, y = problem(12)
    x_adv, distance = decision_based(model, x, y, norm=norm, steps=40)
    ratio = distance.numpy() / (margins(model, x) / dual_norm(model, norm))
    assert ratio.min() > 0.9999
    assert np.median(ratio) < 1.05
    assert (model(x_adv).argmax(1) != y).all()
    assert (x_adv >= 0).all()
    assert (x_adv <= 1).all()


@every_norm
@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_noise_has_its_norm_and_is_that_of_its_seed(norm: float, kind: str) -> None:
    x = torch.rand(20, 1, 5, 6)
    delta = noise(x, eps=0.7, norm=norm, kind=kind, seed=3) - x
    np.testing.assert_allclose(lengths(delta, norm), 0.7, rtol=1e-5)
    assert torch.equal(noise(x, eps=0.7, norm=norm, kind=kind, seed=3) - x, delta)
    assert not torch.equal(noise(x, eps=0.7, norm=norm, kind=kind, seed=4) - x, delta)
    clipped = noise(x, eps=0.7, norm=norm, kind=kind, seed=3, clip=(0, 1))
    assert torch.equal(clipped, (x + delta).clamp(0, 1))


def test_uniform_noise_is_flat_and_gaussian_noise_is_not() -> None:
    """Kurtosis 1.8 and 3."""
    x = torch.zeros(4, 50_000)
    for kind, kurtosis in (("uniform", 1.8), ("gaussian", 3.0)):
        rows = noise(x, eps=1.0, norm=2, kind=kind)
        found = rows.pow(4).mean(1) / rows.square().mean(1).square()
        np.testing.assert_allclose(found.numpy(), kurtosis, rtol=0.05)


# ------------------------------------------------------------------------------------------------------ contract


@every_norm
def test_what_is_wrong_already_is_at_distance_zero_and_what_cannot_be_found_is_infinitely_far(norm: float) -> None:
    model, x, y = problem(12)
    y = torch.where(torch.arange(30) < 5, 1 - y, y)
    found, distance = minimum_norm(model, x, y, norm=norm)
    assert (distance[:5] == 0).all()
    assert (distance[5:] > 0).all()
    assert torch.equal(found[:5], x[:5])
    for attack in (minimum_norm, decision_based)[: 1 + (norm != 1)]:
        found, distance = attack(Constant().eval(), x, torch.ones(30, dtype=torch.int64), norm=norm)
        assert distance.isinf().all()
        assert torch.equal(found, x)


@pytest.mark.parametrize("scale", [1e-30, 1e-10])
@every_norm
def test_tiny_gradients_lead_as_far_as_others(norm: float, scale: float) -> None:
    model, x, y = problem(40, scale=scale)
    same, _, _ = problem(40)
    found, wanted = (pgd(of, x, y, eps=0.1, norm=norm) for of in (model, same))
    np.testing.assert_allclose((found - x).numpy(), (wanted - x).numpy(), atol=1e-5)


def test_clip_bounds_every_result() -> None:
    model, x, y = problem(12)
    assert (pgd(model, x, y, eps=2.0, norm=math.inf, clip=(0, 1)) - 0.5).abs().max() <= 0.5
    assert (pgd(model, x, y, eps=2.0, norm=math.inf) - 0.5).abs().max() > 1
    assert (minimum_norm(model, x, y, norm=2, clip=(0, 1))[0] - 0.5).abs().max() <= 0.5


@pytest.mark.parametrize(
    "attack",
    [
        lambda model, x, y: pgd(model, x, y, eps=0.01, norm=2, restarts=3, steps=3),
        lambda model, x, y: decision_based(model, x, y, norm=2, steps=3)[0],
    ],
    ids=["pgd", "decision_based"],
)
def test_randomness_is_that_of_the_seed_and_leaves_the_global_stream_alone(attack: Callable[..., Tensor]) -> None:
    torch.manual_seed(7)
    before, first = torch.get_rng_state(), attack(*problem(12))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert torch.equal(attack(*problem(12)), first)


@pytest.mark.parametrize(
    "attack",
    [
        lambda model, x, y: pgd(model, x, y, eps=0.01, norm=2, steps=3),
        lambda model, x, y: minimum_norm(model, x, y, norm=2, steps=3)[0],
        lambda model, x, y: decision_based(model, x, y, norm=2, steps=1)[0],
    ],
    ids=["pgd", "minimum_norm", "decision_based"],
)
def test_a_model_that_draws_noise_draws_it_from_the_seeds_stream(attack: Callable[..., Tensor]) -> None:
    model, x, y = problem(12)
    model.register_forward_hook(lambda module, inputs, logits: logits + 1e-6 * torch.rand(1))
    torch.manual_seed(8)
    before, first = torch.get_rng_state(), attack(model, x, y)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, x)
    torch.manual_seed(9)
    assert torch.equal(attack(model, x, y), first)


@every_norm
@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_gradients_are_on_within_and_leave_nothing_behind(norm: float, switched_off: Callable[[], Any]) -> None:
    model, x, y = problem(12)
    wanted = pgd(model, x, y, eps=0.1, norm=norm), *minimum_norm(model, x, y, norm=norm)
    with switched_off():
        x, y = x.clone(), y.clone()
        found = pgd(model, x, y, eps=0.1, norm=norm), *minimum_norm(model, x, y, norm=norm)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert model.weight.grad is None
    assert model.weight.requires_grad


def test_errors_say_what_was_expected_and_what_came() -> None:
    model, x, y = problem(12)
    for message, call in {
        "expected norm 1, 2 or inf, got 3": lambda: pgd(model, x, y, eps=0.1, norm=3),
        "expected a finite eps >= 0, got -1": lambda: pgd(model, x, y, eps=-1, norm=2),
        "expected steps >= 1, got 0": lambda: pgd(model, x, y, eps=0.1, norm=2, steps=0),
        "expected at least one loss to climb, got none": lambda: pgd(model, x, y, eps=0.1, norm=2, losses=()),
        "expected near as x is, torch.float32 (30, 12), got torch.float32 (29, 12)": lambda: pgd(
            model, x, y, eps=0.1, norm=2, near=x[1:]
        ),
        "expected finite near, got 360 values that are not": lambda: pgd(
            model, x, y, eps=0.1, norm=2, near=x * math.nan
        ),
        "expected steps >= 1, got -1": lambda: minimum_norm(model, x, y, norm=2, steps=-1),
        "expected restarts >= 1, got 0": lambda: pgd(model, x, y, eps=0.1, norm=2, restarts=0),
        "expected labels from 0 to 1, got 0 to 2": lambda: minimum_norm(model, x, y.index_fill(0, y[:1], 2), norm=2),
        "expected loss to be 'cross-entropy' or 'margin', got 'dlr'": lambda: pgd(
            model, x, y, eps=0.1, norm=2, losses=["dlr"]
        ),
        "expected norm 2 or inf for a decision-based attack, got 1": lambda: decision_based(model, x, y, norm=1),
        "expected x within clip (0.0, 1.0), got values from 0 to 2": lambda: decision_based(
            model, torch.linspace(0, 2, 360).view(30, 12), y, norm=2
        ),
        "expected kind 'uniform' or 'gaussian', got 'salt'": lambda: noise(x, eps=0.1, norm=2, kind="salt"),
        "expected y of shape (30,), got (29,)": lambda: minimum_norm(model, x, y[1:], norm=2),
        "expected a model in evaluation mode (model.eval()), got training mode": lambda: pgd(
            Linear(12).train(), x, y, eps=0.1, norm=2
        ),
    }.items():
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
            call()
        assert str(caught.value) == message


@pytest.mark.parametrize("times", [2, 3])
def test_labels_that_change_are_no_crash(times: int) -> None:
    """Foolbox wants starting points to be wrong, and asserts that a point which was wrong is wrong when asked again."""
    x = torch.linspace(0.1, 0.9, 7)[:, None].repeat(1, 12)
    with pytest.raises(Unsteady, match="expected the same answers to the same images in any company, got others"):
        decision_based(Fickle(times), x, (x.mean(1) > 0.5).long(), norm=2, steps=5)
