"""Statistics, compared with published examples, formulas written out by hand, other implementations, simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from wilson_by_hand import wilson

from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.statistics import Interval, interval


# Newcombe (1998), Statistics in Medicine 17:857, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_of_a_publication(successes: int, n: int, low: float, high: float) -> None:
    found = statistics.wilson(successes, n)
    assert found == Interval(pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5), "Wilson")


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_statsmodels(of: tuple[int, int]) -> None:
    found = statistics.wilson(*of)
    assert (found.low, found.high) == pytest.approx(proportion_confint(*of, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(("right", "n"), [(46, 50), (45, 50), (1, 1), (0, 1), (50, 50), (0, 50)])
def test_wilson_of_scores(right: int, n: int) -> None:
    found = interval([1.0] * right + [0.0] * (n - right))
    assert (found.low, found.high) == pytest.approx(wilson(right, n), abs=1e-12)
    assert found.method == "Wilson"


def test_student_interval_by_hand() -> None:
    # Table of t: 2.776 for 4 degrees of freedom.
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0, None, math.nan])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (found.low, found.high, found.method) == (pytest.approx(3 - half), pytest.approx(3 + half), "t")


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([], "no scored sample"),
        ([None, math.nan, math.inf], "no scored sample"),
        ([0.5], "one sample"),
        ([0.5, 0.5], "all scores are the same"),
    ],
)
def test_no_interval_says_why(scores: list[float | None], reason: str) -> None:
    assert interval(scores) == Interval(None, None, f"none: {reason}")


# Additional hours of sleep with two drugs (Student 1908, Biometrika 6:1), which R's `?sleep` and `?t.test` work out.
SLEEP = (
    np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]),
    np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]),
)


def test_student_interval_of_a_publication() -> None:
    """R: `with(sleep, t.test(extra[group == 1], extra[group == 2], paired = TRUE))`."""
    found = statistics.difference_interval(SLEEP[0] - SLEEP[1], binary=False)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_clusters_of_one_sample_are_students_interval() -> None:
    scores = [0.1, 0.4, 0.35, 0.8, 0.9]
    found, plain = interval(scores, range(5)), interval(scores)
    assert (found.low, found.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert found.method == "clustered t"


def test_clustered_interval_by_hand() -> None:
    # Means 0.5; residuals of the clusters sum to 1, -0.5, -0.5: stderr² = 3/2 · 1.5 / 6².
    found = interval([1, 1, 0, 0.5, 0, 0.5], ["a", "a", "b", "b", "c", "c"])
    stderr = math.sqrt(3 / 2 * 1.5) / 6
    assert (found.low, found.high) == (pytest.approx(0.5 - 4.302653 * stderr), pytest.approx(0.5 + 4.302653 * stderr))


@pytest.mark.parametrize("seed", range(4))
def test_clustered_interval_is_statsmodels(seed: int) -> None:
    """A regression on a constant with cluster-robust errors (`cov_type="cluster"`), clusters of unequal sizes."""
    random = np.random.default_rng(seed)
    clusters = random.integers(0, 9, 60)
    scores = random.normal(0.5, 0.2, 60) + clusters / 20
    fit = OLS(scores, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    found = interval(list(scores), list(clusters))
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)


def test_clusters_that_repeat_a_sample_widen_the_interval() -> None:
    scores, clusters = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0] * 4, list(range(8)) * 4
    once, plain, clustered = interval(scores[:8], range(8)), interval(scores), interval(scores, clusters)
    assert None not in (plain.low, clustered.low)
    assert clustered.low == pytest.approx(once.low)
    assert plain.low > clustered.low  # type: ignore[operator]


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_clusters_all_right_or_wrong(right: float) -> None:
    found = interval([right] * 9, [1, 1, 1, 2, 2, 2, 3, 3, 3])
    assert (found.low, found.high) == pytest.approx(wilson(int(3 * right), 3))
    assert interval([1.0, 1.0], ["a", "a"]) == Interval(None, None, "none: one cluster")
    assert interval([None], ["a"]) == Interval(None, None, "none: no scored sample")


def test_mcnemar_of_a_publication() -> None:
    # Agresti, Categorical Data Analysis, table 10.1 (approval of a prime minister): 150 and 86 discordant.
    assert statistics.mcnemar(86, 150) == pytest.approx(3.716e-5, rel=1e-3)
    table = [[794, 150], [86, 570]]
    assert statistics.mcnemar(86, 150) == pytest.approx(float(statsmodels_mcnemar(table, exact=True).pvalue))


def test_mcnemar_by_hand() -> None:
    # 2 · (1 + 10 + 45) / 2¹⁰
    assert statistics.mcnemar(8, 2) == pytest.approx(0.109375)
    assert statistics.mcnemar(1, 0) == statistics.mcnemar(2, 2) == statistics.mcnemar(0, 0) == 1.0


def test_holm_of_a_publication() -> None:
    # Holm's procedure as worked out on Wikipedia, "Holm-Bonferroni method".
    assert statistics.holm([0.01, 0.04, None, 0.03, 0.005]) == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        None,
        pytest.approx(0.06),
        pytest.approx(0.02),
    ]
    assert statistics.holm([]) == []
    assert statistics.holm([None]) == [None]
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    assert statistics.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_statsmodels(wins: int, losses: int) -> None:
    table = [[0, wins], [losses, 0]]
    expected = float(statsmodels_mcnemar(table, exact=True).pvalue) if wins + losses else 1.0
    assert statistics.mcnemar(wins, losses) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 8, 40])
def test_permutation_test_is_scipys(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    options = {"permutation_type": "samples", "n_resamples": 50_000, "rng": np.random.default_rng(0)}
    expected = permutation_test((differences, np.zeros(n)), lambda x, y, axis: (x - y).mean(axis=axis), **options)
    assert statistics.permutation(differences) == pytest.approx(float(expected.pvalue), abs=0.02)


def test_permutation_test_of_a_publication() -> None:
    """Darwin's maize, cross- less self-fertilised, in eighths of an inch (Fisher 1935, The Design of Experiments, 21).

    Of the 2¹⁵ signs 863 have a sum of 314 or more. That many are drawn at random here: within four standard errors.
    """
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=np.float64)
    expected = 2 * 863 / 2**15
    error = math.sqrt(expected * (1 - expected) / 9_999)
    assert statistics.permutation(maize) == pytest.approx(expected, abs=4 * error)


def test_permutation_by_hand() -> None:
    # Of 2⁵ signs of five equal differences only all + and all - are as extreme.
    assert statistics.permutation(np.full(5, 0.2)) == pytest.approx(2 / 32)
    assert statistics.permutation(np.zeros(5)) == statistics.permutation(np.array([])) == 1.0


def test_clear_differences_survive_the_correction_of_thousands() -> None:
    differences = np.random.default_rng(3).normal(1, 0.5, 200)
    p = statistics.permutation(differences)
    assert statistics.holm([p, *[1.0] * 4999])[0] < 0.001  # type: ignore[operator]


def test_permutation_flips_whole_clusters() -> None:
    differences = np.full(12, 0.2)
    assert statistics.permutation(differences, [1, 2, 3] * 4) == pytest.approx(2 / 8)


def test_difference_interval_by_hand() -> None:
    # Agresti and Min (2005): 0.5 added to each cell of the table.
    found = statistics.difference_interval(np.array([1.0] * 3 + [-1.0] * 2 + [0.0] * 45), binary=True)
    mean, stderr = 1 / 52, math.sqrt(6 - 1 / 52) / 52
    ends = (pytest.approx(mean - 1.959964 * stderr), pytest.approx(mean + 1.959964 * stderr))
    assert (found.low, found.high, found.method) == (*ends, "Agresti-Min")
    same = statistics.difference_interval(np.zeros(50), binary=True)
    assert same.low is not None
    assert same.high is not None
    assert same.low < 0 < same.high


@pytest.mark.parametrize(("better", "worse"), [(0.05, 0.05), (0.2, 0.1), (0.02, 0.0), (0.5, 0.1)])
def test_the_interval_of_a_difference_covers_it(better: float, worse: float) -> None:
    """Samples on which one of two runs is right with these probabilities: 95 of 100 intervals hold the difference."""
    drawn = np.random.default_rng(5).choice([1.0, -1.0, 0.0], p=[better, worse, 1 - better - worse], size=(2_000, 50))
    found = [statistics.difference_interval(differences, binary=True) for differences in drawn]
    covered = np.mean([(one.low or 0) <= better - worse <= (one.high or 0) for one in found])
    assert 0.93 < covered <= 1


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1), st.data())
def test_intervals_hold_the_mean_and_stay_within_bounds(scores: list[float], data: st.DataObject) -> None:
    clusters = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    mean = sum(scores) / len(scores)
    for found in (interval(scores), interval(scores, clusters)):
        if found.low is not None and found.high is not None:
            assert -1e-12 <= found.low <= mean + 1e-12
            assert mean - 1e-12 <= found.high <= 1 + 1e-12


@pytest.mark.parametrize(("cells", "expected"), [(4, 0.942), (12, 0.963), (24, 0.972), (48, 0.980)])
def test_the_warning_covers_the_optimism_of_equal_runs(cells: int, expected: float) -> None:
    """Cells that all are right with probability 0.9 on 50 samples: what the best shows, and what is warned of."""
    random = np.random.default_rng(cells)
    drawn = [(random.random((cells, 50)) < 0.9).astype(float) for _ in range(60)]
    shown = float(np.mean([scores.mean(axis=1).max() for scores in drawn]))
    assert shown == pytest.approx(expected, abs=0.012)
    warned = float(np.mean([statistics.optimism(scores) for scores in drawn[:8]]))
    assert warned == pytest.approx(shown - 0.9, abs=0.015)


def test_optimism_counts_only_what_differs() -> None:
    # On all but 10 of 100 samples the cells agree.
    random = np.random.default_rng(1)
    scores = np.ones((12, 100))
    scores[:, :10] = random.random((12, 10)) < 0.5
    few, many = statistics.optimism(scores), statistics.optimism((random.random((12, 100)) < 0.95).astype(float))
    assert few is not None
    assert many is not None
    assert 0 < few < many + 0.02
    assert statistics.optimism(np.ones((12, 100))) == 0
    assert statistics.optimism(np.ones((1, 100))) is None
    assert statistics.optimism(np.ones((3, 0))) is None


@pytest.mark.parametrize(("means", "seeds"), [(2, 2), (6, 3), (12, 5)])
def test_the_warning_covers_the_optimism_of_equal_means(means: int, seeds: int) -> None:
    """Means over seeds that all are 0.8, with seeds that spread by 0.03: what the best shows, and what is warned of."""
    drawn = np.random.default_rng(means).normal(0.8, 0.03, (300, means, seeds))
    shown = float(drawn.mean(axis=2).max(axis=1).mean()) - 0.8
    warned = float(np.mean([statistics.optimism_of_means(one.tolist()) for one in drawn[:60]]))
    assert warned == pytest.approx(shown, abs=0.004)


def test_the_warning_covers_epochs_of_the_same_runs() -> None:
    """Three epochs of four times three seeds, of which a seed's are alike: the best shows less than is warned of."""
    random = np.random.default_rng(8)
    runs = random.normal(0.8, 0.03, (300, 4, 1, 3))
    drawn = (runs + random.normal(0, 0.01, (300, 4, 3, 3))).reshape(300, 12, 3)
    shown = float(drawn.mean(axis=2).max(axis=1).mean()) - 0.8
    assert shown < np.mean([statistics.optimism_of_means(one.tolist()) for one in drawn[:60]]) < 2 * shown


def test_optimism_of_means_by_hand() -> None:
    # Two means: the larger of two normals is on average their deviation / √π too much; here 0.1 / √2.
    found = statistics.optimism_of_means([[0.5, 0.5 + 0.1 * math.sqrt(2)], [0.7, 0.7 + 0.1 * math.sqrt(2)]])
    assert found == pytest.approx(0.1 / math.sqrt(2) / math.sqrt(math.pi), rel=0.03)
    assert statistics.optimism_of_means([[0.5, 0.5], [0.7, 0.7]]) == 0
    assert statistics.optimism_of_means([[0.5, 0.6]]) is None
    assert statistics.optimism_of_means([[0.5], [0.6]]) is None


def test_smallest_difference_that_can_be_seen() -> None:
    # 6 of 6: p = 2/64 = 0.031; of 5 even 5 of 5 have 2/32 = 0.063.
    assert statistics.smallest_difference(50, 6) == pytest.approx(6 / 50)
    assert statistics.smallest_difference(50, 5) is None
    # 9 against 1: p = 22/1024 = 0.021; 8 against 2: 0.109.
    assert statistics.smallest_difference(100, 10) == pytest.approx(8 / 100)
    assert statistics.smallest_difference(0, 0) is None
