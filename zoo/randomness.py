"""Every random number of a seed, from that seed alone.

A stream is named by (seed, purpose, epoch) and made anew where it is needed, so a run that resumes at an
epoch needs no saved generator, and no seed can be moved by the seeds that train beside it.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, int]]
"""Of noise by name: examples, units."""


def stream(seed: int, purpose: str, epoch: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for one purpose of one seed in one epoch.

    On a CPU torch keeps 32 bits of its seed: among n streams two are the same with odds of n^2 / 2^33. Within each
    built-in suite none are; a test compares them.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "little"))


def permutations(seed: int, purpose: str, epoch: int, items: int, length: int) -> torch.Tensor:
    """`length` indices in [0, items): whole permutations one after another, the last one cut. Shape (length,)."""
    generator = stream(seed, purpose, epoch)
    rounds = -(-length // items)
    return torch.cat([torch.randperm(items, generator=generator) for _ in range(rounds)])[:length]


def amount(shapes: Shapes) -> int:
    """How many numbers noise of these shapes takes."""
    return sum(examples * units for examples, units in shapes.values())


def views(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """The noise in a flat (seeds, amount) buffer by name, (seeds, examples, units)."""
    pieces = torch.split(flat, [examples * units for examples, units in shapes.values()], dim=1)
    return {name: piece.view(-1, *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def fill(flat: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard Gaussian numbers in place: one call a seed, from its own generator."""
    for row, generator in zip(flat, generators, strict=True):
        row.normal_(generator=generator)
    return flat


def draw(generators: Sequence[torch.Generator], shapes: Shapes) -> dict[str, Tensor]:
    """New noise by name, (seeds, examples, units)."""
    flat = torch.empty(len(generators), amount(shapes), device=generators[0].device)
    return views(fill(flat, generators), shapes)
