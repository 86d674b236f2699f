"""Models made up for tests, whose answers are known."""

from collections.abc import Callable

from torch import Tensor, nn


class Of(nn.Module):
    """A model from a function of x."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
