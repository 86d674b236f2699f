"""A trained classifier by other test-time statistics: the same weights, normalised by other images than in training."""

import copy

import torch
from torch import Tensor, nn

from zoo.classifier import Classifier, Noise
from zoo.errors import BadInput
from zoo.models import CLASSES
from zoo.randomness import draw, permutations, stream

BATCHES = 500  # of which an average is taken: of the first one 0.7 % of its weight in training is left


@torch.no_grad()
def averaged_over(model: Classifier, images: Tensor, batch: int, seed: int, *, noise: bool) -> Classifier:
    """A copy of a single-seed model whose test-time statistics are moving averages over batches of these images.

    `images` (n, inputs), in batches of `batch` in an order that is the seed's, as training would see them.
    `noise`: through training's pass of labelled examples, for a ladder the corrupted path; else through the clean path.
    """
    own = copy.deepcopy(model)
    own.encoder.tracked.zero_()
    order = permutations(seed, "statistics", 0, len(images), BATCHES * batch).view(BATCHES, batch)
    generator = stream(seed, "statistics/noise", 0, images.device)
    for chosen in order.to(images.device):
        x = images[chosen]
        path = own.labelled_pass(x, labelled_noise(own, batch, generator)) if noise else own.encode(x)
        own.encoder.track(path.statistics)
    return own


def labelled_noise(model: Classifier, examples: int, generator: torch.Generator) -> Noise:
    """New noise for training's pass of so many labelled examples, by a single-seed model.

    Raises BadInput for a small checkpoint of a ladder: an encoder alone, whose pass is not the ladder's.
    """
    if type(model) is not CLASSES[model.config.name]:
        raise BadInput(
            f"a small checkpoint of {model.config.name!r} has no training pass: take the whole one, of a run"
        )
    shapes = model.noise_shapes({"labelled": examples, "unlabelled": 1})
    own = {name: shape for name, shape in shapes.items() if name.startswith("labelled/")}
    return {name: values[0] for name, values in draw([generator], own).items()}


class InBatch(nn.Module):
    """A single-seed model by the statistics of whatever it is shown, (N, inputs) -> (N, classes): one's answer and
    gradient depend on all N. With a generator through training's pass of labelled examples, its noise drawn anew.
    """

    def __init__(self, model: Classifier, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.model, self.generator = model, generator
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if self.generator is None:
            return self.model.in_batch(x)
        return self.model.labelled_pass(x, labelled_noise(self.model, len(x), self.generator)).logits
