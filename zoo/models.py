"""The models of both papers. Each is what it adds to the one before.

`forward(x)` gives logits of the clean path at test-time statistics. `losses(batch, noise)` gives named terms, each a
mean over examples with the shape of the seed axis; their sum is the objective. Noise is standard Gaussian and comes
from outside, under the names and shapes of `noise_shapes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import ModelConfig
from zoo.layers import Decoder, Encoder, LayerNoise, Pass
from zoo.perturbation import curvature, divergences, finite_difference, kl_divergence, power_iteration, scale_to
from zoo.randomness import stream

Noise = Mapping[str, Tensor]
Sizes = Mapping[str, int]  # examples a group, of the groups "labelled" and "unlabelled" (they are normalised apart)
Shapes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """What one step sees: labelled (..., n, inputs), labels (..., n), unlabelled (..., m, inputs)."""

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor

    def __getitem__(self, group: str) -> Tensor:
        return self.labelled if group == "labelled" else self.unlabelled


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over examples of -log p(label): logits (..., n, classes), labels (..., n) -> (...)."""
    return -F.log_softmax(logits, -1).gather(-1, labels[..., None]).squeeze(-1).mean(-1)


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Of -log p(label) of each example by its logits: p - h(label), its entry at the label by the others' sum.

    So the gradient of a confident example keeps its digits: p(label) - 1 would be lost where p(label) rounds to 1.
    """
    others = logits.softmax(-1).scatter(-1, labels[..., None], 0.0)
    return others.scatter(-1, labels[..., None], -others.sum(-1, keepdim=True))


def direction_name(group: str, layer: int, draw: int) -> str:
    """The noise that is a start direction; the first draw has the name that it had alone."""
    return f"{group}/direction/{layer}" + (f"/{draw}" if draw else "")


class Classifier(nn.Module):
    """The supervised baseline: cross-entropy of a noisy pass; and what all models share."""

    card: dict[str, Any]  # of a loaded checkpoint: configuration, data, versions, errors

    def __init__(self, config: ModelConfig, seeds: Sequence[int] | None = None) -> None:
        """With `seeds`, parameters have a leading axis, each seed's drawn from it; without, zeros to load into."""
        super().__init__()
        self.config = config
        generators = None if seeds is None else [stream(seed, "initialisation") for seed in seeds]
        self.encoder = Encoder(config.widths, generators, config.leaky_slope, config.normalised_logits)
        self.build(generators)

    def build(self, generators: Sequence[torch.Generator] | None) -> None:
        """Whatever a model has beside the encoder."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) or images (N, 1, rows, columns) in [0, 1] -> logits (N, classes), or (seeds, N, classes)."""
        inputs = self.config.widths[0]
        flat = x if x.shape[-1] == inputs else x.flatten(1)
        if flat.shape[-1] != inputs:
            raise ValueError(f"expected (N, {inputs}) inputs or images of {inputs} pixels, got {tuple(x.shape)}")
        return self.at_test(flat)

    def at_test(self, x: Tensor) -> Tensor:
        """Logits of the clean path with running statistics, (..., N, inputs) -> (..., N, classes)."""
        return self.encode(x, statistics=self.encoder.running_statistics()).logits

    def encode(self, z: Tensor, **options: object) -> Pass:
        """`Encoder.forward`, typed."""
        result: Pass = self.encoder(z, **options)
        return result

    @torch.no_grad()
    def virtual_adversarial(self, x: Tensor, direction: Tensor, eps: float, iterations: int) -> Tensor:
        """x + r_vadv at test time, (..., N, inputs), from a random direction: VAT paper eq. 11 and 14, not clipped."""
        rest = self.encoder.linearise(x, statistics=self.encoder.running_statistics())
        return x + scale_to(power_iteration(curvature(rest), direction, iterations), eps, "L2")

    @torch.no_grad()
    def costs(self, x: Tensor, direction: Tensor, eps: float, iterations: int) -> Tensor:
        """LDS at test time of each x (..., N, inputs), shape (..., N): VAT paper eq. 5, smaller is smoother."""
        moved = self.virtual_adversarial(x, direction, eps, iterations)
        return divergences(self.at_test(x), self.at_test(moved))

    def smoothness(self, x: Tensor, direction: Tensor, eps: float, iterations: int) -> Tensor:
        """The virtual adversarial cost at test time, the mean of `costs`: VAL paper eq. 5 and Figure 3."""
        return self.costs(x, direction, eps, iterations).mean(-1)

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """Name -> (examples, units) of the Gaussian noise that one step uses."""
        return self.hidden_shapes("labelled", sizes["labelled"])

    def hidden_shapes(self, prefix: str, examples: int) -> Shapes:
        """Shapes of noise on hidden layers 1..L-1."""
        widths = self.config.widths
        return {f"{prefix}/hidden/{layer}": (examples, widths[layer]) for layer in range(1, len(widths) - 1)}

    def hidden_noise(self, noise: Noise, prefix: str) -> LayerNoise:
        """The noise of a pass that has it on hidden layers alone."""
        hidden = range(1, len(self.config.widths) - 1)
        return LayerNoise(self.config.hidden_sd, [None, *[noise[f"{prefix}/hidden/{layer}"] for layer in hidden], None])

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Cross-entropy of the noisy pass on labelled examples."""
        self.track(batch)
        logits = self.encode(batch.labelled, noise=self.hidden_noise(noise, "labelled")).logits
        return {"cross_entropy": cross_entropy(logits, batch.labels)}

    @torch.no_grad()
    def track(self, batch: Batch, clean: Pass | None = None) -> None:
        """Update test-time statistics from a clean pass; `clean` is that of the unlabelled, where there is one."""
        if self.config.statistics == "labelled":
            clean = self.encode(batch.labelled)
        self.encoder.track((clean or self.encode(batch.unlabelled)).statistics)


class Ladder(Classifier):
    """The ladder network: cross-entropy of the corrupted path and a denoising cost a layer (VAL paper, section 2)."""

    def build(self, generators: Sequence[torch.Generator] | None) -> None:
        """The decoder."""
        self.decoder = Decoder(self.config.widths, generators)

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """Corruption at every layer, for both groups."""
        layers = list(enumerate(self.config.widths))
        return {f"{group}/corruption/{layer}": (sizes[group], width) for group in sizes for layer, width in layers}

    def corruption(self, noise: Noise, group: str) -> LayerNoise:
        """The corrupted path's noise, at every layer."""
        layers = range(len(self.config.widths))
        return LayerNoise(self.config.corruption_sd, [noise[f"{group}/corruption/{layer}"] for layer in layers])

    def corrupted_input(self, x: Tensor, noise: Noise, group: str) -> Tensor:
        """z~(0)."""
        return torch.add(x, noise[f"{group}/corruption/0"], alpha=self.config.corruption_sd)

    def corrupt(self, x: Tensor, noise: Noise, group: str) -> Pass:
        """The corrupted path: VAL paper eq. 1 and 2."""
        return self.encode(self.corrupted_input(x, noise, group), noise=self.corruption(noise, group))

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Only unlabelled examples are denoised; gradients reach clean path, corrupted path and decoder."""
        clean = self.encode(batch.unlabelled)
        self.track(batch, clean)
        corrupted = {group: self.corrupt(batch[group], noise, group) for group in ("labelled", "unlabelled")}
        reconstructions = self.decoder(corrupted["unlabelled"])
        costs = self.decoder.costs(reconstructions, clean, self.config.denoising_weights())
        terms = {"cross_entropy": cross_entropy(corrupted["labelled"].logits, batch.labels)}
        terms |= {f"denoising_{layer}": cost for layer, cost in enumerate(costs)}
        return terms | self.smoothing(corrupted, noise)

    def smoothing(self, corrupted: Mapping[str, Pass], noise: Noise) -> dict[str, Tensor]:
        """Further terms of a fusion, from the corrupted passes of both groups."""
        return {}


class Adversarial(Classifier):
    """Adversarial training: the baseline, and the cross-entropy at x + r_adv (VAT paper eq. 1 to 4 with alpha = 1)."""

    @torch.no_grad()
    def perturbation(self, batch: Batch, noise: LayerNoise) -> Tensor:
        """r_adv, (..., n, inputs), a constant: eq. 3 (L2) or eq. 4 (L-infinity), one exact step from x.

        The batch's statistics move with x, as they do where the perturbation is scored.
        """
        rest = self.encoder.linearise(batch.labelled, noise=noise)
        direction = rest.vjp(cross_entropy_gradient(rest.logits, batch.labels))
        return scale_to(direction, self.config.eps()[0], self.config.norm)

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Both terms on labelled examples with the same noise; gradients reach both passes."""
        extra = self.hidden_noise(noise, "labelled")
        perturbed = self.encode(batch.labelled + self.perturbation(batch, extra), noise=extra).logits
        cost = self.config.hyperparameters.alpha * cross_entropy(perturbed, batch.labels)
        return super().losses(batch, noise) | {"adversarial": cost}


class VirtualAdversarial(Classifier):
    """What a model needs to perturb layers of its encoder: noise, start directions, the perturbation itself."""

    def groups(self) -> list[str]:
        """The groups of examples that are perturbed."""
        return ["labelled", "unlabelled"] if self.config.perturbed == "all" else [self.config.perturbed]

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """And a start direction for each perturbed layer, hidden noise for the passes that find a perturbation."""
        shapes = super().noise_shapes(sizes)
        passes = 1 if self.config.xi is None else 1 + max(map(self.config.iterations, self.config.eps()))
        for group in self.groups():
            for layer in self.config.eps():
                for draw in range(self.config.perturbations):
                    shapes[direction_name(group, layer, draw)] = (sizes[group], self.config.widths[layer])
            for k in range(passes):
                shapes |= self.hidden_shapes(f"{group}/find/{k}", sizes[group])
        return shapes

    @torch.no_grad()
    def perturbation(self, layer: int, z: Tensor, noise: Noise, group: str, draw: int = 0) -> Tensor:
        """r_vadv(l) at z~(l), (..., examples, units), a constant: VAL paper eq. 7, VAT paper Algorithm 1.

        With K = 0 it is uniform on the sphere of radius eps: random perturbation training, VAT paper eq. 16.

        Exact: the derivatives of one pass with its noise, the batch's statistics moving with z as they do where the
        perturbation is scored. With xi: finite differences, every pass with noise of its own, as the released runs.
        """
        config, iterations = self.config, self.config.iterations(layer)
        start = noise[direction_name(group, layer, draw)]
        if iterations == 0:
            return scale_to(start, config.eps()[layer], config.norm)

        def rest(k: int, z: Tensor) -> Tensor:
            return self.encode(z, start=layer, noise=self.hidden_noise(noise, f"{group}/find/{k}")).logits

        if config.xi is None:
            found = self.hidden_noise(noise, f"{group}/find/0")
            product = curvature(self.encoder.linearise(z, start=layer, noise=found))
        else:
            passes = [partial(rest, k) for k in range(1, iterations + 1)]
            product = finite_difference(rest(0, z), passes, z, config.xi)
        direction = power_iteration(product, start, iterations)
        return scale_to(direction, config.eps()[layer], config.norm)

    def cost(self, layer: int, passes: Mapping[str, tuple[Pass, LayerNoise]], noise: Noise) -> Tensor:
        """alpha KL(p(z~(l)) || p(z~(l) + r)), mean over the examples of all groups, shape (...): VAL paper eq. 5 and 6.

        `passes` are each group's own from layer 0, with the noise they had: the perturbed pass has the same. Their
        logits and r are constants; statistics are the perturbed batch's own.
        """
        total, examples = torch.zeros(()), 0
        for group, (path, extra) in passes.items():
            z = path.z[layer]
            for draw in range(self.config.perturbations):
                r = self.perturbation(layer, z, noise, group, draw)
                perturbed = self.encode(z + r, start=layer, noise=extra).logits
                total = total + kl_divergence(path.logits.detach(), perturbed) * z.shape[-2]
                examples += z.shape[-2]
        return self.config.hyperparameters.alpha * (total / examples)


class VAT(VirtualAdversarial):
    """Virtual adversarial training: the baseline, and the cost at the input (VAT paper eq. 8); K = 0 is RPT."""

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """And hidden noise for what is perturbed."""
        shapes = super().noise_shapes(sizes)
        for group in self.groups():
            shapes |= self.hidden_shapes(group, sizes[group])
        return shapes

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Gradients reach the labelled pass and the perturbed one."""
        return super().losses(batch, noise) | {"virtual_adversarial_0": self.regulariser(batch, noise)}

    def regulariser(self, batch: Batch, noise: Noise) -> Tensor:
        """alpha R(K) of a batch, shape (...): VAT paper eq. 7 and 16. The unperturbed pass is a constant."""
        passes = {}
        with torch.no_grad():
            for group in self.groups():
                extra = self.hidden_noise(noise, group)
                passes[group] = self.encode(batch[group], noise=extra), extra
        return self.cost(0, passes, noise)


class LVAC(VirtualAdversarial, Ladder):
    """Ladder with virtual adversarial costs at the layers that eps names (VAL paper eq. 6)."""

    def smoothing(self, corrupted: Mapping[str, Pass], noise: Noise) -> dict[str, Tensor]:
        """A cost a layer; the perturbed pass has the corrupted path's noise."""
        passes = {group: (corrupted[group], self.corruption(noise, group)) for group in self.groups()}
        return {f"virtual_adversarial_{layer}": self.cost(layer, passes, noise) for layer in self.config.eps()}


class LVAN(VirtualAdversarial, Ladder):
    """Ladder with virtual adversarial noise: the corrupted path carries r_vadv(l) too (VAL paper, section 3)."""

    def corrupt(self, x: Tensor, noise: Noise, group: str) -> Pass:
        """From the input up, each layer that eps names is perturbed where its path has got to."""

        def perturb(layer: int, z: Tensor) -> Tensor:
            return z + self.perturbation(layer, z, noise, group) if layer in self.config.eps() else z

        start, extra = self.corrupted_input(x, noise, group), self.corruption(noise, group)
        return self.encode(start, noise=extra, perturb=perturb if group in self.groups() else None)


CLASSES: dict[str, type[Classifier]] = {
    "supervised": Classifier,
    "rpt": VAT,
    "rpt-9": VAT,
    "adversarial-linf": Adversarial,
    "adversarial-l2": Adversarial,
    "vat": VAT,
    "ladder": Ladder,
    "lvac": LVAC,
    "lvac-lw": LVAC,
    "lvan": LVAN,
    "lvan-lw": LVAN,
}


def create(config: ModelConfig, seeds: Sequence[int] | None = None) -> Classifier:
    """The model that a configuration names; see `Classifier`."""
    return CLASSES[config.name](config, seeds)
