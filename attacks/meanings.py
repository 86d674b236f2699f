"""What a name such as `fgm` or `fgm/true/margin` says of an attack: the record of a number names what made it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from attacks.checks import Clip
from attacks.gradients import Loss
from attacks.norms import unknown


@dataclass(frozen=True)
class Meaning:
    """One meaning of the fast gradient method; the default is that of the virtual adversarial ladder paper."""

    labels: Literal["predicted", "true"] = "predicted"  # which class the attacked loss has
    clip: Clip | None = None  # what x_adv is clamped to
    loss: Loss = "cross-entropy"
    float64: bool = False  # whether a copy of the model in float64 gives the gradient


OPTIONS: dict[str, dict[str, Any]] = {
    "true": {"labels": "true"},
    "clip": {"clip": (0.0, 1.0)},
    "margin": {"loss": "margin"},
    "float64": {"float64": True},
}
MEANINGS = ("fgm", *(f"fgm/{option}" for option in OPTIONS))
"""The paper's, and each that differs from it in one thing."""


def meaning(attack: str) -> Meaning:
    """Of `fgm` followed by any of /true, /clip, /margin, /float64. ValueError with the nearest name for another."""
    base, *options = attack.split("/")
    if base != "fgm":
        raise ValueError(unknown("attack", attack, MEANINGS))
    found = Meaning()
    for option in options:
        if option not in OPTIONS:
            raise ValueError(unknown(f"the option of {attack!r}", option, OPTIONS))
        found = replace(found, **OPTIONS[option])
    return found
