"""Independent float64 NumPy oracle of one model's passes and costs, written from the papers.

Perturbations are in oracle_perturbation.py, what the models sum of it in oracle_losses.py and oracle_vat.py.

VAL = Virtual Adversarial Ladder Networks; VAT = Virtual Adversarial Training; Rasmus = Rasmus et al. 2015.
Layers are 0 (inputs) to L (logits). `noise` is a list of L + 1 already scaled arrays, `noise[l]` of shape
(examples, d_l) is added to layer l, None means no noise there. Nothing here is differentiated, so
"constant" in the papers (r, first argument of the divergence) needs no code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Params = Mapping[str, Array]
Noise = Sequence[Array | None]
Statistics = dict[int, tuple[Array, Array]]  # layer -> (mean, biased variance) of z_pre over the examples

BATCH_NORM_EPSILON = 1e-10
LEAKY_SLOPE = 0.1


@dataclass
class Path:
    """One pass through the encoder; dictionaries are keyed by layer, from the layer where the pass started.

    `statistics` and `z` (normalised, before noise) exist only above the starting layer, `z[0]` = x.
    `ztilde` is z plus noise (plus perturbation), `h` the input of the next layer.
    """

    statistics: Statistics
    z: dict[int, Array]
    ztilde: dict[int, Array]
    h: dict[int, Array]
    logits: Array


# -------------------------------------------------------------------------------- elementary functions


def as_float64(values: object) -> Array:
    """The array in float64."""
    return np.asarray(values, dtype=np.float64)


def depth(params: Params) -> int:
    """L, the number of weight matrices of the encoder."""
    layers = 0
    while f"weight_{layers + 1}" in params:
        layers += 1
    return layers


def add_noise(values: Array, noise: Noise, layer: int) -> Array:
    """values + n_layer, a new array."""
    noise_of_layer = noise[layer]
    if noise_of_layer is None:
        return values.copy()
    noise_of_layer = as_float64(noise_of_layer)
    if noise_of_layer.shape != values.shape:
        raise ValueError(f"expected noise of shape {values.shape} at {layer}, got {noise_of_layer.shape}")
    return values + noise_of_layer


def hidden_only(noise: Noise) -> list[Array | None]:
    """The same noise without its entries for the inputs and the logits layer (FACTS section 1)."""
    return [None, *noise[1:-1], None]


def no_noise(params: Params) -> list[Array | None]:
    """Noise of the clean path."""
    return [None] * (depth(params) + 1)


def batch_statistics(z_pre: Array) -> tuple[Array, Array]:
    """Mean and biased variance over the examples, each of shape (units,)."""
    mean = z_pre.sum(axis=0) / len(z_pre)
    variance = ((z_pre - mean) ** 2).sum(axis=0) / len(z_pre)
    return mean, variance


def normalise_batch(z_pre: Array, statistics: tuple[Array, Array]) -> Array:
    """Batch normalisation without scale and shift."""
    mean, variance = statistics
    return as_float64((z_pre - mean) / np.sqrt(variance + BATCH_NORM_EPSILON))


def slope_below_zero(params: Params) -> float:
    """0.1, the released runs', unless the parameters name another: 0 is the ReLU of VAT section 4."""
    return float(params.get("leaky_slope", np.float64(LEAKY_SLOPE)))


def leaky_relu(values: Array, slope: float) -> Array:
    return np.where(values > 0.0, values, slope * values)


def leaky_relu_slope(values: Array, slope: float) -> Array:
    return np.where(values > 0.0, 1.0, slope)


def sigmoid(values: Array) -> Array:
    """1 / (1 + exp(-values)), written with tanh, which does not overflow."""
    return as_float64(0.5 * (1.0 + np.tanh(0.5 * values)))


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return as_float64(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(logits: Array) -> Array:
    return as_float64(np.exp(log_softmax(logits)))


def cross_entropy(logits: Array, labels: NDArray[np.integer]) -> float:
    """Mean over examples of -log p(label); labels are class indices of shape (examples,)."""
    log_p = log_softmax(logits)
    return -sum(float(log_p[n, label]) for n, label in enumerate(labels)) / len(labels)


def kl_each(logits_p: Array, logits_q: Array) -> Array:
    """KL(p || q) = sum_y p log(p / q) of every example, shape (examples,); p, q given by their logits."""
    return as_float64((softmax(logits_p) * (log_softmax(logits_p) - log_softmax(logits_q))).sum(axis=1))


def kl(logits_p: Array, logits_q: Array) -> float:
    """Mean over examples of KL(p || q)."""
    return float(kl_each(logits_p, logits_q).mean())


# ----------------------------------------------------------------------------------------- the encoder


def activate(params: Params, ztilde: Array, layer: int) -> Array:
    """h(layer) from ztilde(layer): VAL equation 2; the inputs pass unchanged, the logits are scaled."""
    if layer == 0:
        return ztilde
    shifted = ztilde + as_float64(params[f"shift_{layer}"])
    if layer == depth(params):
        return as_float64(params["scale"]) * shifted
    return leaky_relu(hidden_scale(params, layer) * shifted, slope_below_zero(params))


def hidden_scale(params: Params, layer: int) -> Array:
    """gamma of a hidden layer, as in the released VAT (tf-ssl, lva.py at 02b1283); 1 where the parameters have none."""
    return as_float64(params.get(f"scale_{layer}", np.float64(1.0)))


def encode(
    params: Params,
    x: Array | None,
    noise: Noise,
    start_layer: int = 0,
    z_start: Array | None = None,
    statistics: Statistics | None = None,
) -> Path:
    """A pass through the encoder, VAL equations 1-2, from x or from a given ztilde(start_layer).

    With z_start, x is ignored, noise[start_layer] is NOT added, and layers above start_layer are computed.
    With statistics, these replace the batch's own mean and variance. "perturbed_activation" among the parameters:
    z_start is h(start_layer) instead, as in tf-ssl's lva.py at 02b1283, whose get_vat_cost perturbs that.
    """
    if z_start is None:
        if x is None or start_layer != 0:
            raise ValueError("expected x and start_layer 0, or z_start")
        x = as_float64(x)
        path = Path({}, {0: x}, {0: add_noise(x, noise, 0)}, {}, np.zeros(0))
    else:
        path = Path({}, {}, {start_layer: as_float64(z_start)}, {}, np.zeros(0))
    as_it_is = z_start is not None and "perturbed_activation" in params
    start = path.ztilde[start_layer]
    path.h[start_layer] = start if as_it_is else activate(params, start, start_layer)
    for layer in range(start_layer + 1, depth(params) + 1):
        climb(params, path, layer, noise, None if statistics is None else statistics[layer])
    path.logits = path.h[depth(params)]
    return path


def climb(params: Params, path: Path, layer: int, noise: Noise, fixed: tuple[Array, Array] | None = None) -> None:
    """Compute one layer of a path from the layer below it, in place."""
    z_pre = path.h[layer - 1] @ as_float64(params[f"weight_{layer}"])
    path.statistics[layer] = batch_statistics(z_pre) if fixed is None else fixed
    path.z[layer] = normalise_batch(z_pre, path.statistics[layer])
    if "noise_on_activation" in params:  # as in the released VAT, which has none at the logits
        path.ztilde[layer] = path.z[layer]
        path.h[layer] = add_noise(activate(params, path.z[layer], layer), hidden_only(noise), layer)
    else:
        path.ztilde[layer] = add_noise(path.z[layer], noise, layer)
        path.h[layer] = activate(params, path.ztilde[layer], layer)


# ----------------------------------------------------------------------------------------- the decoder


def gauss_combinator(ztilde: Array, u: Array, a: Array) -> Array:
    """Rasmus section 4.1: g(ztilde, u) = (ztilde - mu(u)) v(u) + mu(u); a has the rows a1..a10."""
    a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = as_float64(a)
    mu = a1 * sigmoid(a2 * u + a3) + a4 * u + a5
    v = a6 * sigmoid(a7 * u + a8) + a9 * u + a10
    return as_float64((ztilde - mu) * v + mu)


def decode_cost(params: Params, corrupted: Path, clean: Path, lambdas: Sequence[float]) -> list[float]:
    """Weighted denoising costs of layers 0..L, Rasmus Algorithm 1, in that order.

    Cost of layer l: lambda_l / d_l * mean over examples of the squared error summed over units, between
    zhat(l) normalised with the clean path's statistics (not at l = 0) and the clean path's z(l). "released_decoder"
    among the parameters: as tf-ssl's lva.py at 02b1283 does it instead, with activations for z where 0 < l < L.
    """
    layers, released = depth(params), "released_decoder" in params
    costs = [0.0] * (layers + 1)
    top = corrupted.logits if released else softmax(corrupted.logits)
    u = normalise_batch(top, batch_statistics(top))
    for layer in range(layers, -1, -1):
        activations = released and 0 < layer < layers
        seen, target = (corrupted.h, clean.h) if activations else (corrupted.ztilde, clean.z)
        zhat = gauss_combinator(seen[layer], u, params[f"combinator_{layer}"])
        reconstruction = zhat if layer == 0 else normalise_batch(zhat, clean.statistics[layer])
        if released and layer > 0:
            mean, variance = clean.statistics[layer]
            reconstruction = (zhat - mean) / np.sqrt(variance**2 + BATCH_NORM_EPSILON)  # there without epsilon
        examples, width = zhat.shape
        squared_error = float(((reconstruction - target[layer]) ** 2).sum())
        costs[layer] = lambdas[layer] / width * squared_error / examples
        if layer > 0:
            projected = zhat @ as_float64(params[f"decoder_weight_{layer}"])
            u = normalise_batch(projected, batch_statistics(projected))
    return costs
