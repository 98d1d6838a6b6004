"""Tail probabilities of the distributions that tests need, in plain Python: the control plane installs without SciPy.

Continued fractions by Lentz's method as in Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 6.5.31 for the
incomplete gamma function and 26.5.8 for the incomplete beta function.
"""

import math
from collections.abc import Callable

_TINY = 1e-300
_PRECISION = 1e-15
_TERMS = 10_000


def normal_sf(z: float) -> float:
    """Return the chance that a standard normal variable is above `z`."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def student_sf(t: float, freedom: float) -> float:
    """Return the chance that Student's t with these degrees of freedom (above 0, not only whole) is above `t`."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    tail = 0.5 * _beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))
    return tail if t >= 0 else 1.0 - tail


def chi_squared_sf(statistic: float, freedom: int) -> float:
    """Return the chance that chi-squared with these degrees of freedom (1 or more) is above `statistic`."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1.0 / a
        for k in range(1, _TERMS):
            term *= x / (a + k)
            total += term
            if term < total * _PRECISION:
                break
        return max(0.0, 1.0 - scale * total)
    return min(1.0, scale * _fraction(x + 1 - a, lambda k: (k * (a - k), x + 2 * k + 1 - a)))


def kolmogorov_sf(statistic: float) -> float:
    """Return the chance that Kolmogorov's limit variable is above `statistic` (Kolmogorov, 1933)."""
    if statistic < 0.2:  # the alternating series needs ever more terms there, and all are 1 to fifteen digits
        return 1.0
    total = sum((1.0 if k % 2 else -1.0) * math.exp(-2.0 * (k * statistic) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * total))


def _beta(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularised incomplete beta function; `rest` is 1 - x, which may be too small to be told from x."""
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, rest, x)

    def term(k: int) -> tuple[float, float]:
        half = k // 2
        if k % 2:
            return -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1)), 1.0
        return half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half)), 1.0

    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(logarithm) / a * _fraction(1.0, term)


def _fraction(first: float, term: Callable[[int], tuple[float, float]]) -> float:
    """Return 1/(first + a1/(b1 + a2/(b2 + ...))), `term(k)` being (ak, bk)."""
    c, d = 1.0 / _TINY, 1.0 / (first or _TINY)
    value = d
    for k in range(1, _TERMS):
        a, b = term(k)
        d = 1.0 / ((b + a * d) or _TINY)
        c = (b + a / c) or _TINY
        value *= c * d
        if abs(c * d - 1.0) < _PRECISION:
            break
    return value
