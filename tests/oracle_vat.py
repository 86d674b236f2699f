"""The further models of the VAT paper in float64 NumPy, and its equation 21; see oracle_losses.py."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from oracle import Array, Noise, Params, as_float64, cross_entropy, encode, hidden_only, softmax
from oracle_losses import vat_losses
from oracle_perturbation import jacobian, perturbation, unit, virtual_adversarial_each


def averaged_vat_losses(alpha: float, directions: Sequence[Mapping[str, Array]], **given: object) -> dict[str, float]:
    """VAT equation 8 with alpha, its cost the mean over several start directions (VAT section 4.5).

    `directions`: by draw, the arguments "direction" and, where the labelled are perturbed, "labelled_direction".
    """
    draws = [vat_losses(**given, **each) for each in directions]  # type: ignore[arg-type]
    cost = sum(each["virtual_adversarial"] for each in draws) / len(draws)
    return {"cross_entropy": draws[0]["cross_entropy"], "virtual_adversarial_0": alpha * cost}


def labelled_vat_losses(
    params: Params,
    x: Array,
    labels: NDArray[np.integer],
    noise: Noise,
    eps: float,
    power_iterations: int,
    alpha: float,
    directions: Sequence[Array],
    finding_noise: Noise,
    norm: str = "L2",
) -> dict[str, float]:
    """VAT equation 8 where all data are labelled: the regulariser of equation 7 is a mean over the same batch."""
    noise = hidden_only(noise)
    path = encode(params, x, noise)
    costs = []
    for start in directions:
        r = perturbation(params, path.ztilde[0], 0, hidden_only(finding_noise), start, eps, power_iterations, norm)
        costs.append(virtual_adversarial_each(params, path, 0, noise, r).mean())
    cost = float(np.mean(costs))
    return {"cross_entropy": cross_entropy(path.logits, labels), "virtual_adversarial_0": alpha * cost}


def adversarial_losses(
    params: Params,
    x: Array,
    labels: NDArray[np.integer],
    noise: Noise,
    eps: float,
    alpha: float,
    norm: str,
) -> dict[str, float]:
    """VAT equations 1-4 with D the cross entropy and q the label's one-hot vector, beside the likelihood term.

    g_m = gradient of the batch's summed cross entropy by x_m: every example's logits depend on x_m through the
    batch's statistics.
    """
    noise = hidden_only(noise)
    path = encode(params, x, noise)
    error = softmax(path.logits) - np.eye(path.logits.shape[1])[labels]
    g = np.einsum("nc,ncmi->mi", error, jacobian(params, as_float64(x), 0, noise))
    r = eps * (np.stack([unit(each) for each in g]) if norm == "L2" else np.sign(g))
    perturbed = encode(params, as_float64(x) + r, noise)
    return {
        "cross_entropy": cross_entropy(path.logits, labels),
        "adversarial": alpha * cross_entropy(perturbed.logits, labels),
    }


def normalised_deviation(gradients: Sequence[Array]) -> float:
    """VAT equation 21 by its definition: root of the trace of the covariance (ddof 1) over |mean|_2."""
    draws = [as_float64(g) for g in gradients]
    mean = sum(draws[1:], draws[0]) / len(draws)
    trace = 0.0
    for i in range(len(mean)):
        trace += sum(float(g[i] - mean[i]) ** 2 for g in draws) / (len(draws) - 1)
    return float(np.sqrt(trace) / np.sqrt(sum(float(m) ** 2 for m in mean)))
