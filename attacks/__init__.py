"""Attacks: pure functions (model, x, ...) -> x_adv on any module of logits, and what is measured of them."""

from attacks.fast_gradient import fgm, step
from attacks.gradients import Gradient, input_gradient
from attacks.measurement import Measurement, measure_fgm, measure_fgm_together
from attacks.norms import NORMS, Norm

__all__ = [
    "NORMS",
    "Gradient",
    "Measurement",
    "Norm",
    "fgm",
    "input_gradient",
    "measure_fgm",
    "measure_fgm_together",
    "step",
]
