"""FGM on models whose answer is known in closed form. Its second opinions are in test_attacks_oracles.py."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import Of

from attacks import NORMS, Norm, fgm, input_gradient, measure_fgm, step

PIXELS = 12
SHAPES = {1: (PIXELS,), 2: (3, 4), 3: (1, 3, 4)}  # rank of one image -> its shape
F64 = torch.float64
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())


def linear(classes: int, *, scale: float = 1.0, dtype: torch.dtype = F64, seed: int = 0) -> nn.Sequential:
    """logits = scale * (W (x - 1/2) + b) for images of any rank and 12 pixels, so that every class occurs."""
    layer = nn.Linear(PIXELS, classes, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(classes, PIXELS, generator=generator))
        noise = 0.1 * scale * torch.randn(classes, generator=generator)
        layer.bias.copy_(noise - layer.weight @ torch.full((PIXELS,), 0.5, dtype=dtype))
    return nn.Sequential(nn.Flatten(), layer).eval()


def mlp(dtype: torch.dtype = F64) -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Flatten(), nn.Linear(PIXELS, 30), nn.LeakyReLU(0.1), nn.Linear(30, 10)]
    model = nn.Sequential(*layers).to(dtype).eval()
    with torch.no_grad():
        model[3].weight.mul_(4)  # confident here and there, as a trained net is
    return model


def images(n: int, rank: int = 1, dtype: torch.dtype = F64) -> Tensor:
    return torch.rand(n, *SHAPES[rank], dtype=dtype, generator=torch.Generator().manual_seed(n))


def lengths(delta: Tensor, order: float) -> np.ndarray:
    return np.array([np.linalg.norm(row.numpy().ravel(), order) for row in delta])


def steepest(direction: np.ndarray, norm: Norm) -> np.ndarray:
    """The step of length 1 for the gradient of one image, from the definition."""
    if norm == NORMS["Linf"]:
        return np.sign(direction)
    if norm == NORMS["L1-pixel"]:
        step = np.zeros_like(direction)
        step[np.abs(direction).argmax()] = np.sign(direction[np.abs(direction).argmax()])
        return step
    return direction / np.linalg.norm(direction, norm.order)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@every_norm
def test_margin_of_two_classes_moves_by_eps_times_the_dual_norm(norm: Norm, batch_size: int, rank: int) -> None:
    model, x, eps = linear(2), images(8, rank), 0.3
    w = (model[1].weight[1] - model[1].weight[0]).detach().numpy()  # margin = w x + c
    dual = {1: np.abs(w).max(), 2: np.sqrt((w**2).sum()), math.inf: np.abs(w).sum()}[norm.order]
    if norm == NORMS["L1-spread"]:
        dual = (w**2).sum() / np.abs(w).sum()  # not the dual norm: spreading is not the steepest L1 step

    x_adv = fgm(model, x, eps=eps, norm=norm.order, l1=norm.l1, batch_size=batch_size)

    with torch.no_grad():
        before, after = (model(v).numpy() @ [-1, 1] for v in (x, x_adv))
    assert {True, False} == set(before > 0)  # both classes are attacked
    np.testing.assert_allclose(after - before, -np.sign(before) * eps * dual, rtol=1e-12)
    expected = -np.sign(before)[:, None] * eps * steepest(w, norm)
    np.testing.assert_allclose((x_adv - x).flatten(1).numpy(), expected, rtol=0, atol=1e-15)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, F64)


@pytest.mark.parametrize("rank", SHAPES)
@every_norm
def test_ten_classes_step_along_softmax_minus_one_hot(norm: Norm, rank: int) -> None:
    model, x, y = linear(10), images(8, rank), torch.arange(8)
    w, b = (p.detach().numpy() for p in (model[1].weight, model[1].bias))
    x_adv = fgm(model, x, eps=0.7, norm=norm.order, l1=norm.l1, y=y, batch_size=3)
    found = input_gradient(model, x, y, batch_size=3)
    for i, pixels in enumerate(x.flatten(1).numpy()):
        weights = np.exp(w @ pixels + b)
        gradient = (weights / weights.sum() - np.eye(10)[i]) @ w
        np.testing.assert_allclose(found.gradient[i].flatten().numpy(), gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.logits[i].numpy(), w @ pixels + b, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose((x_adv - x)[i].flatten().numpy(), 0.7 * steepest(gradient, norm), rtol=0, atol=1e-13)


@every_norm
def test_default_labels_are_the_predictions(norm: Norm) -> None:
    model, x = linear(10), images(8)
    predicted = torch.from_numpy(model(x).detach().numpy().argmax(1))
    asked = {"eps": 0.3, "norm": norm.order, "l1": norm.l1}
    x_adv = fgm(model, x, **asked)
    assert torch.equal(x_adv, fgm(model, x, y=predicted, **asked))
    assert not torch.equal(x_adv, fgm(model, x, y=(predicted + 1) % 10, **asked))
    assert torch.equal(input_gradient(model, x).labels, predicted)


@every_norm
def test_neither_batch_size_nor_company_changes_the_step(norm: Norm) -> None:
    model, x = mlp(), images(50)
    shuffle = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    asked = {"eps": 0.3, "norm": norm.order, "l1": norm.l1}
    alone = fgm(model, x, batch_size=1, **asked) - x
    together = fgm(model, x, batch_size=1000, **asked) - x
    unshuffled = torch.empty_like(x)
    unshuffled[shuffle] = fgm(model, x[shuffle], batch_size=7, **asked)
    np.testing.assert_allclose(together.numpy(), alone.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((unshuffled - x).numpy(), alone.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lengths(alone, norm.order), 0.3, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@every_norm
def test_zero_gradients_leave_the_image_and_are_counted(norm: Norm, dtype: torch.dtype) -> None:
    constant = linear(3, scale=0.0, dtype=dtype)
    x, y = images(4, dtype=dtype), torch.tensor([0, 1, 2, 0])
    name = next(name for name, value in NORMS.items() if value == norm)
    assert torch.equal(fgm(constant, x, eps=0.3, norm=norm.order, l1=norm.l1), x)
    (found,) = measure_fgm(constant, x, y, norms=[name], eps=[0.3])
    assert (found.zero_gradient_share, found.nonfinite_gradient_share) == (1, 0)
    assert (found.mean_norm_ratio, found.short_share) == (0, 1)
    assert found.clean_error == found.attacked_error == 0.5  # class 0 wins the tie


@every_norm
def test_part_zero_part_nonfinite_batch_moves_only_the_rest(norm: Norm) -> None:
    # below 0 both logits are flat; the square root has an infinite slope at 0
    model = Of(lambda x: torch.stack([x.relu().sum(1), x.clamp(min=0).sqrt().sum(1)], 1))
    x = torch.full((4, PIXELS), 0.5, dtype=F64) + 0.01 * torch.arange(PIXELS, dtype=F64)
    x[1] = -1.0
    x[2, 5] = 0.0
    x[3, 2] = -1.0  # one flat pixel is no zero gradient
    y = torch.tensor([1, 0, 1, 0])
    name = next(name for name, value in NORMS.items() if value == norm)
    gradient = input_gradient(model, x)
    assert gradient.zero.tolist() == [False, True, False, False]
    assert gradient.nonfinite.tolist() == [False, False, True, False]
    x_adv = fgm(model, x, eps=0.1, norm=norm.order, l1=norm.l1)
    np.testing.assert_allclose(lengths(x_adv - x, norm.order), [0.1, 0, 0, 0.1], rtol=1e-12)
    (found,) = measure_fgm(model, x, y, norms=[name], eps=[0.1])
    assert (found.zero_gradient_share, found.nonfinite_gradient_share) == (0.25, 0.25)
    assert (found.mean_norm_ratio, found.short_share) == (pytest.approx(0.5, rel=1e-12), 0.5)


def test_saturated_logits_underflow_and_the_measurement_says_so() -> None:
    x, y = images(200, dtype=torch.float32), torch.zeros(200, dtype=torch.int64)
    healthy, saturated = linear(10, dtype=torch.float32), linear(10, scale=1e4, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(healthy(x).argmax(1), saturated(x).argmax(1))  # the same decision boundary
    sound = measure_fgm(healthy, x, y, norms=list(NORMS), eps=[1.0])
    for found, other in zip(measure_fgm(saturated, x, y, norms=list(NORMS), eps=[1.0]), sound, strict=True):
        assert found.zero_gradient_share > 0.9
        assert found.mean_norm_ratio == pytest.approx(1 - found.zero_gradient_share, abs=1e-5)
        assert found.short_share == found.zero_gradient_share
        assert found.clean_error == other.clean_error
        assert other.zero_gradient_share == 0


@pytest.mark.parametrize("ties", [1, 2, 3, 11, 12])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_tied_pixels_share_eps(ties: int, dtype: torch.dtype) -> None:
    gradient = torch.full((2, PIXELS), 0.25, dtype=dtype)
    gradient[0, :ties] = -0.5
    gradient[1, 0] = 0.75  # a row without ties in the same batch
    delta = step(gradient, eps=0.3, norm=1, l1="pixel")
    expected = np.zeros((2, PIXELS))
    expected[0, :ties] = -0.3 / ties
    expected[1, 0] = 0.3
    np.testing.assert_allclose(delta.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@every_norm
def test_parameters_and_modes_are_left_as_found(norm: Norm, dtype: torch.dtype) -> None:
    model, x = mlp(dtype), images(5, dtype=dtype).requires_grad_()
    model[1].weight.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        x_adv = fgm(model, x, eps=0.3, norm=norm.order, l1=norm.l1)
    with torch.inference_mode():
        x_there, y_there = x.clone(), model(x).argmax(1)
        assert torch.equal(x_adv, fgm(model, x_there, eps=0.3, norm=norm.order, l1=norm.l1))
    assert torch.equal(x_adv, fgm(model, x_there, y=y_there, eps=0.3, norm=norm.order, l1=norm.l1))
    again = fgm(model, x, eps=0.3, norm=norm.order, l1=norm.l1)
    assert torch.equal(x_adv, again)
    assert not again.requires_grad
    assert x_adv.dtype == dtype
    assert x.grad is None
    assert [p.grad for p in model.parameters()] == [None] * 4
    assert [p.requires_grad for p in model.parameters()] == flags == [False, True, True, True]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@every_norm
def test_clip_bounds_the_result_and_is_seen_in_the_measured_length(norm: Norm) -> None:
    model, x, y = linear(10), images(20), torch.zeros(20, dtype=torch.int64)
    name = next(name for name, value in NORMS.items() if value == norm)
    free = fgm(model, x, eps=2.0, norm=norm.order, l1=norm.l1).numpy()
    x_adv = fgm(model, x, eps=2.0, norm=norm.order, l1=norm.l1, clip=(0, 1)).numpy()
    assert (free.min() < 0) or (free.max() > 1)
    np.testing.assert_array_equal(x_adv, np.minimum(np.maximum(free, 0), 1))
    (found,) = measure_fgm(model, x, y, norms=[name], eps=[2.0], attack="fgm/clip")
    ratio = [np.linalg.norm(row, norm.order) / 2.0 for row in x_adv - x.numpy()]
    assert found.mean_norm_ratio == pytest.approx(np.mean(ratio), rel=1e-12)
    assert found.mean_norm_ratio < 0.999
    assert found.short_share == np.mean(np.array(ratio) < 0.999) > 0


def test_defaults_are_the_spread_l1_without_clipping() -> None:
    model, x = linear(10), images(4)
    assert torch.equal(fgm(model, x, eps=5.0, norm=1), fgm(model, x, eps=5.0, norm=1, l1="spread"))
    assert fgm(model, x, eps=5.0, norm=math.inf).max() > 1
    assert torch.equal(fgm(model, x, eps=0, norm=2), x)


def test_norms_are_values_with_one_name_each() -> None:
    assert list(NORMS) == ["L1-spread", "L1-pixel", "L2", "Linf"]
    assert len(set(NORMS.values())) == 4
    assert all(a.order <= b.order for a, b in pairwise(NORMS.values()))


def test_import_is_light_and_silent() -> None:
    heavy = "{'tensorflow', 'torchvision', 'jax', 'benchmark', 'zoo', 'reports'}"
    code = f"import attacks, sys; print(sorted({heavy} & {{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_norm
def test_cuda_agrees_with_cpu_and_stays_there(norm: Norm) -> None:
    model, x, y = mlp(), images(20), torch.arange(20) % 10
    name = next(name for name, value in NORMS.items() if value == norm)
    here = fgm(model, x, eps=0.3, norm=norm.order, l1=norm.l1)
    (expected,) = measure_fgm(model, x, y, norms=[name], eps=[0.3], batch_size=6)
    model.cuda()
    there = fgm(model, x.cuda(), eps=0.3, norm=norm.order, l1=norm.l1)
    assert there.is_cuda
    np.testing.assert_allclose(there.cpu().numpy(), here.numpy(), rtol=1e-9)
    (found,) = measure_fgm(model, x.cuda(), y, norms=[name], eps=[0.3], batch_size=6)
    assert found.attacked_error == expected.attacked_error
    assert found.mean_norm_ratio == pytest.approx(expected.mean_norm_ratio, rel=1e-9)
