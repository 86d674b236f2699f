"""The engine held to the plain reference: short products, and the step captured in a CUDA graph."""

import numpy as np
import pytest
import torch
from test_training import DIGITS, begin, state_of

import zoo
from zoo.config import MODELS, TrainingConfig
from zoo.products import SMALL, Multiplying, bfloat16_product, in_precision

CONFIG = TrainingConfig("digits", labels=100, labelled_batch=50, unlabelled_batch=100, epochs=50, decay_from=50)


def after_steps(name, steps, data=DIGITS, **options):
    """Two seeds of a model after some steps: the training, and the mean of each loss term over them."""
    training = begin(name, [0, 1], TrainingConfig(**{**vars(CONFIG), **options.pop("config", {})}), data, **options)
    training.steps = steps
    training.run_epoch()
    return training, {(row[0], row[2]): row[3] for row in training.history}


@pytest.mark.parametrize("shape", [(40, 50, 60), (3, 40, 50, 60)])
def test_bfloat16_product_and_its_gradients_against_numpy(shape):
    """Each factor is rounded to 8 significant bits, the result too: with unit factors, errors of some 2**-8."""
    *lead, n, k, m = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*lead, n, k, generator=generator).requires_grad_()
    w = torch.randn(*lead, k, m, generator=generator).requires_grad_()
    g = torch.randn(*lead, n, m, generator=generator)
    found = bfloat16_product(x, w)
    gradients = torch.autograd.grad(found, (x, w), g)
    a, b, c = (tensor.detach().double().numpy() for tensor in (x, w, g))
    exact = [a @ b, c @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ c]
    for one, two in zip([found, *gradients], exact, strict=True):
        assert one.dtype == torch.float32
        error = np.abs(one.detach().numpy() - two).max() / np.sqrt(np.square(two).mean())
        assert 1e-4 < error < 0.03, "rounded, and no more than that"


def test_small_products_stay_in_float32():
    x, w = torch.randn(40, 50), torch.randn(50, SMALL - 1)
    assert torch.equal(bfloat16_product(x, w), x @ w)


def test_the_precision_of_a_step_ends_with_it():
    model = begin("ladder", [0]).model
    parts = [part for part in model.modules() if isinstance(part, Multiplying)]
    before = torch.get_float32_matmul_precision()
    assert len(parts) == 2
    within = []

    def fail():
        with in_precision(model, "bfloat16"):
            within.extend(part.product for part in parts)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert within == [bfloat16_product] * 2
    with in_precision(model, "tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert all(part.product is torch.matmul for part in parts)
    assert torch.get_float32_matmul_precision() == before


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision"):
        TrainingConfig(**{**vars(CONFIG), "precision": "bfloat17"})


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_trains_like_float32(name):
    """The same seeds, batches and noise, 50 steps of layers wide enough to be rounded: every term within 3 %."""
    wide = {"widths": (64, 96, 64, 48, 10)}
    plain, terms = after_steps(name, 50, **wide)
    short, rounded = after_steps(name, 50, config={"precision": "bfloat16"}, **wide)
    assert terms.keys() == rounded.keys()
    for key, value in terms.items():
        assert rounded[key] == pytest.approx(value, rel=0.03), key
    weights, others = (training.model.encoder.weight[0] for training in (plain, short))
    assert not torch.equal(weights, others), "else nothing was rounded"
    assert (weights - others).norm() < 0.2 * (
        weights - begin(name, [0, 1], CONFIG, **wide).model.encoder.weight[0]
    ).norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", MODELS)
def test_a_captured_step_is_the_eager_step(name):
    """The same seeds, batches and noise, 50 steps on one GPU: terms to 1e-4, weights to 1e-3 of their way."""
    data = zoo.load_dataset("digits").to(torch.device("cuda"))
    eager, captured = begin(name, [0, 1], CONFIG, data), begin(name, [0, 1], CONFIG, data)
    eager.captured = False
    start = {key: value.clone() for key, value in state_of(eager).items()}
    for training in (eager, captured):
        training.steps = 50
        training.run_epoch()
    assert captured.execute != captured.compute
    assert eager.execute == eager.compute
    for one, two in zip(eager.history, captured.history, strict=True):
        assert one[:3] == two[:3]
        assert two[3] == pytest.approx(one[3], rel=1e-4)
    for (key, one), two in zip(eager.model.state_dict().items(), captured.model.state_dict().values(), strict=True):
        way = (one - start[key]).double().norm()
        assert (one - two).double().norm() <= 1e-3 * way + 1e-6, key
