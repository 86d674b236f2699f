"""The virtual adversarial perturbation against full Hessians, automatic differentiation and NumPy."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from test_losses import RELEASED
from torch.nn import functional as F

from zoo.classifier import Batch
from zoo.config import Hyperparameters, ModelConfig
from zoo.layers import LayerNoise
from zoo.models import create
from zoo.perturbation import Linearised, curvature, finite_difference, power_iteration, scale_to, unit
from zoo.randomness import draw

# PyTorch's own forward-mode differentiation still calls what PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

WIDTHS = (6, 9, 8, 7, 5)
SIZES = {"labelled": 10, "unlabelled": 12}
EPS = {"vat": (0.8,), "lvac-lw": (0.8, 0.5, 0.3, 0.2), "lvan-lw": (0.8, 0.5, 0.3, 0.2)}


def build(name="lvac-lw", seeds=(0,), seed=0, **options):
    """A float64 model whose shifts, scales and running statistics are random too, and a generator to go on with."""
    denoising = () if name == "vat" else (10.0, 1.0, 0.1)
    model = create(ModelConfig(name, WIDTHS, Hyperparameters(denoising, EPS[name]), **options), seeds).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * gaussian(generator, *parameter.shape)
        for mean, variance in model.encoder.running_statistics():
            mean += gaussian(generator, *mean.shape)
            variance += torch.rand(variance.shape, generator=generator, dtype=torch.float64)
    return model, generator


def gaussian(generator, *shape):
    """Standard Gaussian float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def find_noise(model, seeds=(0,)):
    """All noise of a step in float64, by name."""
    noise = draw([torch.Generator().manual_seed(100 + s) for s in seeds], model.noise_shapes(SIZES))
    return {name: value.double() for name, value in noise.items()}


def rest_of(model, start, z, noise=None, *, held=False):
    """The model's own forward from layer `start`, z -> logits, by the batch's statistics or held at those of z."""
    if not held:
        return lambda moved: model.encode(moved, start=start, noise=noise).logits
    statistics = model.encode(z, start=start, noise=noise).statistics
    return lambda moved: model.encode(moved, start=start, noise=noise, statistics=statistics).logits


def hessian(forward, z):
    """Of the sum of KL(p(z) || p(z + r)) at r = 0, (examples, units, examples, units); z is (1, examples, units)."""
    log_p = forward(z).detach().log_softmax(-1)

    def divergence(r):
        return F.kl_div(forward(z + r).log_softmax(-1), log_p, reduction="sum", log_target=True)

    return torch.func.hessian(divergence)(torch.zeros_like(z)).detach()[0, :, :, 0].numpy()


def dominant(matrices, iterations):
    """Top unit eigenvectors, after a check that `iterations` are enough for the gap; the sign is arbitrary."""
    values, vectors = np.linalg.eigh(matrices)
    assert ((values[:, -2] / values[:, -1]) ** iterations < 1e-3).all()
    return vectors[:, :, -1]


def cosine(a, b):
    """Of each pair of rows of two arrays."""
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


# ------------------------------------------------------------------------------------------------ directions


@pytest.mark.parametrize("hidden_sd", [0.0, 0.5])
@pytest.mark.parametrize("layer", [0, 2])
def test_iterations_by_the_full_hessian(layer, hidden_sd):
    """VAT paper eq. 11 on the whole batch's Hessian, each example's part at length 1."""
    model, generator = build(hidden_sd=hidden_sd, power_iterations=3)
    z = gaussian(generator, 1, SIZES["unlabelled"], WIDTHS[layer])
    noise = find_noise(model)
    found = LayerNoise(1.0, [None, *[hidden_sd * noise[f"unlabelled/find/0/hidden/{n}"] for n in (1, 2, 3)], None])
    h, d = hessian(rest_of(model, layer, z, found), z), noise[f"unlabelled/direction/{layer}"][0].numpy()
    for _ in range(3):
        d = np.einsum("nimj,mj->ni", h, d / np.linalg.norm(d, axis=-1, keepdims=True))
    r = model.perturbation(layer, z, noise, "unlabelled")[0].numpy()
    wanted = EPS["lvac-lw"][layer] * d / np.linalg.norm(d, axis=-1, keepdims=True)
    np.testing.assert_allclose(r, wanted, rtol=1e-7, atol=1e-10)


def test_noise_moves_the_direction():
    """Else the test above would not see whether the noise is there."""
    z = gaussian(torch.Generator().manual_seed(1), 1, SIZES["unlabelled"], WIDTHS[0])
    found = []
    for hidden_sd in (0.0, 0.5):
        model, _ = build(hidden_sd=hidden_sd, power_iterations=400)
        found.append(model.perturbation(0, z, find_noise(model), "unlabelled")[0].numpy())
    assert np.abs(cosine(*found)).min() < 0.99


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("start", range(len(WIDTHS)))
@pytest.mark.parametrize(
    ("name", "options"),
    [("lvac-lw", {}), ("vat", {"normalised_logits": False}), ("vat", RELEASED)],
)
def test_linearised_products_against_automatic_differentiation(name, options, start, noisy, held):
    model, generator = build(name, seeds=(0, 1), **options)
    z, d = (gaussian(generator, 2, 12, WIDTHS[start]) for _ in range(2))
    v = gaussian(generator, 2, 12, WIDTHS[-1])
    noise = LayerNoise(0.5, [gaussian(generator, 2, 12, width) for width in WIDTHS]) if noisy else None
    forward = rest_of(model, start, z, noise, held=held)
    statistics = model.encode(z, start=start, noise=noise).statistics if held else None
    rest = model.encoder.linearise(z, start=start, noise=noise, statistics=statistics)
    with torch.no_grad():
        logits, forward_product = torch.func.jvp(forward, (z,), (d,))
        backward_product = torch.func.vjp(forward, z)[1](v)[0]
        torch.testing.assert_close(rest.logits, logits, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(rest.jvp(d), forward_product, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(rest.vjp(v), backward_product, rtol=1e-10, atol=1e-10)
        # <v, J d> = <J' v, d>: over the batch, and of every example where statistics are held
        over = (-1,) if held else (-2, -1)
        left, right = (v * rest.jvp(d)).sum(over), (rest.vjp(v) * d).sum(over)
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("start", [0, 2])
def test_curvature_is_the_full_hessian(start):
    model, generator = build()
    z, d = (gaussian(generator, 1, 12, WIDTHS[start]) for _ in range(2))
    wanted = np.einsum("nimj,mj->ni", hessian(rest_of(model, start, z), z), d[0].numpy())
    product = curvature(model.encoder.linearise(z, start=start))(d)[0].detach()
    np.testing.assert_allclose(product.numpy(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("start", [0, 2])
def test_statistics_couple_the_examples_of_a_batch_unless_they_are_held(start):
    """Also what tells the two apart: were they the same, the test above would say nothing of the statistics."""
    model, generator = build()
    z = gaussian(generator, 1, 12, WIDTHS[start])
    others = ~np.eye(12, dtype=bool)
    moving, held = (hessian(rest_of(model, start, z, held=held), z).swapaxes(1, 2) for held in (False, True))
    assert np.abs(held[others]).max() == 0
    assert np.abs(moving[others]).max() > 0.01 * np.abs(moving).max()


@pytest.mark.parametrize("start", [0, 2])
def test_exact_product_is_the_limit_of_the_finite_difference(start):
    """The difference quotient: gradient at xi d of the mean KL is xi H d / examples, to first order."""
    model, generator = build()
    z, d = (gaussian(generator, 1, 12, WIDTHS[start]) for _ in range(2))
    noise = LayerNoise(0.5, [gaussian(generator, 1, 12, width) for width in WIDTHS])
    forward = rest_of(model, start, z, noise)
    difference = finite_difference(forward(z).detach(), [forward], z, 1e-6)(d).numpy() * 12 / 1e-6
    product = curvature(model.encoder.linearise(z, start=start, noise=noise))(d).detach().numpy()
    assert (cosine(difference, product) > 0.99999).all()
    np.testing.assert_allclose(np.linalg.norm(difference, axis=-1), np.linalg.norm(product, axis=-1), rtol=1e-4)


def test_finite_difference_is_the_gradient_at_the_displaced_point_of_each_pass_in_turn():
    """For logits (z + r) W_k the gradient of mean KL(p || q) is (q - p) W_k' / examples, whatever p is."""
    generator = torch.Generator().manual_seed(0)
    z, d, reference = (gaussian(generator, *shape) for shape in ((12, 6), (12, 6), (12, 5)))
    weights = [gaussian(generator, 6, 5) for _ in range(3)]
    product = finite_difference(reference, [lambda moved, w=w: moved @ w for w in weights], z, 0.5)
    for w in (weight.numpy() for weight in weights):
        q = softmax((z + 0.5 * d).numpy() @ w, -1)
        wanted = (q - softmax(reference.numpy(), -1)) @ w.T / 12
        np.testing.assert_allclose(product(d).numpy(), wanted, rtol=1e-10, atol=1e-14)


# ----------------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("power_iterations", [0, 3])
def test_the_perturbation_has_size_eps(norm, power_iterations):
    model, generator = build(seeds=(0, 1), norm=norm, power_iterations=power_iterations)
    noise = find_noise(model, (0, 1))
    for layer, eps in enumerate(EPS["lvac-lw"]):
        z = gaussian(generator, 2, SIZES["unlabelled"], WIDTHS[layer])
        r = model.perturbation(layer, z, noise, "unlabelled").numpy()
        lengths = np.linalg.norm(r, axis=-1) if norm == "L2" else np.abs(r)
        np.testing.assert_allclose(lengths, eps, rtol=1e-12)
        if power_iterations == 0:
            start = noise[f"unlabelled/direction/{layer}"].numpy()
            unit_start = np.sign(start) if norm == "Linf" else start / np.linalg.norm(start, axis=-1, keepdims=True)
            np.testing.assert_allclose(r, eps * unit_start, rtol=1e-12)


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_a_zero_product_gives_no_perturbation(norm):
    """Where the output does not depend on the input, as for a network of zeros."""
    model, generator = build(norm=norm)
    with torch.no_grad():
        model.encoder.scale.zero_()
    z = gaussian(generator, 1, SIZES["unlabelled"], WIDTHS[0])
    assert torch.equal(model.perturbation(0, z, find_noise(model), "unlabelled"), torch.zeros_like(z))
    some = torch.tensor([[0.0, 0.0], [3.0, -4.0]])
    wanted = [[0, 0], [1.2, -1.6]] if norm == "L2" else [[0, 0], [2, -2]]
    np.testing.assert_allclose(scale_to(some, 2.0, norm), wanted, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1.0, 1e30, 1e38])
def test_unit_vectors_survive_extreme_scales(scale):
    d = np.random.default_rng(0).uniform(-1, 1, (4, 300)).astype(np.float32) * np.float32(scale)
    exact = d.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=-1, keepdims=True)
    np.testing.assert_allclose(unit(torch.from_numpy(d)), exact, rtol=1e-5, atol=1e-6)


def test_iterations_are_counted():
    """On a diagonal matrix: d after K products is Λ^K d, up to its length."""
    eigenvalues, start = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([[3.0, 2.0, 1.0]])
    for iterations in range(4):
        found = power_iteration(lambda d: eigenvalues * d, start, iterations)
        wanted = start.numpy() * eigenvalues.numpy() ** iterations
        np.testing.assert_allclose(cosine(found.numpy(), wanted), 1, rtol=1e-6)


# ---------------------------------------------------------------------------------------- finite differences


@pytest.mark.parametrize("layer", [0, 2])
def test_each_finite_difference_has_its_own_noise_and_statistics(layer):
    """VAT paper, Algorithm 1, by hand: pass 0 is the reference, passes 1..K give the K gradients."""
    model, generator = build(xi=1e-6, power_iterations=2)
    z, noise = gaussian(generator, 1, SIZES["unlabelled"], WIDTHS[layer]), find_noise(model)

    def log_probabilities(k, moved):
        found = LayerNoise(0.5, [None, *[noise[f"unlabelled/find/{k}/hidden/{n}"] for n in (1, 2, 3)], None])
        return model.encode(moved, start=layer, noise=found).logits.log_softmax(-1)

    d = noise[f"unlabelled/direction/{layer}"]
    for k in (1, 2):
        r = (1e-6 * d / d.norm(dim=-1, keepdim=True)).requires_grad_()
        reference = log_probabilities(0, z).detach()
        F.kl_div(log_probabilities(k, z + r), reference, reduction="sum", log_target=True).backward()
        d = r.grad
    found = model.perturbation(layer, z, noise, "unlabelled").numpy()
    np.testing.assert_allclose(found, (EPS["lvac-lw"][layer] * d / d.norm(dim=-1, keepdim=True)).numpy(), rtol=1e-7)


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("name", ["vat", "lvac-lw", "lvan-lw"])
def test_finite_differences_with_fresh_noise(name, norm):
    model, generator = build(name, seeds=(0, 1), xi=1e-6, norm=norm, perturbed="all")
    found = []

    def spy(layer, z, noise, group, *draw, original=model.perturbation):
        found.append((layer, original(layer, z, noise, group, *draw)))
        return found[-1][1]

    model.perturbation = spy
    x = {group: torch.rand(2, n, WIDTHS[0], generator=generator).double() for group, n in SIZES.items()}
    labels = torch.randint(0, WIDTHS[-1], (2, SIZES["labelled"]), generator=generator)
    terms = model.losses(Batch(x["labelled"], labels, x["unlabelled"]), find_noise(model, (0, 1)))
    for value in terms.values():
        assert value.isfinite().all()
        assert (value > 0).all()
    assert sorted(layer for layer, _ in found) == sorted([*range(len(EPS[name]))] * 2)
    for layer, r in found:
        assert not r.requires_grad
        lengths = np.linalg.norm(r.numpy(), axis=-1) if norm == "L2" else r.abs().numpy()
        np.testing.assert_allclose(lengths, EPS[name][layer], rtol=1e-9)


@pytest.mark.parametrize("scale", [5.0, 10.0, 20.0])
def test_a_confident_examples_direction_survives_float32(scale):
    """On a linear model H d in float32 points where float64 says, however little probability is left to share."""
    generator = torch.Generator().manual_seed(0)
    weight, x = gaussian(generator, 6, 4) * scale, gaussian(generator, 200, 6)
    d, logits = unit(gaussian(generator, 200, 6)).numpy(), (x @ weight).numpy()
    p = softmax(logits, -1)
    jd = d @ weight.numpy()
    # sum over pairs p_i p_j (jd_i - jd_j): no difference of nearly equal numbers is taken
    exact = np.einsum("ni,nj,nij->ni", p, p, jd[:, :, None] - jd[:, None, :]) @ weight.numpy().T
    single = weight.float()
    rest = Linearised((x @ weight).float(), lambda v: v @ single, lambda v: v @ single.T)
    found = curvature(rest)(torch.from_numpy(d).float()).double().numpy()
    kept = np.abs(exact).max(-1) > 1e-30  # float32 cannot hold less
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(exact, axis=-1)
    assert kept.mean() > 0.5
    assert ((found * exact).sum(-1)[kept] / lengths[kept]).min() > 0.999
