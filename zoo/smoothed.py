"""The VAT paper's models: adversarial training, virtual adversarial training and, with K = 0, random perturbations."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from zoo.classifier import Batch, Classifier, Noise, Sizes, cross_entropy
from zoo.layers import LayerNoise, Pass
from zoo.perturbation import (
    Map,
    curvature,
    divergences,
    finite_difference,
    power_iteration,
    scale_to,
    side_by_side,
)
from zoo.randomness import Shapes


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Of -log p(label) of each example by its logits: p - h(label), its entry at the label by the others' sum.

    So the gradient of a confident example keeps its digits: p(label) - 1 would be lost where p(label) rounds to 1.
    """
    others = logits.softmax(-1).scatter(-1, labels[..., None], 0.0)
    return others.scatter(-1, labels[..., None], -others.sum(-1, keepdim=True))


def noise_name(group: str, purpose: str, layer: int, draw: int) -> str:
    """Of a draw's start direction, or of the noise of the pass that scores it; the first has the name it had alone."""
    return f"{group}/{purpose}/{layer}" + (f"/{draw}" if draw else "")


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

    @property
    def active(self) -> bool:
        """Whether of a hidden layer the activation h(l) is perturbed, not z~(l)."""
        return self.config.perturbed_on == "activation"

    def parts(self, z: Tensor, extra: LayerNoise, noise: Noise) -> list[tuple[Tensor, LayerNoise]]:
        """What is perturbed of a layer, (..., examples, units), with its pass's noise, by what is normalised together.

        "split": the first, as many as the labelled batch has, and the rest, as the released ladders' encoder takes the
        first of whatever it is given for the labelled.
        """
        split = self.config.perturbed_statistics == "split"
        if not split or z.shape[-2] <= (first := noise["labelled/corruption/0"].shape[-2]):
            return [(z, extra)]
        sizes = [first, z.shape[-2] - first]
        layers = [(None, None) if each is None else torch.split(each, sizes, -2) for each in extra.layers]
        return [
            (part, LayerNoise(extra.sd, own)) for part, *own in zip(torch.split(z, sizes, -2), *layers, strict=True)
        ]

    def above(self, layer: int, z: Tensor, extra: LayerNoise, noise: Noise) -> Tensor:
        """Logits, (..., examples, classes), from what is perturbed of a layer."""
        parts = self.parts(z, extra, noise)
        logits = [self.encode(part, start=layer, noise=own, active=self.active).logits for part, own in parts]
        return torch.cat(logits, -2)

    def groups(self) -> list[str]:
        """The groups of examples that are perturbed."""
        return ["labelled", "unlabelled"] if self.config.perturbed == "all" else [self.config.perturbed]

    def noise_shapes(self, sizes: Sizes) -> Shapes:
        """And a start direction for each perturbed layer, hidden noise for the passes that find a perturbation."""
        shapes = super().noise_shapes(sizes)
        passes = 1
        if self.config.xi is not None:  # one of them at least: equation 21 looks at K = 1 whatever the model's K
            passes += max(1, *map(self.config.iterations, self.config.eps()))
        for group in self.groups():
            for layer in self.config.eps():
                for draw in range(self.config.perturbations):
                    shapes[noise_name(group, "direction", layer, draw)] = (sizes[group], self.config.widths[layer])
                    if self.config.scored_noise == "fresh":
                        prefix, layers = noise_name(group, "score", layer, draw), self.scored_layers(layer)
                        shapes |= {f"{prefix}/{above}": (sizes[group], self.config.widths[above]) for above in layers}
            for k in range(passes):
                shapes |= self.hidden_shapes(f"{group}/find/{k}", sizes[group])
        return shapes

    @torch.no_grad()
    def perturbation(self, layer: int, z: Tensor, noise: Noise, group: str, draw: int = 0) -> Tensor:
        """r_vadv(l) at z~(l), (..., examples, units), a constant: VAL paper eq. 7, VAT paper Algorithm 1.

        With K = 0 it is random, in L2 uniform on the sphere of radius eps: random perturbation training, eq. 16.

        Exact: the derivatives of one pass with its noise, the batch's statistics moving with z as they do where the
        perturbation is scored. With xi: finite differences, every pass with noise of its own, as the released runs.
        """
        config, iterations = self.config, self.config.iterations(layer)
        start = noise[noise_name(group, "direction", layer, draw)]
        if iterations == 0:
            return scale_to(start, config.eps()[layer], config.norm)

        def rest(k: int, z: Tensor) -> Tensor:
            return self.above(layer, z, self.hidden_noise(noise, f"{group}/find/{k}"), noise)

        if config.xi is None:
            found = self.hidden_noise(noise, f"{group}/find/0")
            at = partial(self.encoder.linearise, start=layer, active=self.active)
            product = curvature(side_by_side([at(part, noise=own) for part, own in self.parts(z, found, noise)]))
        else:
            passes = [partial(rest, k) for k in range(1, iterations + 1)]
            product = finite_difference(rest(0, z), passes, z, config.xi)
        direction = power_iteration(product, start, iterations)
        return scale_to(direction, config.eps()[layer], config.norm)

    def cost(self, layer: int, passes: Mapping[str, tuple[Pass, LayerNoise]], noise: Noise) -> Tensor:
        """alpha KL(p(z~(l)) || p(z~(l) + r)), mean over the examples of all groups, shape (...): VAL paper eq. 5 and 6.

        `passes` are each group's own from layer 0, with the noise they had. Their logits and r are constants;
        statistics are the perturbed batch's own. Its noise: see `scoring`.
        """
        total, examples = torch.zeros(()), 0
        for group, (path, extra) in passes.items():
            z = path.z[layer]
            for draw in range(self.config.perturbations):
                r = self.perturbation(layer, z, noise, group, draw)
                score = self.scoring(layer, extra, noise, noise_name(group, "score", layer, draw))
                p = path.logits.detach()
                costs = divergences(p, score(z + r))
                if self.config.sign == "larger":  # an eigenvector has no sign, but eq. 5 takes a maximum
                    costs = torch.maximum(costs, divergences(p, score(z - r)))
                total = total + costs.mean(-1) * z.shape[-2]
                examples += z.shape[-2]
        return self.config.hyperparameters.alpha * (total / examples)

    def scored_layers(self, layer: int) -> range:
        """Where fresh noise is added to a pass that scores a perturbation of a layer: the hidden layers."""
        return range(1, len(self.config.widths) - 1)

    def scoring(self, layer: int, shared: LayerNoise, noise: Noise, prefix: str) -> Map:
        """From a perturbed layer to logits: with the unperturbed pass's noise, or drawn anew, as the released runs."""
        if self.config.scored_noise == "shared":
            return lambda z: self.above(layer, z, shared, noise)
        layers = range(len(self.config.widths))
        fresh = LayerNoise(self.config.hidden_sd, [noise.get(f"{prefix}/{above}") for above in layers])
        own = fresh.layers[layer]

        def score(z: Tensor) -> Tensor:
            z = z if own is None else torch.add(z, own, alpha=fresh.sd)
            return self.above(layer, z, fresh, noise)

        return score


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
