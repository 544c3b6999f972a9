"""Whether samples that inspect-ai numbers itself were taken for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from run_experiment.evaluation.partial_log import repeats_itself


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder as the working directory."""
    monkeypatch.chdir(tmp_path)


DATA = "words.json"


def write_log(*inputs: str, ids: list[int | str] | None = None, epochs: int = 1) -> Path:
    """A log of samples with these inputs, numbered as inspect-ai does where no ids are given."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log

    ids = ids or list(range(1, len(inputs) + 1))
    header = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        model="hf/local",
        dataset=EvalDataset(samples=len(ids), sample_ids=ids),
        config=EvalConfig(epochs=epochs),
    )
    samples = [
        EvalSample(id=own, epoch=epoch + 1, input=text, target="x")
        for epoch in range(epochs)
        for own, text in zip(ids, inputs, strict=True)
    ]
    write_eval_log(EvalLog(status="success", eval=header, samples=samples), "a.eval")
    return Path("a.eval")


@pytest.mark.parametrize(
    ("inputs", "ids", "repeats"),
    [
        ("abc", None, False),
        ("abb", None, False),
        ("aaa", None, True),
        ("aabb", None, True),
        ("bb", None, False),
        ("ab", None, False),
        ("aaa", ["i", "ii", "iii"], False),
        ("aaa", [7, 8, 9], False),
    ],
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_samples_that_data_have_not(inputs: str, ids: list[int | str] | None, repeats: bool, epochs: int) -> None:
    Path(DATA).write_text(json.dumps({"test": [{"input": word} for word in "aab"], "train": [{"input": "b"}]}))
    assert repeats_itself(write_log(*inputs, ids=ids, epochs=epochs), DATA, "test") is repeats


def test_rows_of_all_splits_count_if_it_is_not_known_which_one_is_read() -> None:
    Path(DATA).write_text(json.dumps({"test": [{"input": "a"}], "train": [{"input": "a"}]}))
    log = write_log("a", "a")
    assert repeats_itself(log, DATA, "test")
    assert not repeats_itself(log, DATA, None)


def test_long_questions_that_begin_alike_are_others() -> None:
    assert not repeats_itself(write_log("x" * 9000 + "a", "x" * 9000 + "b"), None, None)
    assert repeats_itself(write_log("x" * 9000, "x" * 9000), None, None)
