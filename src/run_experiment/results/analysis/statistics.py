"""Statistics of scores: intervals, paired tests, corrections. Everything is at the 95 % level, and deterministic.

Each function accepts any input: what cannot be computed is None, or an interval without ends that says why.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Not scipy.stats, nor what imports it: that costs each session's end a second of CPU time.
from scipy.special import bdtr, bdtrik, ndtri, stdtrit

LEVEL = 0.95
ALPHA = 1 - LEVEL
# Quantile of the normal distribution.
_Z = float(ndtri(1 - ALPHA / 2))

_SEED = 14
_RESAMPLES = 9_999
# With so few differing samples all signs are tried.
_ENUMERATED = 13
# What the simulation of `optimism` may draw in all, which takes less than a second.
_DRAWS = 10_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval and the method that it is by: `none: reason` if there is none."""

    low: float | None
    high: float | None
    method: str


def none(reason: str) -> Interval:
    """No interval, for a reason."""
    return Interval(None, None, f"none: {reason}")


def finite(values: Sequence[float | None]) -> Floats:
    """The values that are finite numbers."""
    return np.array([value for value in values if value is not None and math.isfinite(value)], dtype=np.float64)


def is_binary(scores: Floats) -> bool:
    """Whether all scores are 0 or 1."""
    return bool(np.isin(scores, (0.0, 1.0)).all())


def interval(
    values: Sequence[float | None], clusters: Sequence[Hashable] | None = None, binary: bool = True
) -> Interval:
    """Interval of a mean of scores: clustered if `clusters` says which score is of which; else Wilson's for 0/1 scores
    and Student's for others. Scores that are no finite number are left out. Without `binary`, scores are others even if
    these happen to be 0 or 1.
    """
    if clusters is not None:
        return clustered_interval(values, clusters, binary)
    scores = finite(values)
    if not scores.size:
        return none("no scored sample")
    return wilson(int(scores.sum()), scores.size) if binary and is_binary(scores) else mean_interval(scores)


def wilson(successes: float, n: float) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209; Brown, Cai, DasGupta 2001)."""
    if n <= 0:
        return none("no scored sample")
    center = (successes + _Z**2 / 2) / (n + _Z**2)
    half = _Z / (n + _Z**2) * math.sqrt(successes * (n - successes) / n + _Z**2 / 4)
    return Interval(float(max(center - half, 0.0)), float(min(center + half, 1.0)), "Wilson")


def mean_interval(values: Sequence[float | None] | Floats) -> Interval:
    """Student's t-interval of a mean (Student 1908, Biometrika 6:1)."""
    scores = finite(list(values))
    if scores.size < 2:
        return none("one sample" if scores.size else "no scored sample")
    if np.ptp(scores) == 0:
        return none("all scores are the same")
    return from_stderr(float(scores.mean()), float(scores.std(ddof=1)) / math.sqrt(scores.size), scores.size, "t")


def from_stderr(mean: float, stderr: float, n: int, method: str) -> Interval:
    """The t-interval of a mean with a known standard error, of n independent values."""
    if n < 2 or not math.isfinite(mean) or not math.isfinite(stderr) or stderr <= 0:
        return none("no standard error")
    half = float(stdtrit(n - 1, 1 - ALPHA / 2)) * stderr
    return Interval(mean - half, mean + half, method)


def clustered_interval(values: Sequence[float | None], clusters: Sequence[Hashable], binary: bool = True) -> Interval:
    """Interval of a mean whose scores depend on each other within clusters.

    Cluster-robust standard error with the correction G/(G-1), and t with G-1 degrees of freedom (Liang and Zeger 1986,
    Biometrika 73:13; Miller 2024, arXiv:2411.00640). Ends of 0/1 scores stay within 0 and 1; if all are the same,
    Wilson's interval with each cluster as one sample.
    """
    kept = [(value, one) for value, one in zip(values, clusters, strict=True) if value is not None]
    kept = [(value, one) for value, one in kept if math.isfinite(value)]
    scores, groups = finite([value for value, _ in kept]), len({one for _, one in kept})
    if groups < 2:
        return none("one cluster" if groups else "no scored sample")
    binary = binary and is_binary(scores)
    if np.ptp(scores) == 0:
        return _renamed(wilson(groups * scores[0], groups), "Wilson of clusters") if binary else mean_interval(scores)
    sums = cluster_sums(scores - scores.mean(), [one for _, one in kept])
    stderr = math.sqrt(groups / (groups - 1) * float((sums**2).sum())) / scores.size
    found = from_stderr(float(scores.mean()), stderr, groups, "clustered t")
    if not binary or found.low is None or found.high is None:
        return found
    return Interval(max(found.low, 0.0), min(found.high, 1.0), found.method)


def _renamed(found: Interval, method: str) -> Interval:
    return Interval(found.low, found.high, method)


def cluster_sums(values: Floats, clusters: Sequence[Hashable]) -> Floats:
    """Sum of the values of each cluster."""
    index: dict[Hashable, int] = {}
    places = [index.setdefault(one, len(index)) for one in clusters]
    return np.bincount(places, weights=values, minlength=len(index)).astype(np.float64)


def difference_interval(differences: Floats, binary: bool, clusters: Sequence[Hashable] | None = None) -> Interval:
    """Interval of a mean of paired differences.

    Of 0/1 scores: Wald's with half a sample added to each cell of the 2 × 2 table (Agresti and Min 2005, Statistics in
    Medicine 24:729). Else Student's, or the clustered one.
    """
    if clusters is not None:
        found = clustered_interval(list(differences), clusters)
        return none("too few clusters that differ") if found.method.startswith("Wilson") else found
    if not binary or not differences.size:
        return mean_interval(differences)
    n, wins, losses = differences.size + 2, (differences > 0).sum() + 0.5, (differences < 0).sum() + 0.5
    mean = (wins - losses) / n
    half = _Z * math.sqrt(wins + losses - (wins - losses) ** 2 / n) / n
    return Interval(float(max(mean - half, -1)), float(min(mean + half, 1)), "Agresti-Min")


@cache
def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar test of paired 0/1 scores (McNemar 1947, Psychometrika 12:153): binomial, p = 1/2."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def permutation(differences: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """Two-sided paired permutation test: signs of the differences, or of whole clusters, are flipped (Fisher 1935).

    All signs for up to 13 that differ; else 9,999 random ones (p counts the observed one: Phipson and Smyth 2010).
    Random signs know no p below 1/10,000, which no correction for thousands of comparisons survives; there Hoeffding's
    bound 2·exp(-z²/2) counts, which is never too small.
    """
    sums = differences if clusters is None else cluster_sums(differences, clusters)
    sums = sums[np.abs(sums) > 1e-12]
    if not sums.size:
        return 1.0
    totals = np.abs(_signs(sums.size) @ sums)
    extreme = int((totals >= abs(sums.sum()) * (1 - 1e-9)).sum())
    if sums.size <= _ENUMERATED:
        return extreme / len(totals)
    bound = 2 * math.exp(-(float(sums.sum()) ** 2) / (2 * float((sums**2).sum())))
    return min((extreme + 1) / (len(totals) + 1), bound)


@cache
def _signs(n: int) -> Floats:
    if n <= _ENUMERATED:
        flipped = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        flipped = np.random.default_rng(_SEED).integers(0, 2, size=(_RESAMPLES, n))
    return np.asarray(1.0 - 2.0 * flipped, dtype=np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6:65); None stays None."""
    given = [p for p in p_values if p is not None]
    if not given:
        return list(p_values)
    order = np.argsort(given, kind="stable")
    corrected = np.empty(len(given))
    corrected[order] = np.maximum.accumulate(np.arange(len(given), 0, -1) * np.array(given)[order])
    rest = iter(np.minimum(corrected, 1.0))
    return [None if p is None else float(next(rest)) for p in p_values]


def optimism(scores: Floats) -> float | None:
    """By how much the mean of the best of K cells exceeds their common mean, if all are equal; higher is better.

    `scores` has a row a cell and a column a sample. Each sample's scores are permuted among the cells, which keeps how
    samples differ in difficulty (the null hypothesis of Westfall and Young 1993). None for less than two cells.
    """
    cells, samples = scores.shape
    if cells < 2 or not samples:
        return None
    random, draws = np.random.default_rng(_SEED), max(100, min(1_000, _DRAWS // scores.size))
    best = [random.permuted(scores, axis=0).mean(axis=1).max() for _ in range(draws)]
    return max(0.0, float(np.mean(best) - scores.mean()))


def optimism_of_means(groups: Sequence[Sequence[float]]) -> float | None:
    """By how much the best of the groups' means exceeds their common mean, if all are equal; either way is the same.

    The expected maximum of independent normal means (Tippett 1925, Biometrika 17:364) with the spread that values have
    within groups, pooled. Means that go up and down together, as those of epochs of the same runs, have a smaller
    maximum (Slepian 1962), so it is an upper bound there. None if it is not known: one group, or one value in each.
    """
    degrees = sum(len(group) - 1 for group in groups)
    if len(groups) < 2 or not degrees:
        return None
    squares = sum(float(((np.array(group) - np.mean(group)) ** 2).sum()) for group in groups)
    deviations = math.sqrt(squares / degrees) / np.sqrt([len(group) for group in groups])
    drawn = np.random.default_rng(_SEED).standard_normal((_RESAMPLES, len(groups))) * deviations
    return float(drawn.max(axis=1).mean())


def smallest_difference(n: int, differing: int) -> float | None:
    """Smallest difference of two means of n paired 0/1 scores, `differing` of them unequal, at which the exact McNemar
    test gives p < 0.05; None if none does (fewer than 6 differ).
    """
    margin = _smallest_margin(differing)
    return None if n <= 0 or margin is None else margin / n


@cache
def _smallest_margin(differing: int) -> int | None:
    """Wins less losses from which the exact McNemar test gives p < 0.05."""
    # One more than the real number at which it would be 0.05.
    losses = int(bdtrik(ALPHA / 2, differing, 0.5)) + 1 if differing else -1
    while losses >= 0 and mcnemar(differing - losses, losses) >= ALPHA:
        losses -= 1
    return None if losses < 0 else differing - 2 * losses
