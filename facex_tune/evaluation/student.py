"""Student's t and the normal distribution, for intervals. scipy.special is as exact, but importing it takes a quarter of a
second, more than all intervals of a report.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_STEPS = 500  # far beyond what any fraction here needs
_SMALLEST = 1e-300


def normal_below(z: float) -> float:
    """The probability that a standard normal number is less than `z`."""
    return math.erfc(-z / math.sqrt(2)) / 2


def normals_below(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """`normal_below` of each, in the same shape."""
    return np.array([normal_below(each) for each in z.ravel().tolist()]).reshape(z.shape)


@lru_cache(maxsize=4096)
def quantile(df: float, p: float) -> float:
    """The number below which a t distribution of `df` degrees of freedom has the share `p`, 0.5 < p < 1.

    By Newton's method from the normal quantile, which lies left of it: the distribution is concave there, so that no
    step goes too far.

    Raises:
        ValueError: df is not positive, or p is beyond these ends.
    """
    if not (df > 0 and 0.5 < p < 1):
        raise ValueError(f"no t quantile of {df} degrees of freedom and {p}")
    t = NormalDist().inv_cdf(p)
    scale = _ratio(df / 2) / math.sqrt(df * math.pi)
    for _ in range(_STEPS):
        density = scale * math.exp(-(df + 1) / 2 * math.log1p(t * t / df))
        step = (_above(df, t) - (1 - p)) / density
        t += step
        if abs(step) <= 1e-12 * t:  # which the next would square
            break
    return t


def _above(df: float, t: float) -> float:
    """The share beyond t >= 0: half of the regularized incomplete beta function of df / 2 and 1 / 2."""
    a, x = df / 2, df / (df + t * t)
    rest = t * t / (df + t * t)  # 1 - x, without its rounding
    front = _ratio(a) / math.sqrt(math.pi) * math.exp(-a * math.log1p(t * t / df)) * math.sqrt(rest)
    if x < (a + 1) / (a + 2.5):
        return front * _fraction(a, 0.5, x) / a / 2
    return (1 - front * _fraction(0.5, a, rest) / 0.5) / 2


def _ratio(a: float) -> float:
    """Gamma(a + 1/2) / Gamma(a); where a is large by its series, since the logarithms' difference loses digits."""
    if a < 50:
        return math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    return math.sqrt(a) * (1 - 1 / (8 * a) + 1 / (128 * a**2) + 5 / (1024 * a**3) - 21 / (32768 * a**4))


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), from its front by Lentz's method."""
    value = numerators = 1.0
    denominators = 0.0
    for step in range(1, _STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominators = 1 / _kept(1 + term * denominators)
        numerators = _kept(1 + term / numerators)
        value *= numerators * denominators
        if abs(numerators * denominators - 1) < 1e-15:
            break
    return 1 / value


def _kept(value: float) -> float:
    """Not zero, by which is divided next."""
    return value if abs(value) > _SMALLEST else _SMALLEST
