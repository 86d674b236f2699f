"""The losses of every model in float64 NumPy, written from the papers; their parts and all shapes are in oracle.py."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from oracle import (
    Array,
    Noise,
    Params,
    Path,
    activate,
    add_noise,
    as_float64,
    climb,
    cross_entropy,
    decode_cost,
    depth,
    encode,
    hidden_only,
    no_noise,
)
from oracle_perturbation import perturbation, perturbed_values, virtual_adversarial_each

# ------------------------------------------------------------------------------------------ the models


def ladder_costs(
    params: Params,
    corrupted_labelled: Path,
    labels: NDArray[np.integer],
    corrupted_unlabelled: Path,
    unlabelled_x: Array,
    lambdas: Sequence[float],
) -> dict[str, float]:
    """Supervised and denoising costs of a ladder whose corrupted paths are given."""
    clean = encode(params, unlabelled_x, no_noise(params))
    losses = {"cross_entropy": cross_entropy(corrupted_labelled.logits, labels)}
    for layer, cost in enumerate(decode_cost(params, corrupted_unlabelled, clean, lambdas)):
        losses[f"denoising_{layer}"] = cost
    return losses


def ladder_losses(
    params: Params,
    labelled_x: Array,
    labels: NDArray[np.integer],
    unlabelled_x: Array,
    noise_labelled: Noise,
    noise_unlabelled: Noise,
    lambdas: Sequence[float],
) -> dict[str, float]:
    """Ladder: 'cross_entropy' (corrupted path, labelled) and 'denoising_0'..'denoising_L' (unlabelled)."""
    labelled = encode(params, labelled_x, noise_labelled)
    unlabelled = encode(params, unlabelled_x, noise_unlabelled)
    return ladder_costs(params, labelled, labels, unlabelled, unlabelled_x, lambdas)


def lvac_losses(
    params: Params,
    labelled_x: Array,
    labels: NDArray[np.integer],
    unlabelled_x: Array,
    noise_labelled: Noise,
    noise_unlabelled: Noise,
    lambdas: Sequence[float],
    eps: Mapping[int, float],
    power_iterations: int,
    directions: Mapping[int, Array],
    finding_noise: Mapping[int, Noise],
    norm: str = "L2",
    perturb_labelled: bool = False,
    labelled_directions: Mapping[int, Array] | None = None,
    labelled_finding_noise: Mapping[int, Noise] | None = None,
    either_sign: bool = False,
    scoring_noise: Mapping[int, Noise] | None = None,
    labelled_scoring_noise: Mapping[int, Noise] | None = None,
) -> dict[str, float]:
    """LVAC and LVAC-LW: the ladder's losses and 'virtual_adversarial_l' (VAL equation 6, alpha 1), l in eps.

    r(l) is found at the corrupted ztilde(l) with finding_noise[l] (only its hidden layers above l act).
    perturb_labelled: the mean goes over labelled and unlabelled examples together. scoring_noise[l]: the perturbed
    pass's, from layer l up, where it is not that of the corrupted path.
    """
    labelled = encode(params, labelled_x, noise_labelled)
    unlabelled = encode(params, unlabelled_x, noise_unlabelled)
    losses = ladder_costs(params, labelled, labels, unlabelled, unlabelled_x, lambdas)
    groups = [(unlabelled, noise_unlabelled, directions, finding_noise, scoring_noise)]
    if perturb_labelled:
        if labelled_directions is None or labelled_finding_noise is None:
            raise ValueError("perturb_labelled needs labelled_directions and labelled_finding_noise")
        groups.append((labelled, noise_labelled, labelled_directions, labelled_finding_noise, labelled_scoring_noise))
    for layer in sorted(eps):
        divergences = []
        for path, noise, starts, finding, scoring in groups:
            r = perturbation(
                params,
                perturbed_values(params, path, layer),
                layer,
                hidden_only(finding[layer]),
                starts[layer],
                eps[layer],
                power_iterations,
                norm,
            )
            fresh = scoring is not None
            scored = scoring[layer] if scoring is not None else noise
            divergences.append(virtual_adversarial_each(params, path, layer, scored, r, either_sign, fresh))
        losses[f"virtual_adversarial_{layer}"] = float(np.concatenate(divergences).mean())
    return losses


def encode_with_perturbations(
    params: Params,
    x: Array,
    noise: Noise,
    eps: Mapping[int, float],
    power_iterations: int,
    directions: Mapping[int, Array],
    finding_noise: Mapping[int, Noise],
    norm: str = "L2",
) -> Path:
    """Corrupted path of LVAN: at every layer in eps, ascending, ztilde(l) += r(l), VAL section 3.

    r(l), VAL equation 7, is found at ztilde(l) as it stands: Gaussian noise and lower perturbations included.
    """
    x = as_float64(x)
    path = Path({}, {0: x}, {0: add_noise(x, noise, 0)}, {}, np.zeros(0))
    for layer in range(depth(params) + 1):
        if layer > 0:
            climb(params, path, layer, noise)
        if layer in eps:
            path.ztilde[layer] = path.ztilde[layer] + perturbation(
                params,
                path.ztilde[layer],
                layer,
                hidden_only(finding_noise[layer]),
                directions[layer],
                eps[layer],
                power_iterations,
                norm,
            )
        path.h[layer] = activate(params, path.ztilde[layer], layer)
    path.logits = path.h[depth(params)]
    return path


def lvan_losses(
    params: Params,
    labelled_x: Array,
    labels: NDArray[np.integer],
    unlabelled_x: Array,
    noise_labelled: Noise,
    noise_unlabelled: Noise,
    lambdas: Sequence[float],
    eps: Mapping[int, float],
    power_iterations: int,
    directions: Mapping[int, Array],
    finding_noise: Mapping[int, Noise],
    norm: str = "L2",
    perturb_labelled: bool = False,
    labelled_directions: Mapping[int, Array] | None = None,
    labelled_finding_noise: Mapping[int, Noise] | None = None,
) -> dict[str, float]:
    """LVAN and LVAN-LW (VAL section 3): the ladder's losses, its corrupted path carrying r(l) for l in eps.

    perturb_labelled: the labelled corrupted path, hence 'cross_entropy', carries its own r(l) too.
    """
    unlabelled = encode_with_perturbations(
        params, unlabelled_x, noise_unlabelled, eps, power_iterations, directions, finding_noise, norm
    )
    if perturb_labelled:
        if labelled_directions is None or labelled_finding_noise is None:
            raise ValueError("perturb_labelled needs labelled_directions and labelled_finding_noise")
        labelled = encode_with_perturbations(
            params,
            labelled_x,
            noise_labelled,
            eps,
            power_iterations,
            labelled_directions,
            labelled_finding_noise,
            norm,
        )
    else:
        labelled = encode(params, labelled_x, noise_labelled)
    return ladder_costs(params, labelled, labels, unlabelled, unlabelled_x, lambdas)


def vat_losses(
    params: Params,
    labelled_x: Array,
    labels: NDArray[np.integer],
    unlabelled_x: Array,
    noise_labelled: Noise,
    noise_unlabelled: Noise,
    eps: float,
    power_iterations: int,
    direction: Array,
    finding_noise: Noise,
    norm: str = "L2",
    perturb_labelled: bool = False,
    labelled_direction: Array | None = None,
    labelled_finding_noise: Noise | None = None,
    either_sign: bool = False,
    scoring_noise: Noise | None = None,
    labelled_scoring_noise: Noise | None = None,
) -> dict[str, float]:
    """VAT equation 8: 'cross_entropy' (labelled) and 'virtual_adversarial' (equation 5 at the inputs).

    Only the hidden entries of every noise act. The mean goes over the unlabelled examples, with
    perturb_labelled over labelled and unlabelled examples together (VAT equation 7). scoring_noise: the perturbed
    pass's, where it is not that of the unperturbed.
    """
    noise_labelled, noise_unlabelled = hidden_only(noise_labelled), hidden_only(noise_unlabelled)
    labelled = encode(params, labelled_x, noise_labelled)
    unlabelled = encode(params, unlabelled_x, noise_unlabelled)
    groups = [(unlabelled, noise_unlabelled, direction, finding_noise, scoring_noise)]
    if perturb_labelled:
        if labelled_direction is None or labelled_finding_noise is None:
            raise ValueError("perturb_labelled needs labelled_direction and labelled_finding_noise")
        groups.append((labelled, noise_labelled, labelled_direction, labelled_finding_noise, labelled_scoring_noise))
    divergences = []
    for path, noise, start, finding, scoring in groups:
        r = perturbation(params, path.ztilde[0], 0, hidden_only(finding), start, eps, power_iterations, norm)
        scored = noise if scoring is None else hidden_only(scoring)
        divergences.append(virtual_adversarial_each(params, path, 0, scored, r, either_sign))
    return {
        "cross_entropy": cross_entropy(labelled.logits, labels),
        "virtual_adversarial": float(np.concatenate(divergences).mean()),
    }
