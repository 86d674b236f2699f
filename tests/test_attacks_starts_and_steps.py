"""Where iterated attacks start, how they step and which point they keep, on models where each of these decides."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks import decision_based, pgd

every_norm = pytest.mark.parametrize("norm", [1, 2, math.inf])
LABELS = torch.zeros(40, dtype=torch.int64)


class Margin(nn.Module):
    """Two classes, logits (0, margin of x): an image of class 0 is broken where its margin is above 0.

    `visited` are the points that it was asked for, in order.
    """

    def __init__(self, margin: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.margin = margin
        self.visited: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.visited.append(x.detach().clone())
        margin = self.margin(x)
        return torch.stack([torch.zeros_like(margin), margin], 1)


def lengths(delta: Tensor, norm: float) -> np.ndarray:
    return np.array([np.linalg.norm(row.numpy().astype(np.float64), norm) for row in delta])


# ------------------------------------------------------------------------------------------------------- starts


@every_norm
def test_a_random_start_leaves_a_point_without_gradient_and_the_others_do_not(norm: float) -> None:
    """The margin grows with the distance from the image; nowhere on the ball's surface is it below (1/4 - 1/8)."""
    model, x = Margin(lambda x: (x - 0.5).square().sum(1) - 1 / 8), torch.full((6, 4), 0.5)
    assert torch.equal(pgd(model, x, LABELS[:6], eps=1.0, norm=norm, steps=4, restarts=1), x)
    model.visited.clear()
    x_adv = pgd(model, x, LABELS[:6], eps=1.0, norm=norm, steps=4, restarts=2)
    starts = [
        model.visited[k] for k in (1, 4, 10)
    ]  # one image; 1, 4 and 4 steps, after each the last point and the answer
    assert [len(np.unique(start.numpy(), axis=0)) for start in starts] == [1, 1, 6], (
        "each image has random starts of its own"
    )
    assert all(lengths(start - x, norm).max() <= 1 + 1e-6 for start in starts)
    assert (model.margin(x_adv) > 0).all()
    assert lengths(x_adv - x, norm).max() <= 1 + 1e-6


@pytest.mark.parametrize("norm", [2, math.inf])
def test_a_decision_based_attack_starts_at_the_nearest_image_of_another_class(norm: float) -> None:
    """Grey images, class 1 below 0.4 and above 0.9. Without a step, what comes back is where the way there crosses."""
    model = Margin(lambda x: torch.maximum(0.4 - x.mean(1), x.mean(1) - 0.9))
    grey = torch.tensor([0.5, 0.55, 0.82, 0.3, 1.0])
    x, y = grey[:, None].repeat(1, 64), torch.tensor([0, 0, 0, 1, 1])
    x_adv, distance = decision_based(model, x, y, norm=norm, steps=0)
    boundary = torch.tensor([0.4, 0.4, 0.9, 0.4, 0.9])
    wanted = lengths((grey - boundary)[:, None].repeat(1, 64), norm)
    np.testing.assert_allclose(distance.numpy(), wanted, rtol=0.05)
    np.testing.assert_allclose(x_adv.mean(1).numpy(), boundary.numpy(), atol=0.01)


# -------------------------------------------------------------------------------------------------------- steps


@every_norm
def test_an_image_comes_back_where_its_margin_was_largest_on_the_way(norm: float) -> None:
    """Waves that steps overshoot, never high enough to break: the first start, a quarter of the steps, is kept."""
    model, n = Margin(lambda x: torch.sin(30 * x).sum(1) - 4), 40
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    x_adv = pgd(model, x, LABELS, eps=0.3, norm=norm, steps=20, losses=("margin",))
    way = torch.stack(model.visited[1:7]).numpy().astype(np.float64)  # (start and 5 steps, images, pixels)
    margins = np.sin(30 * way).sum(2) - 4
    np.testing.assert_array_equal(way[0], x.numpy())
    np.testing.assert_allclose(np.sin(30 * x_adv.numpy().astype(np.float64)).sum(1) - 4, margins.max(0), atol=1e-5)
    assert (margins[-1] < margins.max(0) - 0.1).sum() > 5, "of some the last point is not the best"
    assert (margins[-1] > margins[:-1].max(0) + 1e-3).sum() > 5, "of some it is"


@every_norm
@pytest.mark.parametrize("peak", [0.27, 0.45, 0.56, 0.68])
def test_steps_settle_on_a_peak_that_is_far_narrower_than_the_ball(norm: float, peak: float) -> None:
    """Steps of one size would go to and fro between 0.2, 0.5 and 0.8, where the ball ends."""
    model, x = Margin(lambda x: 0.01 - (x[:, 0] - peak).abs()), torch.full((1, 1), 0.5)
    assert model.margin(pgd(model, x, LABELS[:1], eps=0.3, norm=norm)).item() > 0


@every_norm
def test_steps_shrink_along_half_a_cosine(norm: float) -> None:
    """From 2 eps (in L1 eps) to nothing; projection shortens only those that would leave the ball."""
    model, x = Margin(lambda x: -(x[:, 0] - 0.5127).abs() - 1), torch.full((1, 1), 0.5)
    pgd(model, x, LABELS[:1], eps=0.3, norm=norm, steps=40)
    way = torch.cat(model.visited[13 : 13 + 41]).numpy()[
        :, 0
    ]  # after one image, 10 steps, their last point and its answer
    assert way[0] == 0.5
    whole = 0.3 * (1 if norm == 1 else 2) * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
    inside = np.abs(way[1:] - 0.5) < 0.3 - 1e-4
    assert inside.sum() >= 20
    np.testing.assert_allclose(np.abs(np.diff(way))[inside], whole[inside], atol=1e-6)
    assert (np.abs(np.diff(way)) <= whole + 1e-6).all()


def test_l1_ascent_begins_on_one_pixel_and_goes_on_along_the_gradient() -> None:
    """Gradient (6, 3, 2) / 7, eps 0.21. Its nearest point of the ball has all three pixels: (14, 5, 2) / 21 of eps."""
    gradient, x = torch.tensor([6.0, 3.0, 2.0]) / 7, torch.full((1, 3), 0.5)
    linear = Margin(lambda x: (x - 0.5) @ gradient - 1)
    x_adv = pgd(linear, x, LABELS[:1], eps=0.21, norm=1, steps=1)
    np.testing.assert_allclose((x_adv - x).numpy(), [[0.21, 0, 0]], atol=1e-6)
    joint = Margin(lambda x: (x - 0.5) @ gradient - 1 + 2 * (x > 0.51).all(1))  # breaks where every pixel has moved
    x_adv = pgd(joint, x, LABELS[:1], eps=0.21, norm=1, steps=1)
    np.testing.assert_allclose((x_adv - x).numpy(), [[0.14, 0.05, 0.02]], atol=1e-6)
