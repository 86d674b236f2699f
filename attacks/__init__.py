"""Attacks: pure functions (model, x, ...) -> x_adv on any module of logits, and what is measured of them."""

from attacks.audit import BALLS, Budget, Finding, audit
from attacks.fast_gradient import fgm, step
from attacks.gradients import Gradient, input_gradient
from attacks.iterated import noise, pgd
from attacks.meanings import MEANINGS, Meaning, meaning
from attacks.measurement import Measurement, measure_fgm, measure_fgm_together
from attacks.nearest import decision_based, minimum_norm
from attacks.norms import NORMS, Norm

__all__ = [
    "BALLS",
    "MEANINGS",
    "NORMS",
    "Budget",
    "Finding",
    "Gradient",
    "Meaning",
    "Measurement",
    "Norm",
    "audit",
    "decision_based",
    "fgm",
    "input_gradient",
    "meaning",
    "measure_fgm",
    "measure_fgm_together",
    "minimum_norm",
    "noise",
    "pgd",
    "step",
]
