"""Every random number of a seed, from that seed alone.

A stream is named by (seed, purpose, epoch) and made anew where it is needed, so a run that resumes at an
epoch needs no saved generator, and no seed can be moved by the seeds that train beside it.
"""

import hashlib

import torch


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
