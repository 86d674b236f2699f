"""The meanings of the fast gradient method, each against NumPy, and what tells them apart: a saturated softmax."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from attacks import MEANINGS, NORMS, fgm, input_gradient, meaning, measure_fgm
from attacks.gradients import objective

PIXELS, CLASSES = 12, 10


def softmax_regression(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(1)
    model = nn.Linear(PIXELS, CLASSES)
    with torch.no_grad():
        model.weight.mul_(scale)
        model.bias.mul_(scale)
    return model.to(dtype).eval()


def images(n: int = 40) -> Tensor:
    return torch.rand(n, PIXELS, generator=torch.Generator().manual_seed(n))


def test_a_name_says_a_meaning() -> None:
    assert MEANINGS == ("fgm", "fgm/true", "fgm/clip", "fgm/margin", "fgm/float64")
    assert vars(meaning("fgm")) == {"labels": "predicted", "clip": None, "loss": "cross-entropy", "float64": False}
    assert vars(meaning("fgm/margin/true/float64/clip")) == {
        "labels": "true",
        "clip": (0.0, 1.0),
        "loss": "margin",
        "float64": True,
    }


def test_the_margin_and_its_gradient_against_numpy() -> None:
    model, x, y = softmax_regression(dtype=torch.float64), images().double(), torch.arange(40) % CLASSES
    w, logits = model.weight.detach().numpy(), model(x).detach().numpy()
    others = np.where(np.eye(CLASSES, dtype=bool)[y.numpy()], -np.inf, logits)
    wanted = others.max(1) - logits[np.arange(40), y.numpy()]
    np.testing.assert_allclose(objective(model(x), y, "margin").detach().numpy(), wanted, rtol=1e-12)
    found = input_gradient(model, x, y, loss="margin").gradient
    np.testing.assert_allclose(found.numpy(), w[others.argmax(1)] - w[y.numpy()], rtol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_float64_takes_the_step_of_a_model_in_float64(name: str) -> None:
    model, x, norm = softmax_regression(), images(), NORMS[name]
    wanted = fgm(softmax_regression(dtype=torch.float64), x.double(), eps=0.3, norm=norm.order, l1=norm.l1)
    found = fgm(model, x, eps=0.3, norm=norm.order, l1=norm.l1, float64=True)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-6)
    assert next(model.parameters()).dtype == torch.float32


def test_where_the_softmax_saturates_margin_and_float64_still_see_the_direction() -> None:
    """Logits times 300: probabilities of other classes underflow in float32 and are still there in float64."""
    model, x = softmax_regression(scale=300), images()
    y = model(x).argmax(1)
    p = softmax(model(x).double().detach().numpy(), -1)
    lost = np.sort(p, -1)[:, -2] < 1e-45
    assert 0.2 < lost.mean() < 1
    gradients = {
        "cross-entropy": input_gradient(model, x).zero,
        "margin": input_gradient(model, x, loss="margin").zero,
        "float64": input_gradient(softmax_regression(300).double(), x.double()).zero,
    }
    assert gradients["cross-entropy"].numpy()[lost].all()
    assert not gradients["margin"].any()
    assert gradients["float64"].sum() < gradients["cross-entropy"].sum()
    # where 1 - p(y) rounds to nothing the label's own part is lost too: float64 has half of a gradient, the margin all
    exact = softmax_regression(300, torch.float64)
    w, p = exact.weight.detach().numpy(), softmax(exact(x.double()).detach().numpy(), -1)
    wanted = (p - np.eye(CLASSES)[y]) @ w
    alive = ~gradients["float64"].numpy()
    unit = wanted[alive] / np.linalg.norm(wanted[alive], axis=1, keepdims=True)
    delta = (fgm(model, x, eps=0.3, norm=2, float64=True) - x).double().numpy()[alive]
    np.testing.assert_allclose((delta * unit).sum(1), 0.3, rtol=1e-3)


@pytest.mark.parametrize("attack", [*MEANINGS, "fgm/true/margin/clip"])
@pytest.mark.parametrize("name", NORMS)
def test_measured_is_what_the_function_does(attack: str, name: str) -> None:
    """Two ways to one number: the errors that `measure_fgm` counts are those of the images that `fgm` makes."""
    model, x, y, norm = softmax_regression(scale=4), images(), torch.arange(40) % CLASSES, NORMS[name]
    options = {"loss": "margin"} if "margin" in attack else {}
    options |= {"float64": True} if "float64" in attack else {}
    options |= {"clip": (0.0, 1.0)} if "clip" in attack else {}
    options |= {"y": y} if "true" in attack else {}
    moved = fgm(model, x, eps=0.4, norm=norm.order, l1=norm.l1, **options)
    (found,) = measure_fgm(model, x, y, norms=[name], eps=[0.4], attack=attack)
    assert found.attack == attack
    assert found.attacked_error == pytest.approx((model(moved).argmax(1) != y).double().mean().item())
    assert found.mean_norm_ratio == pytest.approx(
        np.mean([np.linalg.norm(row, norm.order) / 0.4 for row in (moved - x).double().numpy()]), rel=1e-5
    )
