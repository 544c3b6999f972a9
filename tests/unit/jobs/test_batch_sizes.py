"""Smaller batches of the same step, and those that ran out of memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_experiment.jobs.batch_sizes import LearnedBatches, TooBig, halved_limit, smaller_batch

sizes = st.integers(1, 300)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "below", "smaller"),
    [
        (8, 1, 8, (4, 2)),
        (8, 1, 5, (4, 2)),
        (8, 1, 4, (2, 4)),
        (8, 1, 100, (4, 2)),
        (4, 2, 8, (2, 4)),
        (6, 1, 6, (3, 2)),
        (3, 1, 3, (1, 3)),
        (5, 1, 5, (1, 5)),
        (2, 3, 2, (1, 6)),
        (4, 3, 4, (3, 4)),
        (8, 1, 1, None),
        (8, 1, 0, None),
        (1, 8, 8, None),
    ],
)
def test_smaller_batch(batch_size: int, accumulation: int, below: int, smaller: tuple[int, int] | None) -> None:
    assert smaller_batch(batch_size, accumulation, below) == smaller


@pytest.mark.parametrize(
    ("batch_size", "smaller"),
    [(16, (8, 2)), (9, (3, 3)), (7, (1, 7)), (6, (3, 2)), (3, (1, 3)), (2, (1, 2)), (1, None)],
)
def test_after_it_ran_out_of_memory(batch_size: int, smaller: tuple[int, int] | None) -> None:
    assert smaller_batch(batch_size, 1, halved_limit(batch_size)) == smaller


@given(sizes, sizes, sizes)
def test_a_step_keeps_its_samples(batch_size: int, accumulation: int, below: int) -> None:
    smaller = smaller_batch(batch_size, accumulation, below)
    assert (smaller is None) == (min(batch_size, below) == 1)
    if smaller:
        assert smaller[0] * smaller[1] == batch_size * accumulation
        assert 1 <= smaller[0] < min(batch_size, below)


@given(sizes, sizes)
def test_halving_ends_at_one(batch_size: int, accumulation: int) -> None:
    tried = [(batch_size, accumulation)]
    while smaller := smaller_batch(*tried[-1], halved_limit(tried[-1][0])):
        assert smaller[0] <= tried[-1][0] // 2
        tried.append(smaller)
    assert tried[-1] == (1, batch_size * accumulation)


def test_the_smallest_size_that_was_too_big_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learned = LearnedBatches({"weights": "abc"}, lambda: ["H100"])
    assert learned.too_big() is None

    for size in (8, 4, 16):
        learned.learn(TooBig(size, "r4", f"job{size}"))

    assert LearnedBatches({"weights": "abc"}, lambda: ["H100"]).too_big() == TooBig(4, "r4", "job4")
    assert LearnedBatches({"weights": "abc"}, lambda: ["A100"]).too_big() is None
    assert LearnedBatches({"weights": "other"}, lambda: ["H100"]).too_big() is None

    learned.forget()
    assert learned.too_big() is None
