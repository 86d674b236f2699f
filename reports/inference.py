"""The statistics of the reports, each over arrays; NaN where there are too few values, or none differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t alone: scipy.stats takes most of a second to import

Values = np.ndarray[Any, np.dtype[np.float64]]
LEVEL = 0.05


@dataclass(frozen=True)
class Test:
    """An estimate with its two-sided 95 % t-interval and p, and the p of a difference beyond the margin."""

    estimate: Values
    low: Values
    high: Values
    p: Values
    p_equivalence: Values


def t_test(mean: Any, sd: Any, n: Any) -> Test:
    """Is a mean zero? Over paired differences this is the paired t-test. Needs n of 2 and an sd above zero."""
    mean, sd, n = (np.asarray(each, dtype=float) for each in (mean, sd, n))
    known = (n > 1) & (sd > 0)
    n = np.where(known, n, np.nan)
    return _test(mean, np.where(known, sd, np.nan) / np.sqrt(n), n - 1, np.nan)


def welch(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any], margin: Any) -> Test:
    """Mean of `a` minus mean of `b`, each (mean, sd with ddof 1, n): Welch's t-test, and equivalence by two
    one-sided tests (TOST): their larger p, of the hypothesis that the difference is `margin` or more.
    """
    mean_a, sd_a, n_a, mean_b, sd_b, n_b = (np.asarray(each, dtype=float) for each in (*a, *b))
    known = (n_a > 1) & (n_b > 1) & (sd_a**2 + sd_b**2 > 0)
    n_a, n_b = np.where(known, n_a, np.nan), np.where(known, n_b, np.nan)
    of_a, of_b = sd_a**2 / n_a, sd_b**2 / n_b
    with np.errstate(invalid="ignore"):  # 0 / 0 where not known
        freedom = (of_a + of_b) ** 2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
    return _test(mean_a - mean_b, np.sqrt(of_a + of_b), freedom, margin)


def one_of(value: Any, mean: Any, sd: Any, n: Any) -> Test:
    """A single value minus the mean of n others with their sd (ddof 1): is it drawn as they were?

    The t-test of n - 1 degrees of freedom behind the prediction interval, mean ± t sd sqrt(1 + 1/n).
    """
    value, mean, sd, n = (np.asarray(each, dtype=float) for each in (value, mean, sd, n))
    known = (n > 1) & (sd > 0)
    n = np.where(known, n, np.nan)
    return _test(value - mean, np.where(known, sd, np.nan) * np.sqrt(1 + 1 / n), n - 1, np.nan)


def _test(estimate: Values, error: Values, freedom: Values, margin: Any) -> Test:
    half = stdtrit(freedom, 1 - LEVEL / 2) * error
    p = 2 * stdtr(freedom, -np.abs(estimate) / error)
    above, below = (stdtr(freedom, (sign * estimate - margin) / error) for sign in (1, -1))
    return Test(estimate, estimate - half, estimate + half, p, np.maximum(above, below))


def holm(p: Any) -> Values:
    """p-values adjusted for being one family (Holm 1979); a NaN stays NaN and is not of the family."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted
