"""Encoder and decoder, written once over (..., examples, units): a leading axis, where there is one, is the seed.

Weights have shape (..., fan_in, fan_out), statistics run over axis -2, `@` broadcasts over the rest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.arithmetic import BATCH_NORM_EPSILON, Calculating, Statistics, standardise, through_statistics
from zoo.perturbation import Linearised


@dataclass(frozen=True)
class Pass:
    """One way through the encoder: what every layer held, and the logits (..., examples, classes)."""

    z: list[Tensor]  # z~(l) for l = start..L, (..., examples, units): normalised, before the shift; see `Encoder`
    statistics: list[Statistics]  # of the projections of layers start+1..L
    logits: Tensor


@dataclass(frozen=True)
class LayerNoise:
    """What a pass adds to its layers: sd times standard Gaussian noise by layer 0..L, None where there is none."""

    sd: float
    layers: Sequence[Tensor | None]


def gaussian_weight(generators: Sequence[torch.Generator] | None, fan_in: int, fan_out: int) -> nn.Parameter:
    """N(0, 1/fan_in) for each seed's generator: (seeds, fan_in, fan_out), or (fan_in, fan_out) of zeros for None."""
    if generators is None:
        return nn.Parameter(torch.zeros(fan_in, fan_out))
    draws = [torch.randn(fan_in, fan_out, generator=generator) for generator in generators]
    return nn.Parameter(torch.stack(draws) / math.sqrt(fan_in))


class Encoder(Calculating):
    """Fully connected encoder of the VAL paper, section 4: layers 1..L, layer 0 is the input.

    z(l) = normalised h(l-1) W(l); z~(l) = z(l) + noise; h(l) = leaky ReLU(z~(l) + shift(l)); logits = scale (z~(L) +
    shift(L)). Only the logits have a scale: below a leaky ReLU followed by batch normalisation it would be redundant.
    `normalised_logits` False: the last layer's projection is left as it is, without noise.
    `noise_on` "activation": z~(l) = z(l), h(l) = leaky ReLU(z(l) + shift(l)) + noise, and the logits have none.
    `hidden_scale`: h(l) = leaky ReLU(scale(l) (z~(l) + shift(l))), by which a layer can outgrow noise behind it.
    """

    tracked: Tensor  # how many batches the running statistics have seen, (seeds,) or ()

    def __init__(
        self,
        widths: Sequence[int],
        generators: Sequence[torch.Generator] | None = None,
        leaky_slope: float = 0.1,
        normalised_logits: bool = True,
        noise_on: str = "normalised",
        hidden_scale: bool = False,
    ) -> None:
        super().__init__()
        lead = () if generators is None else (len(generators),)
        self.widths, self.leaky_slope, self.normalised_logits = tuple(widths), leaky_slope, normalised_logits
        self.behind = noise_on == "activation"
        pairs = list(pairwise(widths))
        self.weight = nn.ParameterList([gaussian_weight(generators, *pair) for pair in pairs])
        self.shift = nn.ParameterList([torch.zeros(*lead, 1, width) for width in widths[1:]])
        self.scale = nn.Parameter(torch.ones(*lead, 1, widths[-1]))
        scaled = widths[1:-1] if hidden_scale else ()
        self.hidden_scale = nn.ParameterList([torch.ones(*lead, 1, width) for width in scaled])
        for layer, width in enumerate(widths[1:], start=1):
            self.register_buffer(f"mean_{layer}", torch.zeros(*lead, 1, width))
            self.register_buffer(f"variance_{layer}", torch.ones(*lead, 1, width))
        self.register_buffer("tracked", torch.zeros(lead, dtype=torch.float64))

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.widths) - 1

    def running_statistics(self) -> list[Statistics]:
        """The moving averages of layers 1..L: what a classifier uses at test time."""
        layers = range(1, self.depth + 1)
        return [(getattr(self, f"mean_{layer}"), getattr(self, f"variance_{layer}")) for layer in layers]

    @torch.no_grad()
    def track(self, statistics: Sequence[Statistics], decay: float = 0.99) -> None:
        """Move the running averages towards a batch's statistics: exponential average, free of its start value."""
        self.tracked += 1
        weight = ((1 - decay) / (1 - decay**self.tracked)).to(self.scale.dtype)[..., None, None]
        for running, batch in zip(self.running_statistics(), statistics, strict=True):
            for average, value in zip(running, batch, strict=True):
                average.lerp_(value, weight)

    def forward(
        self,
        z: Tensor,
        *,
        start: int = 0,
        noise: LayerNoise | None = None,
        statistics: Sequence[Statistics] | None = None,
        perturb: Callable[[int, Tensor], Tensor] | None = None,
        active: bool = False,
    ) -> Pass:
        """From z~(start), (..., examples, units), to the logits; `active`: from h(start).

        `noise` is added to z(l) for l > start, or to the activations h(l) for l >= start, 0 and L excepted.
        `statistics` of layers start+1..L, else the batch's own.
        `perturb(l, z~(l))` replaces z~(l), the start included.
        """
        on_z, on_h, sd = self.added(noise)
        z = z if perturb is None else perturb(start, z)
        zs, used = [z], []
        for layer in range(start + 1, self.depth + 1):
            weight = self.weight[layer - 1]
            if layer == 1 or (active and layer == start + 1):
                projection = self.arithmetic.product(z, weight)
            else:
                z, shift = self.scaled(layer - 1, z, self.shift[layer - 2])
                projection = self.arithmetic.project(z, shift, weight, self.leaky_slope, on_h[layer - 1], sd)
            extra = on_z[layer]
            if layer == self.depth and not self.normalised_logits:
                z, own = projection.to(self.scale.dtype), self.running_statistics()[-1]  # 0 and 1 for ever
            elif statistics is None:
                z, own = self.arithmetic.normalise(projection, extra, sd)
            else:
                own = statistics[layer - start - 1]
                z = standardise(projection, own)
                z = z if extra is None else torch.add(z, extra, alpha=sd)
            z = z if perturb is None else perturb(layer, z)
            zs.append(z)
            used.append(own)
        return Pass(zs, used, self.scale * (z + self.shift[-1]))

    def added(self, noise: LayerNoise | None) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None], float]:
        """What is added to z(l) and what to h(l), by layer 0..L, times the sd."""
        nothing: list[Tensor | None] = [None] * len(self.widths)
        if noise is None:
            return nothing, nothing, 0.0
        return (nothing, noise.layers, noise.sd) if self.behind else (noise.layers, nothing, noise.sd)

    def activated(self, path: Pass) -> Pass:
        """A pass from the input with the activations h(l) of its hidden layers in the place of their z~(l)."""
        hidden = range(1, self.depth)
        of = partial(self.arithmetic.activate, slope=self.leaky_slope)
        active = {layer: of(path.z[layer], self.shift[layer - 1]) for layer in hidden}
        return replace(path, z=[active.get(layer, z) for layer, z in enumerate(path.z)])

    def scaled(self, layer: int, *values: Tensor) -> Sequence[Tensor]:
        """Each times the scale of a hidden layer, where it has one."""
        return [self.hidden_scale[layer - 1] * value for value in values] if len(self.hidden_scale) else values

    def slope(self, layer: int, z: Tensor) -> Tensor:
        """d h(l) / d z~(l) at z~(l)."""
        (shifted,) = self.scaled(layer, z + self.shift[layer - 1])
        (slope,) = self.scaled(layer, (shifted > 0).to(z.dtype) * (1 - self.leaky_slope) + self.leaky_slope)
        return slope

    @torch.no_grad()
    def linearise(
        self,
        z: Tensor,
        *,
        start: int = 0,
        noise: LayerNoise | None = None,
        statistics: Sequence[Statistics] | None = None,
        active: bool = False,
    ) -> Linearised:
        """The derivative of `forward` at z~(start) or h(start): given statistics are constants, a batch's own move.

        J is a product of weights, slopes of the leaky ReLU and derivatives of the normalisations, each of which is its
        own transpose.
        """
        path: Pass = self(z, start=start, noise=noise, statistics=statistics, active=active)
        on_z, _, sd = self.added(noise)
        weights, slopes, normalisations = list(self.weight)[start:], [], []
        for layer, (_, variance) in enumerate(path.statistics, start):
            below, above = path.z[layer - start : layer - start + 2]
            as_it_is = layer == 0 or (active and layer == start)
            slopes.append(torch.ones((), device=z.device) if as_it_is else self.slope(layer, below))
            if layer == self.depth - 1 and not self.normalised_logits:
                normalisations.append(torch.positive)  # as it is
                break
            rsd = torch.rsqrt(variance + BATCH_NORM_EPSILON)
            extra = on_z[layer + 1]
            normalised = above if extra is None else torch.sub(above, extra, alpha=sd)
            moving = partial(through_statistics, normalised, rsd)
            normalisations.append(moving if statistics is None else partial(torch.mul, rsd))

        @torch.no_grad()
        def jvp(d: Tensor) -> Tensor:
            for slope, weight, normalisation in zip(slopes, weights, normalisations, strict=True):
                d = normalisation(self.arithmetic.product(d * slope, weight).to(z.dtype))
            return d * self.scale

        @torch.no_grad()
        def vjp(v: Tensor) -> Tensor:
            v = v * self.scale
            for slope, weight, normalisation in zip(slopes[::-1], weights[::-1], normalisations[::-1], strict=True):
                v = self.arithmetic.product(normalisation(v), weight.mT).to(z.dtype) * slope
            return v

        return Linearised(path.logits, jvp, vjp)


class Decoder(Calculating):
    """The ladder's decoder, symmetric to the encoder, with the Gaussian combinator of Rasmus et al. (2015).

    `released`: that of the VAL paper's released runs, which differs in three things. Of a hidden layer it denoises
    the activation h(l) where Rasmus et al. have z(l) (see `Encoder.activated`), it divides by the variance instead of
    its root, and its top signal are the logits, not their softmax.
    """

    def __init__(
        self, widths: Sequence[int], generators: Sequence[torch.Generator] | None = None, released: bool = False
    ) -> None:
        super().__init__()
        self.released = released
        lead = () if generators is None else (len(generators),)
        pairs = list(pairwise(widths))
        self.weight = nn.ParameterList([gaussian_weight(generators, above, below) for below, above in pairs])
        start = torch.tensor([0.0, 1, 0, 0, 0, 0, 1, 0, 0, 0])[:, None]  # a2 = a7 = 1
        self.combinator = nn.ParameterList([start.expand(*lead, 10, width).clone() for width in widths])

    def forward(self, corrupted: Pass) -> list[Tensor]:
        """The reconstructions z^(l), l = 0..L, (..., examples, units), from the top down."""
        u = corrupted.logits if self.released else corrupted.logits.softmax(-1)
        reconstructions: list[Tensor] = []
        for layer in reversed(range(len(self.combinator))):
            z_hat = self.arithmetic.denoise(corrupted.z[layer], u, self.combinator[layer])
            reconstructions.insert(0, z_hat)
            if layer > 0:
                u = self.arithmetic.product(z_hat, self.weight[layer - 1])
        return reconstructions

    def costs(self, reconstructions: Sequence[Tensor], clean: Pass, weights: Sequence[float]) -> list[Tensor]:
        """lambda(l) / width(l) * mean over examples of ||z^BN(l) - z(l)||^2, l = 0..L, each of shape (...).

        z^BN(l) is the reconstruction normalised by the clean path's batch statistics (Rasmus et al., Algorithm 1); the
        input has none. Gradients reach the clean path too.
        """
        costs = [weights[0] * (reconstructions[0] - clean.z[0]).square().mean((-2, -1))]
        for z_hat, z, own, weight in zip(reconstructions[1:], clean.z[1:], clean.statistics, weights[1:], strict=True):
            by = (own[0], own[1].square()) if self.released else own
            costs.append(weight * self.arithmetic.distance(z_hat, z, by))
        return costs
