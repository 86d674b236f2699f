"""FGM beside Foolbox, beside CleverHans' own attack where that is sound, and beside a loop in numpy."""

import math
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.utils import optimize_linear
from torch import Tensor, nn

from attacks import NORMS, fast_gradient, fgm, measure_fgm, step

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
    import foolbox

PIXELS, CLASSES = 20, 10


def mlp(logit_scale: float = 1.0) -> nn.Sequential:
    """A float32 net whose loss has gradients of ordinary size at logit_scale 1."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(PIXELS, 40), nn.Tanh(), nn.Linear(40, CLASSES))
    with torch.no_grad():
        model[2].weight.mul_(3 * logit_scale)
        model[2].bias.mul_(3 * logit_scale)
    return model.eval()


def images(n: int) -> Tensor:
    return torch.rand(n, PIXELS, generator=torch.Generator().manual_seed(n))


class Tiny(nn.Module):
    """Two classes whose logits hardly depend on x: gradients of size `scale` in every pixel's own proportion."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * torch.linspace(-2, 3, PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        margin = x @ self.weight
        return torch.stack([margin, torch.zeros_like(margin)], 1)


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (foolbox.attacks.L1FastGradientAttack, 1),
        (foolbox.attacks.L2FastGradientAttack, 2),
        (foolbox.attacks.LinfFastGradientAttack, math.inf),
    ],
)
def test_foolbox_agrees(attack: type, norm: float) -> None:
    model, x = mlp(), images(64)
    wide = foolbox.PyTorchModel(model, bounds=(-100, 100), device="cpu")
    _, theirs, _ = attack()(wide, x, model(x).argmax(1), epsilons=0.3)
    ours = fgm(model, x, eps=0.3, norm=norm)
    np.testing.assert_allclose((ours - x).numpy(), (theirs - x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("y", [None, torch.arange(8)], ids=["predicted", "given"])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_cleverhans_agrees_on_a_small_batch_of_healthy_gradients(norm: float, y: Tensor | None) -> None:
    model, x = mlp(), images(8)
    theirs = fast_gradient_method(model, x, 0.3, norm, y=y)
    ours = fgm(model, x, eps=0.3, norm=norm, l1="pixel", y=y)
    np.testing.assert_allclose((ours - x).numpy(), (theirs - x).detach().numpy(), rtol=1e-5, atol=1e-6)
    clipped = fast_gradient_method(model, x, 0.3, norm, 0.0, 1.0, y=y)
    ours = fgm(model, x, eps=0.3, norm=norm, l1="pixel", y=y, clip=(0, 1))
    np.testing.assert_allclose(ours.numpy(), clipped.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1.0])
def test_tiny_gradients_give_full_steps_here(scale: float, name: str) -> None:
    model, x, norm = Tiny(scale).eval(), images(6), NORMS[name]
    delta = fgm(model, x, eps=0.3, norm=norm.order, l1=norm.l1) - x
    lengths = [np.linalg.norm(row.numpy().astype(np.float64), norm.order) for row in delta]
    np.testing.assert_allclose(lengths, 0.3, rtol=1e-6)
    with torch.no_grad():
        sign = -torch.sign(x @ model.weight)  # away from the predicted class
    cosine = torch.nn.functional.cosine_similarity(
        delta, fgm(Tiny(1.0).eval(), x, eps=0.3, norm=norm.order, l1=norm.l1) - x
    )
    np.testing.assert_allclose(cosine.numpy(), 1, rtol=1e-5)
    assert torch.equal(torch.sign(delta @ (model.weight / scale)), sign)


def test_cleverhans_own_l2_step_is_short_for_tiny_gradients() -> None:
    model, x = Tiny(1e-20).eval(), images(6)
    delta = (fast_gradient_method(model, x, 0.3, 2) - x).detach()
    assert torch.linalg.vector_norm(delta, dim=1).max() < 1e-10  # asked for: 0.3


def test_cleverhans_own_l2_step_depends_on_its_batch_size_and_ours_does_not() -> None:
    model, x = Tiny(1e-5).eval(), images(1000)
    theirs, ours = (
        [torch.linalg.vector_norm(attack(part) - part, dim=1)[0].item() for part in (x[:1], x)]
        for attack in (
            lambda part: fast_gradient_method(model, part, 0.3, 2).detach(),
            lambda part: fgm(model, part, eps=0.3, norm=2),
        )
    )
    assert theirs[0] == pytest.approx(0.3, rel=1e-5)
    assert theirs[1] < 0.1
    assert ours == pytest.approx([0.3, 0.3], rel=1e-6)


def test_cleverhans_own_l1_step_fails_on_one_zero_gradient_and_ours_does_not() -> None:
    model, x = nn.Sequential(nn.ReLU(), mlp()).eval(), images(4)
    x[2] = -1.0
    with pytest.raises(AssertionError):
        fast_gradient_method(model, x, 0.3, 1)
    delta = fgm(model, x, eps=0.3, norm=1, l1="pixel") - x
    np.testing.assert_allclose(delta.abs().sum(1).numpy(), [0.3, 0.3, 0, 0.3], rtol=1e-6)


def test_cleverhans_own_step_fails_on_one_gradient_that_is_not_finite_and_ours_does_not() -> None:
    """In L1 and L2 it takes the whole batch with it; in L-infinity that image gets part of a step."""
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    gradient[1, 2] = torch.nan
    for norm in (1, 2):
        with pytest.raises(AssertionError):
            optimize_linear(gradient, 0.3, norm)
    assert optimize_linear(gradient, 0.3, torch.inf)[1].abs().tolist() == pytest.approx([0.3, 0.3, 0, 0.3], nan_ok=True)
    for norm in (1, 2, torch.inf):
        delta = step(gradient, eps=0.3, norm=norm)
        assert (delta[1] == 0).all()
        torch.testing.assert_close(torch.linalg.vector_norm(delta[[0, 2]], norm, dim=1), torch.full((2,), 0.3))


def test_cleverhans_own_l1_step_shares_two_ties_fails_on_eleven_and_ours_agrees_or_survives() -> None:
    def tied(ties: int) -> Tiny:
        model = Tiny(1.0).eval()
        with torch.no_grad():
            model.weight[:ties] = 5.0
        return model

    x = torch.zeros(1, PIXELS)
    np.testing.assert_allclose(
        fgm(tied(2), x, eps=0.3, norm=1, l1="pixel").numpy(),
        fast_gradient_method(tied(2), x, 0.3, 1).detach().numpy(),
        rtol=1e-6,
    )
    with pytest.raises(AssertionError):
        fast_gradient_method(tied(11), x, 0.3, 1)
    expected = np.r_[np.full(11, -0.3 / 11), np.zeros(PIXELS - 11)]
    np.testing.assert_allclose(fgm(tied(11), x, eps=0.3, norm=1, l1="pixel")[0].numpy(), expected, rtol=1e-6)


def test_cleverhans_own_attack_accumulates_in_parameters_and_drops_float64() -> None:
    model, x = mlp(), images(4)
    assert fast_gradient_method(model, x.double(), 0.3, 2).dtype == torch.float32
    assert model[0].weight.grad is not None
    model = mlp().double()
    assert fgm(model, x.double(), eps=0.3, norm=2).dtype == torch.float64
    assert model[0].weight.grad is None


@pytest.mark.parametrize(("name", "rows"), [("L1-spread", 0), ("L1-pixel", 5), ("L2", 6), ("Linf", 6)])
def test_every_direction_but_spread_and_tied_pixels_is_cleverhans(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def recorded(gradient: Tensor, eps: float, norm: float) -> Tensor:
        asked.append(gradient)
        return optimize_linear(gradient, eps, norm)

    monkeypatch.setattr(fast_gradient, "optimize_linear", recorded)
    gradient = 1e-20 * images(8)
    gradient[0] = 0
    gradient[1, 3] = math.inf
    gradient[2, :4] = 1.0  # four ties
    step(gradient, eps=0.3, norm=NORMS[name].order, l1=NORMS[name].l1)
    assert sum(len(part) for part in asked) == rows
    assert all((part.abs().amax(1) == 1).all() for part in asked)


def softmax_regression(n: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """A linear model and images with its own labels, one in five of them replaced: some errors, not all."""
    torch.manual_seed(7)
    model = nn.Linear(PIXELS, CLASSES, dtype=torch.float64)
    with torch.no_grad():
        model.weight.mul_(12)
    x = images(n).double()
    y = model(x).argmax(1)
    y[::5] = torch.arange(len(y[::5])) % CLASSES
    return model.eval(), x, y


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize("labels", ["predicted", "true"])
def test_measurement_is_what_a_numpy_loop_counts(labels: str, clip: tuple[float, float] | None) -> None:
    model, x, y = softmax_regression(53)
    w, b = model.weight.detach().numpy(), model.bias.detach().numpy()
    sizes = [0.0, 0.1, 0.5]
    attack = "fgm" + ("/true" if labels == "true" else "") + ("/clip" if clip else "")
    found = measure_fgm(model, x, y, norms=list(NORMS), eps=sizes, attack=attack, batch_size=10)
    assert [(m.norm, m.eps) for m in found] == [(norm, eps) for norm in NORMS for eps in sizes]
    for m in found:
        clean, attacked, ratio = [], [], []
        for pixels, truth in zip(x.numpy(), y.numpy(), strict=True):
            logits = w @ pixels + b
            p = np.exp(logits - logits.max())
            label = truth if labels == "true" else logits.argmax()
            g = (p / p.sum() - np.eye(CLASSES)[label]) @ w
            one_pixel = np.sign(g) * (np.abs(g) == np.abs(g).max())
            unit = {
                "L1-spread": g / np.abs(g).sum(),
                "L1-pixel": one_pixel,
                "L2": g / np.sqrt((g**2).sum()),
                "Linf": np.sign(g),
            }[m.norm]
            moved = pixels + m.eps * unit
            if clip:
                moved = np.clip(moved, *clip)
            clean.append(logits.argmax() != truth)
            attacked.append((w @ moved + b).argmax() != truth)
            order = {"L1-spread": 1, "L1-pixel": 1, "L2": 2, "Linf": np.inf}[m.norm]
            ratio.append(np.linalg.norm(moved - pixels, order) / m.eps if m.eps else 1.0)
        assert asdict(m) == {
            "attack": attack,
            "norm": m.norm,
            "eps": m.eps,
            "n": 53,
            "clean_error": pytest.approx(np.mean(clean), abs=1e-12),
            "attacked_error": pytest.approx(np.mean(attacked), abs=1e-12),
            "zero_gradient_share": 0,
            "nonfinite_gradient_share": 0,
            "mean_norm_ratio": pytest.approx(np.mean(ratio), rel=1e-10),
            "short_share": pytest.approx(np.mean(np.array(ratio) < 0.999), abs=1e-12),
        }
    errors = {(m.norm, m.eps): m.attacked_error for m in found}
    assert 0 < found[0].clean_error < errors["L2", 0.5] < errors["Linf", 0.5]


def test_nan_logits_count_as_wrong() -> None:
    model, x, y = softmax_regression(20)
    y = torch.full_like(y, 3)  # where argmax would point
    with torch.no_grad():
        model.bias[3] = math.nan
    found = measure_fgm(model, x, y, norms=["L2", "Linf"], eps=[0.3])
    for m in found:
        assert (m.clean_error, m.attacked_error, m.nonfinite_gradient_share) == (1, 1, 1)
        assert (m.zero_gradient_share, m.mean_norm_ratio) == (0, 0)


def test_all_norms_and_eps_share_one_gradient() -> None:
    model, x, y = softmax_regression(30)
    passes = {True: 0, False: 0}
    model.register_forward_hook(
        lambda *_: passes.__setitem__(torch.is_grad_enabled(), passes[torch.is_grad_enabled()] + 1)
    )
    measure_fgm(model, x, y, norms=list(NORMS), eps=[0.1, 0.2, 0.3], batch_size=10)
    assert passes == {True: 3, False: 3 * 12}  # batches; batches x norms x eps
