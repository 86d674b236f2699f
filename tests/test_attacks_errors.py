"""What is refused, in one line that says what was expected and what came."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from attacks import audit, fgm, input_gradient, measure_fgm, minimum_norm, pgd


def linear(classes: int) -> nn.Linear:
    return nn.Linear(12, classes).eval()


def test_errors_say_what_was_expected_and_what_came() -> None:
    torch.manual_seed(0)
    model, x, y = linear(10), torch.rand(4, 12), torch.zeros(4, dtype=torch.int64)
    partly = nn.Sequential(linear(10), nn.Dropout()).eval()
    partly[1].train()
    ok = {"eps": 0.3, "norm": 2}

    def says(message: str, function: Callable[[], object]) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared below
            function()
        assert str(caught.value) == message

    mode = "expected a model in evaluation mode (model.eval()), got training mode"
    says(mode, lambda: fgm(linear(10).train(), x, **ok))
    says(mode + " in its part '1'", lambda: fgm(partly, x, **ok))
    says(mode, lambda: measure_fgm(linear(10).train(), x, y, norms=["L2"], eps=[0.3]))
    says("expected a finite eps >= 0, got -0.1", lambda: fgm(model, x, eps=-0.1, norm=2))
    says("expected a finite eps >= 0, got nan", lambda: fgm(model, x, eps=math.nan, norm=2))
    says("expected a finite eps >= 0, got -1", lambda: measure_fgm(model, x, y, norms=["L2"], eps=[-1]))
    says("expected norm 1, 2 or inf, got 3", lambda: fgm(model, x, eps=0.3, norm=3))
    says("expected norm 1, 2 or inf, got 'L2'", lambda: fgm(model, x, eps=0.3, norm="L2"))
    says(
        "expected l1 to be one of spread, pixel, got 'pixels'. Did you mean 'pixel'?",
        lambda: fgm(model, x, eps=0.3, norm=1, l1="pixels"),
    )
    known = "expected norm to be one of L1-spread, L1-pixel, L2, Linf, got "
    says(known + "'linff'. Did you mean 'Linf'?", lambda: measure_fgm(model, x, y, norms=["linff"], eps=[0.3]))
    says(known + "'cosine'", lambda: measure_fgm(model, x, y, norms=["L2", "cosine"], eps=[0.3]))
    says("expected x of dtype float32 or float64, got uint8", lambda: fgm(model, (255 * x).byte(), eps=0.3, norm=2))
    says("expected x of dtype float32 or float64, got bfloat16", lambda: fgm(model, x.bfloat16(), **ok))
    says("expected x of shape (N, ...) with N >= 1, got (0, 12)", lambda: fgm(model, x[:0], **ok))
    says("expected x of shape (N, ...) with N >= 1, got (12,)", lambda: fgm(model, x[0], **ok))
    says("expected finite x, got 12 values that are not", lambda: fgm(model, x[:1] / 0, **ok))
    says("expected x as a torch.Tensor, got ndarray", lambda: fgm(model, x.numpy(), **ok))
    says("expected y as a torch.Tensor, got ndarray", lambda: measure_fgm(model, x, y.numpy(), norms=[], eps=[]))
    says("expected model as a torch.nn.Module, got function", lambda: fgm(lambda x: x, x, **ok))
    says("expected y of shape (4,), got (3,)", lambda: fgm(model, x, y=y[:3], **ok))
    says("expected y of shape (4,), got (4, 10)", lambda: input_gradient(model, x, y=torch.eye(10)[:4]))
    says("expected y of shape (4,), got (5,)", lambda: measure_fgm(model, x, y.new_zeros(5), norms=[], eps=[]))
    says("expected y of dtype int64, got float32", lambda: fgm(model, x, y=y.float(), **ok))
    says("expected labels from 0 to 9, got 0 to 10", lambda: fgm(model, x, y=y + torch.tensor([0, 0, 0, 10]), **ok))
    says("expected labels from 0 to 9, got -1 to -1", lambda: measure_fgm(model, x, y - 1, norms=[], eps=[]))
    says("expected loss to be 'cross-entropy' or 'margin', got 'logits'", lambda: fgm(model, x, loss="logits", **ok))
    wants = "expected attack to be one of fgm, fgm/true, fgm/clip, fgm/margin, fgm/float64, got "
    says(wants + "'fgsm'. Did you mean 'fgm'?", lambda: measure_fgm(model, x, y, norms=[], eps=[], attack="fgsm"))
    says(
        "expected the option of 'fgm/true/marg' to be one of true, clip, margin, float64, got 'marg'. "
        "Did you mean 'margin'?",
        lambda: measure_fgm(model, x, y, norms=[], eps=[], attack="fgm/true/marg"),
    )
    says("expected clip as (low, high) with low < high, got (1, 0)", lambda: fgm(model, x, clip=(1, 0), **ok))
    says(
        "expected x within clip (0, 1), got values from -1 to 2",
        lambda: fgm(model, torch.linspace(-1, 2, 12)[None], clip=(0, 1), **ok),
    )
    says("expected batch_size >= 1, got 0", lambda: fgm(model, x, batch_size=0, **ok))
    says("expected logits of shape (4, classes), got (4, 1)", lambda: fgm(linear(1), x, **ok))
    says("expected logits of shape (4, classes), got (48,)", lambda: fgm(nn.Flatten(0).eval(), x, **ok))
    cut = "expected logits differentiable with respect to x, got logits cut off from it"
    detached, constant = linear(10), linear(10)
    detached.register_forward_hook(lambda module, inputs, logits: logits.detach())
    constant.register_forward_hook(lambda module, inputs, logits: module.bias.expand(4, 10))
    says(cut, lambda: fgm(detached, x, **ok))
    says(cut, lambda: fgm(constant, x, **ok))
    pair = linear(10)
    pair.register_forward_hook(lambda module, inputs, logits: (logits, logits))
    says("expected logits as a torch.Tensor, got tuple", lambda: fgm(pair, x, **ok))
    says("expected logits as a torch.Tensor, got tuple", lambda: pgd(pair, x, y, **ok))
    says("expected steps >= 1, got 2.5", lambda: pgd(model, x, y, steps=2.5, **ok))
    says("expected x of shape (N, ...) with N >= 1, got ()", lambda: audit(model, torch.tensor(1.0), y))
    beyond = "expected |x| + eps of at most 10000, Foolbox's bounds where nothing is clipped, got 20000"
    says(beyond, lambda: pgd(model, 0 * x + 2e4, y, eps=0.0, norm=2))
    says(beyond, lambda: pgd(model, 0 * x + 5e3, y, eps=15000.0, norm=1))
    says(beyond, lambda: minimum_norm(model, 0 * x - 2e4, y, norm=2))
    with torch.inference_mode():
        unfit = linear(10)
    within = "expected a model made outside torch.inference_mode(), got its 'weight' made within"
    says(within, lambda: fgm(unfit, x, **ok))
