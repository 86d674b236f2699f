"""The divergence and the smoothness it measures at test-time statistics, against SciPy and NumPy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from test_perturbation import WIDTHS, build, dominant, gaussian

from zoo.config import Hyperparameters, ModelConfig
from zoo.layers import LayerNoise
from zoo.perturbation import kl_divergence


def test_kl_divergence_against_scipy():
    generator = torch.Generator().manual_seed(0)
    p, q = (4 * gaussian(generator, 3, 7, 5) for _ in range(2))
    wanted = rel_entr(softmax(p.numpy(), -1), softmax(q.numpy(), -1)).sum(-1).mean(-1)
    np.testing.assert_allclose(kl_divergence(p, q), wanted, rtol=1e-12)
    assert torch.equal(kl_divergence(p, p), torch.zeros(3, dtype=torch.float64))


def test_kl_divergence_of_saturated_logits_is_finite():
    """p = (1, 0) to rounding, q = (0, 1): KL is the difference of the logits."""
    p, q = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
    np.testing.assert_allclose(kl_divergence(p, q), 200, rtol=1e-6)
    np.testing.assert_allclose(kl_divergence(p.double(), q.double()), 200, rtol=1e-12)


def evaluate(model, seed, x):
    """NumPy logits of one seed's clean path at running statistics."""
    state = {name: value[seed].numpy() for name, value in model.state_dict().items()}
    h, depth = x, len(WIDTHS) - 1
    for layer in range(1, depth + 1):
        projection = h @ state[f"encoder.weight.{layer - 1}"]
        z = (projection - state[f"encoder.mean_{layer}"]) / np.sqrt(state[f"encoder.variance_{layer}"] + 1e-10)
        h = z + state[f"encoder.shift.{layer - 1}"]
        h = state["encoder.scale"] * h if layer == depth else np.maximum(h, 0.1 * h)
    return h


def test_unnormalised_logits_are_the_projection_and_its_statistics_stay():
    model, generator = build("vat", normalised_logits=False)
    x = gaussian(generator, 1, 12, WIDTHS[0])
    noise = LayerNoise(0.5, [gaussian(generator, 1, 12, width) for width in WIDTHS])
    path, encoder = model.encode(x, noise=noise), model.encoder
    h = torch.relu(path.z[-2] + encoder.shift[-2]) - 0.1 * torch.relu(-path.z[-2] - encoder.shift[-2])
    torch.testing.assert_close(path.logits, encoder.scale * (h @ encoder.weight[-1] + encoder.shift[-1]))
    before = [value.clone() for value in encoder.running_statistics()[-1]]
    encoder.track(path.statistics)
    assert all(torch.equal(*pair) for pair in zip(before, encoder.running_statistics()[-1], strict=True))
    with pytest.raises(ValueError, match="normalised_logits = false has no meaning for model 'ladder'"):
        ModelConfig("ladder", WIDTHS, Hyperparameters((1.0,)), normalised_logits=False)


def test_smoothness_against_numpy():
    """The cost along the top eigenvector of NumPy's Hessian at test-time statistics, its sign that of the start."""
    model, generator = build(seeds=(0, 1))
    x, direction = torch.rand(9, WIDTHS[0], generator=generator).double(), gaussian(generator, 2, 9, WIDTHS[0])
    found = model.costs(x, direction, 1.5, 400).mean(-1)
    for seed in range(2):
        logits, step = evaluate(model, seed, x.numpy()), 1e-6
        columns = [
            evaluate(model, seed, x.numpy() + e) - evaluate(model, seed, x.numpy() - e)
            for e in step * np.eye(WIDTHS[0])
        ]
        jacobian, p = np.stack(columns, -1) / (2 * step), softmax(logits, -1)
        fisher = np.einsum("nc,cd->ncd", p, np.eye(WIDTHS[-1])) - np.einsum("nc,nd->ncd", p, p)
        top = dominant(np.einsum("nci,ncd,ndj->nij", jacobian, fisher, jacobian), 400)
        r = 1.5 * top * np.sign((top * direction[seed].numpy()).sum(-1, keepdims=True))
        moved = log_softmax(evaluate(model, seed, x.numpy() + r), -1)
        wanted = (p * (log_softmax(logits, -1) - moved)).sum(-1).mean()
        np.testing.assert_allclose(found[seed].item(), wanted, rtol=1e-5)
