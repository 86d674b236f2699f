"""What an attack did: the errors it caused, and whether it took the step that it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.checks import batches, check_images, check_labels, check_logits, check_model
from attacks.fast_gradient import moved, step
from attacks.gradients import in_float64, input_gradient
from attacks.meanings import meaning
from attacks.norms import check_bound, named

SHORT = 1e-3  # a step is short where it misses more than this fraction of eps


@dataclass(frozen=True)
class Measurement:
    """One attack at one norm and eps on n images; errors and shares are fractions of all n.

    Errors are against the true labels; NaN logits count as wrong. Images with a zero or non-finite gradient
    are left as they are and stay in every mean. delta = x_adv - x as applied, after rounding and clipping;
    p = 1 for both L1. mean_norm_ratio: mean ‖delta‖p / eps (1 at eps = 0). short_share: ‖delta‖p < 0.999 eps.
    """

    attack: str
    norm: str
    eps: float
    n: int
    clean_error: float
    attacked_error: float
    zero_gradient_share: float
    nonfinite_gradient_share: float
    mean_norm_ratio: float
    short_share: float


def measure_fgm(
    model: nn.Module,
    x: Tensor,
    y_true: Tensor,
    *,
    norms: Sequence[str],
    eps: Sequence[float],
    attack: str = "fgm",
    batch_size: int = 1000,
) -> list[Measurement]:
    """FGM at every norm (names in NORMS) and every eps, in that order, on x (N, ...) with y_true (N,).

    `attack` says which meaning, see `meaning`. Each batch takes one gradient for all, then one forward pass
    for each norm and eps; no image outlives its batch. ValueError as in `fgm`, or an unknown norm or attack.
    """
    at = [(norm, size) for norm in norms for size in eps]
    return measure_fgm_together(model, 1, x, y_true, at=at, attack=attack, batch_size=batch_size)[0]


def measure_fgm_together(
    model: nn.Module,
    models: int,
    x: Tensor,
    y_true: Tensor,
    *,
    at: Sequence[tuple[str, float]],
    attack: str = "fgm",
    batch_size: int = 1000,
) -> list[list[Measurement]]:
    """`measure_fgm` of several models in one, each of them on all of x; their measurements, model by model.

    `model` takes (models * N, ...), the first N for the first of them, and gives (models * N, classes). `at`: the
    pairs of norm and eps to measure.
    """
    bounds = {norm: named(norm) for norm, _ in at}
    for _, eps in at:
        check_bound(eps, norm=1, l1="spread")
    of = meaning(attack)
    check_model(model)
    check_images(x, of.clip)
    x = x.detach()
    n = len(x)
    check_labels(y_true, n)
    y_true = y_true.to(x.device)
    clean, zero, nonfinite = (torch.empty(models, n, dtype=torch.bool) for _ in range(3))
    attacked = torch.empty(len(at), models, n, dtype=torch.bool)
    length = torch.empty(len(at), models, n, dtype=torch.float64)
    source = in_float64(model) if of.float64 else model
    for part in batches(n, batch_size):
        images, truth = (given[part].repeat(models, *[1] * (given.ndim - 1)) for given in (x, y_true))
        points, labels = images.double() if of.float64 else images, truth if of.labels == "true" else None
        found = input_gradient(source, points, labels, loss=of.loss, batch_size=len(images))
        check_logits(found.logits, truth, len(images))
        clean[:, part] = wrong(found.logits, truth).view(models, -1)
        zero[:, part], nonfinite[:, part] = found.zero.view(models, -1), found.nonfinite.view(models, -1)
        units = {
            norm: step(found.gradient, eps=1.0, norm=bound.order, l1=bound.l1).to(images.dtype)
            for norm, bound in bounds.items()
        }
        for k, (norm, eps) in enumerate(at):
            adversarial = moved(images, eps * units[norm], of.clip)
            with torch.no_grad():
                attacked[k, :, part] = wrong(model(adversarial), truth).view(models, -1)
            delta = (adversarial.double() - images.double()).flatten(1)
            length[k, :, part] = torch.linalg.vector_norm(delta, bounds[norm].order, dim=1).view(models, -1)
    return [
        [
            Measurement(
                attack=attack,
                norm=norm,
                eps=eps,
                n=n,
                clean_error=_share(clean[one]),
                attacked_error=_share(attacked[k, one]),
                zero_gradient_share=_share(zero[one]),
                nonfinite_gradient_share=_share(nonfinite[one]),
                mean_norm_ratio=(length[k, one] / eps).mean().item() if eps else 1.0,
                short_share=_share(length[k, one] < eps * (1 - SHORT)),
            )
            for k, (norm, eps) in enumerate(at)
        ]
        for one in range(models)
    ]


def answers(model: nn.Module, x: Tensor) -> Tensor:
    """The model's answers to x (N, ...), a thousand at a time: (N, classes), without gradient."""
    with torch.no_grad():
        return torch.cat([model(x[part]) for part in batches(len(x), 1000)])


def wrong(logits: Tensor, truth: Tensor) -> Tensor:
    """(N,) bool: the largest logit is another class's, or some logit is NaN and there is no answer."""
    return (logits.argmax(1) != truth) | logits.isnan().any(1)


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()
