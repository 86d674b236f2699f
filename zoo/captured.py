"""A training step captured once in a CUDA graph and replayed: no Python, no launch, between its kernels."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP = 3


class CapturedStep:
    """`compute` as a CUDA graph; called, it replays and returns the same tensor, filled anew.

    `compute` reads and changes tensors in place, those of `state()` among them: what warming up does to them is
    undone, and what only then came to be (Adam's moments, its count of steps) starts at zero.
    """

    def __init__(self, compute: Callable[[], Tensor], state: Callable[[], Mapping[str, Tensor]]) -> None:
        before = {name: tensor.clone() for name, tensor in state().items()}
        self.device = next(iter(before.values())).device  # which need not be the current one
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    compute()
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.result = compute()
        with torch.no_grad():
            for name, tensor in state().items():
                tensor.copy_(before[name]) if name in before else tensor.zero_()

    def __call__(self) -> Tensor:
        """Replay: one launch."""
        with torch.cuda.device(self.device):
            self.graph.replay()
        return self.result
