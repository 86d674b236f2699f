"""The engine held to the plain reference: chains and short products, 50 steps of each model, the captured step."""

import weakref

import numpy as np
import pytest
import torch
from small_trainings import DIGITS, begin, state_of
from test_losses import RELEASED, build, expected

import zoo
from zoo.arithmetic import PLAIN, Calculating, calculating
from zoo.compiler import compiler_fault
from zoo.config import MODELS, TrainingConfig
from zoo.fused import SMALL, Activate, Denoise, Distance, Fused, Normalise, matrix_precision
from zoo.models import create
from zoo.training import WORTH_COMPILING, fitting_engine

CONFIG = TrainingConfig("digits", labels=100, labelled_batch=50, unlabelled_batch=100, epochs=50, decay_from=50)
WIDE = {"widths": (64, 96, 64, 48, 10)}
FRESH = [("lvac-lw", {"scored_noise": "fresh"}), ("vat", {"scored_noise": "fresh", "sign": "larger"})]
CASES = [pytest.param(name, {}, id=name) for name in MODELS]
CASES += [pytest.param(name, options, id=f"{name}, scored otherwise") for name, options in FRESH]
DECODER = {"decoder": "released"}
CASES += [pytest.param("ladder", DECODER, id="ladder, the released decoder")]
ACTIVE = DECODER | {"perturbed_on": "activation", "scored_noise": "fresh"}
CASES += [pytest.param("lvac-lw", ACTIVE, id="lvac-lw, activations perturbed")]
PARTS = ACTIVE | {"perturbed_statistics": "split"}
CASES += [pytest.param("lvac-lw", PARTS, id="lvac-lw, perturbed batches in two parts")]
CASES += [pytest.param("vat", RELEASED | {"statistics": "corrupted"}, id="vat, the released network")]


def after_steps(name, steps, engine="eager", data=DIGITS, **options):
    """Two seeds of a model after some steps: the training, and the mean of each loss term over them."""
    config = TrainingConfig(**{**vars(CONFIG), **options.pop("config", {})})
    training = begin(name, [0, 1], config, data, engine=engine, **options)
    training.steps = steps
    training.run_epoch()
    return training, {(row[0], row[2]): row[3] for row in training.history}


def numbers(*shape):
    """Float64 numbers that want a gradient."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def statistics(*shape):
    """A mean and a variance, which is positive."""
    return numbers(*shape), (numbers(*shape).detach().abs() + 0.5).requires_grad_()


@pytest.mark.parametrize("lead", [(), (2,)])
def test_chains_gradients_against_finite_differences(lead):
    z, u, a = numbers(*lead, 6, 4), numbers(*lead, 6, 4), numbers(*lead, 10, 4)
    check = torch.autograd.gradcheck
    for slope in (0.1, 0.0):
        assert check(lambda z, shift, s=slope: Activate.apply(z, shift, s, torch.float64), (z, numbers(*lead, 1, 4)))
    assert check(lambda u: Normalise.apply(u, z.detach(), 0.3), (u,))
    assert check(lambda u: Normalise.apply(u, None, 0.0), (u,))
    assert check(Denoise.apply, (z, u, a))
    assert check(Distance.apply, (z, u, *statistics(*lead, 1, 4)))


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in MODELS), ("vat", RELEASED), ("adversarial-l2", RELEASED), ("lvan-lw", DECODER)],
)
def test_every_fused_term_against_numpy(name, options):
    """The oracle of the plain terms, in float64, for the chains too; and the gradients are those of the plain form."""
    model, batch, noise = build(name, **options)
    gradients = []
    for arithmetic in (PLAIN, Fused()):
        with calculating(model, arithmetic):
            terms = model.losses(batch, noise)
        for i in range(2):
            for key, value in expected(model, batch, noise, i).items():
                np.testing.assert_allclose(terms[key][i].item(), value, rtol=1e-9, err_msg=f"{key} of seed {i}")
        total = torch.stack(list(terms.values())).sum()
        gradients.append(torch.autograd.grad(total, list(model.parameters()), allow_unused=True))
    for one, two in zip(*gradients, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def test_the_slope_at_zero_is_that_of_the_reference():
    """PyTorch's leaky ReLU has the lower slope there."""
    slopes = []
    for apply in (
        lambda z: Activate.apply(z, torch.zeros(1), 0.1, torch.float32),
        lambda z: torch.nn.functional.leaky_relu(z, 0.1),
    ):
        z = torch.tensor([[-1.0], [0.0], [1.0]], requires_grad=True)
        slopes.append(torch.autograd.grad(apply(z).sum(), z)[0])
    assert torch.equal(*slopes)


@pytest.mark.parametrize("shape", [(40, 50, 60), (3, 40, 50, 60)])
def test_bfloat16_product_and_its_gradients_against_numpy(shape):
    """Each factor is rounded to 8 significant bits, the result too: with unit factors, errors of some 2**-8."""
    *lead, n, k, m = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*lead, n, k, generator=generator).requires_grad_()
    w = torch.randn(*lead, k, m, generator=generator).requires_grad_()
    g = torch.randn(*lead, n, m, generator=generator)
    found = Fused("bfloat16").product(x, w)
    gradients = torch.autograd.grad(found, (x, w), g.bfloat16())
    a, b, c = (tensor.detach().double().numpy() for tensor in (x, w, g.bfloat16()))
    exact = [a @ b, c @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ c]
    assert found.dtype == torch.bfloat16, "the chain after it widens it"
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    for one, two in zip([found, *gradients], exact, strict=True):
        error = np.abs(one.detach().float().numpy() - two).max() / np.sqrt(np.square(two).mean())
        assert 1e-4 < error < 0.03, "rounded, and no more than that"


def test_small_products_stay_in_float32():
    x, w = torch.randn(40, 50), torch.randn(50, SMALL - 1)
    assert torch.equal(Fused("bfloat16").product(x, w), x @ w)


def test_the_arithmetic_of_a_step_ends_with_it():
    model, fused = begin("ladder", [0]).model, Fused("bfloat16")
    parts = [part for part in model.modules() if isinstance(part, Calculating)]
    assert len(parts) == 2
    within = []

    def fail():
        with calculating(model, fused):
            within.extend(part.arithmetic for part in parts)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert within == [fused] * 2
    assert all(part.arithmetic is PLAIN for part in parts)


def test_tf32_ends_with_the_step():
    before = torch.get_float32_matmul_precision()
    with matrix_precision("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_compiling_is_for_long_trainings(monkeypatch):
    steps = len(DIGITS.images) // CONFIG.unlabelled_batch
    short = TrainingConfig(**{**vars(CONFIG), "epochs": WORTH_COMPILING // steps, "decay_from": 0})
    long = TrainingConfig(**{**vars(short), "epochs": short.epochs + 1})
    monkeypatch.setattr("zoo.training.compiler_fault", lambda: None)
    assert [fitting_engine(config, DIGITS) for config in (short, long)] == ["eager", "compiled"]
    monkeypatch.setattr("zoo.training.compiler_fault", lambda: "found no C++ compiler")
    assert fitting_engine(long, DIGITS) == "eager"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision"):
        TrainingConfig(**{**vars(CONFIG), "precision": "bfloat17"})


def close(training, reference, rel):
    """Terms to `rel`, weights to three times that of the way that they went."""
    for one, two in zip(reference.history, training.history, strict=True):
        assert one[:3] == two[:3]
        assert two[3] == pytest.approx(one[3], rel=rel), one[:3]
    start = create(reference.model.config, [0, 1]).state_dict()
    for (key, one), two in zip(reference.model.state_dict().items(), training.model.state_dict().values(), strict=True):
        way = (one - start[key]).double().norm()
        assert (one - two).double().norm() <= 3 * rel * way + 1e-6, key


def compare(engine, name, options):
    """50 steps of an engine and of the reference: the same seeds, batches and noise, in float32."""
    reference, other = (after_steps(name, 50, each, **WIDE, **options)[0] for each in ("reference", engine))
    close(other, reference, 1e-2)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_fifty_steps_of_the_chains_are_the_references(name, options):
    compare("eager", name, options)


@pytest.mark.slow
# Two warnings that torch's compiler raises about torch's own code:
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_fifty_compiled_steps_are_the_references(name, options):
    if fault := compiler_fault():
        pytest.skip(f"needs a C++ compiler: {fault}")
    compare("compiled", name, options)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in MODELS), ("vat", RELEASED), ("ladder", DECODER)]
)
def test_bfloat16_trains_like_float32(name, options):
    """The same seeds, batches and noise, 50 steps of layers wide enough to be rounded: every term within 3 %."""
    plain, terms = after_steps(name, 50, **WIDE, **options)
    short, rounded = after_steps(name, 50, config={"precision": "bfloat16"}, **WIDE, **options)
    assert terms.keys() == rounded.keys()
    for key, value in terms.items():
        assert rounded[key] == pytest.approx(value, rel=0.03), key
    weights, others = (training.model.encoder.weight[0] for training in (plain, short))
    assert not torch.equal(weights, others), "else nothing was rounded"
    assert (weights - others).norm() < 0.2 * (
        weights - begin(name, [0, 1], CONFIG, **WIDE).model.encoder.weight[0]
    ).norm()


@pytest.mark.parametrize("engine", ["reference", "eager"])
def test_a_training_gives_its_memory_back_at_once(engine):
    """Without waiting for the collector of cycles: on a GPU the next one needs the room."""
    training = begin("ladder", [0], CONFIG, engine=engine)
    training.steps = 1
    training.run_epoch()
    there = weakref.ref(training)
    del training
    assert there() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", MODELS)
def test_a_captured_step_is_the_eager_step(name):
    """The same seeds, batches and noise, 50 steps on one GPU: terms to 1e-3, weights to 1e-2 of their way."""
    data = zoo.load_dataset("digits").to(torch.device("cuda"))
    eager, captured = (begin(name, [0, 1], CONFIG, data, engine=each) for each in ("reference", "eager"))
    start = {key: value.clone() for key, value in state_of(eager).items()}
    for training in (eager, captured):
        training.steps = 50
        training.run_epoch()
    assert captured.captured is not None
    assert eager.captured is None
    for one, two in zip(eager.history, captured.history, strict=True):
        assert one[:3] == two[:3]
        assert two[3] == pytest.approx(one[3], rel=1e-3)
    for (key, one), two in zip(eager.model.state_dict().items(), captured.model.state_dict().values(), strict=True):
        way = (one - start[key]).double().norm()
        assert (one - two).double().norm() <= 1e-2 * way + 1e-6, key
