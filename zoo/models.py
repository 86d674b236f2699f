"""The VAL paper's models, each what it adds to the one before, and all models by name."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.classifier import Batch, Classifier, Noise, Sizes, cross_entropy
from zoo.config import ModelConfig
from zoo.errors import BadInput
from zoo.layers import Decoder, LayerNoise, Pass
from zoo.randomness import Shapes
from zoo.smoothed import VAT, Adversarial, VirtualAdversarial


class Ladder(Classifier):
    """The ladder network: cross-entropy of the corrupted path and a denoising cost a layer (VAL paper, section 2)."""

    def build(self, generators: Sequence[torch.Generator] | None) -> None:
        """The decoder."""
        self.decoder = Decoder(self.config.widths, generators, released=self.config.decoder == "released")

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
        corrupted = {"labelled": self.labelled_pass(batch.labelled, noise)}
        self.track(batch, corrupted["labelled"], clean)
        corrupted["unlabelled"] = self.corrupt(batch.unlabelled, noise, "unlabelled")
        noisy = corrupted["unlabelled"]
        if self.decoder.released:
            clean, noisy = (self.encoder.activated(path) for path in (clean, noisy))
        costs = self.decoder.costs(self.decoder(noisy), clean, self.config.denoising_weights())
        terms = {"cross_entropy": cross_entropy(corrupted["labelled"].logits, batch.labels)}
        terms |= {f"denoising_{layer}": cost for layer, cost in enumerate(costs)}
        return terms | self.smoothing(corrupted, noise)

    def labelled_pass(self, x: Tensor, noise: Noise) -> Pass:
        """The corrupted path."""
        return self.corrupt(x, noise, "labelled")

    def smoothing(self, corrupted: Mapping[str, Pass], noise: Noise) -> dict[str, Tensor]:
        """Further terms of a fusion, from the corrupted passes of both groups."""
        return {}


class LVAC(VirtualAdversarial, Ladder):
    """Ladder with virtual adversarial costs at the layers that eps names (VAL paper eq. 6)."""

    def smoothing(self, corrupted: Mapping[str, Pass], noise: Noise) -> dict[str, Tensor]:
        """A cost a layer."""
        paths = {group: self.encoder.activated(path) if self.active else path for group, path in corrupted.items()}
        passes = {group: (paths[group], self.corruption(noise, group)) for group in self.groups()}
        return {f"virtual_adversarial_{layer}": self.cost(layer, passes, noise) for layer in self.config.eps()}

    def scored_layers(self, layer: int) -> range:
        """As the corrupted path: from the perturbed layer, itself included, to the logits."""
        return range(layer, len(self.config.widths))


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
    """The model that a configuration names, see `Classifier`. Raises BadInput for no seeds, and for one given twice."""
    if seeds is not None and not 0 < len(set(seeds)) == len(seeds):
        raise BadInput(f"seeds: expected one or more, each once, got {list(seeds)}")
    return CLASSES[config.name](config, seeds)
