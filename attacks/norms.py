"""The norms that bound a perturbation, as values."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

L1Meaning = Literal["spread", "pixel"]


@dataclass(frozen=True)
class Norm:
    """Order p of the bound ‖delta‖p <= eps; `l1` says which L1 step is meant and is read only at order 1.

    "spread": eps * g / ‖g‖1 (CleverHans in 2017, Foolbox). "pixel": all of eps on the pixel of the largest
    |g|, in equal parts where several tie (CleverHans 4.0); of the two, only it is the steepest L1 step.
    """

    order: float
    l1: L1Meaning = "spread"


NORMS: Mapping[str, Norm] = MappingProxyType(
    {
        "L1-spread": Norm(1, "spread"),
        "L1-pixel": Norm(1, "pixel"),
        "L2": Norm(2),
        "Linf": Norm(math.inf),
    }
)


def named(name: str) -> Norm:
    """The norm of that name; ValueError with the nearest known name where there is none."""
    if name not in NORMS:
        raise ValueError(unknown("norm", name, NORMS))
    return NORMS[name]


def check_bound(eps: float, norm: float, l1: str) -> None:
    """ValueError unless eps is finite and >= 0, norm is 1, 2 or inf, and l1 is one of its two meanings."""
    if not 0 <= eps < math.inf:
        raise ValueError(f"expected a finite eps >= 0, got {eps}")
    if norm not in (1, 2, math.inf):
        raise ValueError(f"expected norm 1, 2 or inf, got {norm!r}")
    if l1 not in ("spread", "pixel"):
        raise ValueError(unknown("l1", l1, ("spread", "pixel")))


def unknown(what: str, got: str, known: Iterable[str]) -> str:
    """One line: what was expected, what came, and the nearest known name where one is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(got.lower(), by_lower, n=1)
    hint = f". Did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"expected {what} to be one of {', '.join(by_lower.values())}, got {got!r}{hint}"
