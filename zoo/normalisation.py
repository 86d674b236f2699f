"""A trained classifier by other test-time statistics: the same weights, normalised by averages over other images."""

import copy

import torch
from torch import Tensor

from zoo.classifier import Classifier
from zoo.randomness import permutations, stream
from zoo.training import draw

BATCHES = 500  # of which an average is taken: of the first one 0.7 % of its weight in training is left


@torch.no_grad()
def averaged_over(model: Classifier, images: Tensor, batch: int, seed: int, *, noise: bool) -> Classifier:
    """A copy of a single-seed model whose test-time statistics are moving averages over batches of these images.

    `images` (n, inputs), in batches of `batch` in an order that is the seed's, as training would see labelled images.
    `noise`: through training's pass of labelled examples, for a ladder the corrupted path; else through the clean path.
    """
    own = copy.deepcopy(model)
    own.encoder.tracked.zero_()
    order = permutations(seed, "statistics", 0, len(images), BATCHES * batch).view(BATCHES, batch)
    generator = stream(seed, "statistics/noise", 0, images.device)
    shapes = own.noise_shapes({"labelled": batch, "unlabelled": batch}) if noise else {}
    shapes = {name: shape for name, shape in shapes.items() if name.startswith("labelled/")}
    for chosen in order.to(images.device):
        x = images[chosen]
        drawn = {name: value[0] for name, value in draw([generator], shapes).items()}
        own.encoder.track((own.labelled_pass(x, drawn) if noise else own.encode(x)).statistics)
    return own
