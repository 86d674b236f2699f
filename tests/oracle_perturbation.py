"""The virtual adversarial perturbation and its cost in float64 NumPy, written from the papers; see oracle.py."""

import numpy as np
from oracle import (
    BATCH_NORM_EPSILON,
    Array,
    Noise,
    Params,
    Path,
    add_noise,
    as_float64,
    depth,
    encode,
    hidden_scale,
    kl_each,
    leaky_relu_slope,
    slope_below_zero,
    softmax,
)


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

    d is the normalised last product H d; its sign pattern is that of the product itself. With "split" among the
    parameters the first so many examples and the rest are two batches, see `split`.
    """
    parts = split(params, len(ztilde_l))
    own = [[None if added is None else added[part] for added in noise] for part in parts]
    curved = [hessian(params, ztilde_l[part], layer, added) for part, added in zip(parts, own, strict=True)]
    found = [power_iteration(h, direction[part], power_iterations) for part, h in zip(parts, curved, strict=True)]
    d = np.concatenate(found)
    if norm == "L2":
        return as_float64(eps * d)
    if norm == "Linf":
        return as_float64(eps * np.sign(d))
    raise ValueError(f"expected norm 'L2' or 'Linf', got {norm!r}")


def split(params: Params, examples: int) -> list[slice]:
    """A perturbed batch by what is normalised together, as tf-ssl's lva.py at 02b1283 does it.

    There Adversary.forward gives unlabelled examples to an Encoder, whose split_lu takes the first batch_size of them
    for labelled, so that they have statistics of their own. That number is "split" among the parameters.
    """
    first = int(params.get("split", 0))
    return [part for part in (slice(0, first), slice(first, examples)) if part.start < min(part.stop, examples)]


def perturbed_values(params: Params, path: Path, layer: int) -> Array:
    """What LVAC perturbs of a layer: ztilde, or with "perturbed_activation" among the parameters h."""
    return path.h[layer] if "perturbed_activation" in params else path.ztilde[layer]


def virtual_adversarial_each(
    params: Params, path: Path, layer: int, noise: Noise, r: Array, either_sign: bool = False, fresh: bool = False
) -> Array:
    """KL(p(ztilde(l)) || p(ztilde(l) + r)) of every example: VAT equation 5, one term of VAL equation 6.

    `noise` is the perturbed pass's: that of `path`, or fresh, then added to the layer itself too; the batch statistics
    are its own. either_sign: of r, in a batch of such, and -r, in a batch of these, what gives an example more.
    """
    at = perturbed_values(params, path, layer)
    start = add_noise(at, noise, layer) if fresh else at

    def moved(step: Array) -> Array:
        logits = []
        for part in split(params, len(start)):
            own = [None if added is None else added[part] for added in noise]
            logits.append(encode(params, None, own, start_layer=layer, z_start=(start + step)[part]).logits)
        return kl_each(path.logits, np.concatenate(logits))

    return np.maximum(moved(r), moved(-r)) if either_sign else moved(r)
