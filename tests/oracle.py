"""Independent float64 NumPy oracle of one model's passes, costs and perturbations, written from the papers.

What the models sum of it is in oracle_losses.py.

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


# ---------------------------------------------------------------- the virtual adversarial perturbation


def jacobian(params: Params, ztilde_l: Array, layer: int, noise: Noise) -> Array:
    """d logits / d ztilde(layer), (examples, classes, examples, d_layer): each one's logits by each one's point.

    Batch normalisation couples the examples: d z_n / d z_pre_m = (delta_nm - 1 / N - z_n z_m / N) / sd in every unit,
    since mean and variance are functions of the batch too (Ioffe and Szegedy 2015, section 3).
    """
    path = encode(params, None, noise, start_layer=layer, z_start=ztilde_l)
    examples, width = np.shape(ztilde_l)
    found = np.einsum("nm,ui->numi", np.eye(examples), np.eye(width))  # d ztilde(layer) / d ztilde(layer)
    for below in range(layer, depth(params)):
        if below > 0 and not (below == layer and "perturbed_activation" in params):  # leaky ReLU; the inputs have none
            scale = hidden_scale(params, below)
            shifted = scale * (path.ztilde[below] + as_float64(params[f"shift_{below}"]))
            slopes = scale * leaky_relu_slope(shifted, slope_below_zero(params))
            found = slopes[:, :, None, None] * found
        found = np.einsum("numi,uv->nvmi", found, as_float64(params[f"weight_{below + 1}"]))
        z, variance = path.z[below + 1], path.statistics[below + 1][1]
        coupling = np.eye(examples)[:, :, None] - 1 / examples - z[:, None] * z[None] / examples
        found = np.einsum("nku,kumi->numi", coupling / np.sqrt(variance + BATCH_NORM_EPSILON), found)
    return as_float64(as_float64(params["scale"]).reshape(1, -1, 1, 1) * found)


def hessian(params: Params, ztilde_l: Array, layer: int, noise: Noise) -> Array:
    """H of VAT equation 9, (examples, d_layer, examples, d_layer), of the divergence summed over the batch.

    H = sum over n of J_n' (diag(p_n) - p_n p_n') J_n: the Hessian of the sum of KL(p_n || q_n(r)) at r = 0 for
    logits whose own second derivative does not count there, the gradient of KL being zero.
    """
    j = jacobian(params, ztilde_l, layer, noise)
    p = softmax(encode(params, None, noise, start_layer=layer, z_start=ztilde_l).logits)
    fisher = np.einsum("nc,cd->ncd", p, np.eye(p.shape[1])) - np.einsum("nc,nd->ncd", p, p)
    return np.einsum("ncki,ncd,ndmj->kimj", j, fisher, j)


def unit(vector: Array) -> Array:
    """vector / |vector|_2; the zero vector stays zero."""
    length = float(np.sqrt((vector**2).sum()))
    return vector / length if length > 0.0 else vector


def power_iteration(hessian: Array, direction: Array, power_iterations: int) -> Array:
    """VAT equation 11: K times d <- H d, each example's part at length 1; starts from direction / |direction|.

    hessian (examples, d, examples, d), direction (examples, d); returns unit vectors (examples, d).
    """
    d = np.stack([unit(start) for start in as_float64(direction)])
    for _ in range(power_iterations):
        d = np.stack([unit(product) for product in np.einsum("nimj,mj->ni", hessian, d)])
    return d


def perturbation(
    params: Params,
    ztilde_l: Array,
    layer: int,
    noise: Noise,
    direction: Array,
    eps: float,
    power_iterations: int,
    norm: str = "L2",
) -> Array:
    """r(l) of VAL equation 7: "L2" gives eps * d (VAT equation 14), "Linf" eps * sign(d) (VAT equation 4).

    d is the normalised last product H d; its sign pattern is that of the product itself.
    """
    d = power_iteration(hessian(params, ztilde_l, layer, noise), direction, power_iterations)
    if norm == "L2":
        return as_float64(eps * d)
    if norm == "Linf":
        return as_float64(eps * np.sign(d))
    raise ValueError(f"expected norm 'L2' or 'Linf', got {norm!r}")


def perturbed_values(params: Params, path: Path, layer: int) -> Array:
    """What LVAC perturbs of a layer: ztilde, or with "perturbed_activation" among the parameters h."""
    return path.h[layer] if "perturbed_activation" in params else path.ztilde[layer]


def virtual_adversarial_each(
    params: Params, path: Path, layer: int, noise: Noise, r: Array, either_sign: bool = False, fresh: bool = False
) -> Array:
    """KL(p(ztilde(l)) || p(ztilde(l) + r)) of every example: VAT equation 5, one term of VAL equation 6.

    `noise` is the perturbed pass's: that of `path`, or fresh, then added to the layer itself too; the batch statistics
    are its own. either_sign: an example for which -r, in a batch of such, gives more than r in a batch of these is
    moved by -r.
    """
    at = perturbed_values(params, path, layer)
    start = add_noise(at, noise, layer) if fresh else at

    def moved(step: Array) -> Array:
        perturbed = encode(params, None, noise, start_layer=layer, z_start=start + step)
        return kl_each(path.logits, perturbed.logits)

    if not either_sign:
        return moved(r)
    forth, back = moved(r), moved(-r)
    return moved(np.stack([step if a >= b else -step for step, a, b in zip(r, forth, back, strict=True)]))
