"""Scores by sample, read from logs."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pytest
from sample_logs import sample, samples_of, write_log

from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.results.analysis import samples
from run_experiment.results.analysis.samples import LogSamples, SamplesError, read_samples, summaries


def read(log: Path) -> LogSamples:
    return read_samples(log, HashMemory(log.with_name("hashes.json")), log.parent / "cache")


def scores(log: Path) -> list[dict[str, float | None]]:
    return [dict(one.scores) for one in read(log).samples]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.eval"


def test_values_count_as_in_inspects_metrics(log: Path) -> None:
    write_log(log, samples_of(["C", "I", "P", "N", True, 0.25, "yes", "0.5", None, math.nan, "what", [1, 0]]))
    found = [one["match"] for one in scores(log)]
    assert found == [1, 0, 0.5, 0, 1, 0.25, 1, 0.5, None, None, None, None]


def test_scores_that_are_a_text_in_any_epoch_are_named(log: Path) -> None:
    """Reductions have 0 in their place."""
    rows = [sample(1, "C"), sample(1, "refused", epoch=2), sample(2, "I"), sample(3, {"tone": "odd", "facts": 1})]
    write_log(log, rows, [{"scorer": "match", "samples": [{"sample_id": 1, "value": 0.5}]}])
    assert [list(one.texts) for one in read(log).samples] == [["match"], [], ["match/tone"]]
    assert (read(log).texts("match"), read(log).texts("match/tone")) == (1, 1)


def test_scores_with_keys_and_of_several_scorers(log: Path) -> None:
    both = sample(1, {"tone": 2, "facts": "C"}, scorer="judge")
    both["scores"]["exact"] = {"value": "I"}
    write_log(log, [both])
    assert scores(log) == [{"judge/tone": 2.0, "judge/facts": 1.0, "exact": 0.0}]


def test_epochs_of_a_sample_are_one_sample(log: Path) -> None:
    write_log(log, [sample(name, value, epoch=epoch) for name in "ab" for epoch, value in enumerate("CIC", start=1)])
    found = read(log).samples
    assert [(one.id, one.epochs) for one in found] == [("a", 3), ("b", 3)]
    assert [one.scores["match"] for one in found] == pytest.approx([2 / 3, 2 / 3])


def test_reductions_of_the_log_count(log: Path) -> None:
    reductions = [
        {"scorer": "match", "reducer": name, "samples": [{"sample_id": 1, "value": value}]}
        for name, value in (("mode", 1.0), ("mean", 2 / 3))
    ]
    write_log(log, [sample(1, value, epoch=epoch) for epoch, value in enumerate("CIC", start=1)], reductions)
    assert scores(log) == [{"match": 1.0, "match@mode": 1.0, "match@mean": pytest.approx(2 / 3)}]


def test_a_failed_epoch_is_left_out_and_marked(log: Path) -> None:
    write_log(log, [sample(1, "C"), sample(1, None, epoch=2, error="boom"), sample(2, None, error="boom")])
    first, second = read(log).samples
    assert (first.error, first.scores) == (True, {"match": 1.0})
    assert (second.error, second.scores) == (True, {})


def test_a_failed_sample_that_was_scored_has_its_score(log: Path) -> None:
    write_log(log, [{**sample(1, "C"), "error": "boom"}, {**sample(2, "I"), "error": "boom"}])
    assert [(one.error, one.scores) for one in read(log).samples] == [(True, {"match": 1.0}), (True, {"match": 0.0})]


def test_samples_that_a_limit_ended_are_counted(log: Path) -> None:
    repeated = [sample(2, "C"), sample(2, "I", epoch=2, limit="time")]
    write_log(
        log, [sample(1, "I", limit="token"), *repeated, sample(3, "C", limit=None), sample(4, "I", limit="token")]
    )
    found = read(log)
    assert found.limited == {"token": 2, "time": 1}
    assert read(log) == found, "also from the cache"


def test_only_short_metadata_are_kept(log: Path) -> None:
    write_log(log, [sample(1, "C", metadata={"story": "s1", "part": 3, "text": "x" * 200, "list": [1]})])
    assert read(log).samples[0].metadata == {"story": "s1", "part": 3}


def test_what_was_read_is_kept_by_the_logs_content(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(log, samples_of(["C", "I"]))
    first = read(log)
    with monkeypatch.context() as patched:
        patched.setattr(samples, "summaries", None)
        assert read(log) == first
    write_log(log, samples_of(["C", "C"]))
    assert read(log) != first
    for kept in (log.parent / "cache").iterdir():
        kept.write_text('{"version": 1, "samples": [{}]}')
    assert len(read(log).samples) == 2


@pytest.mark.parametrize("content", [None, b"", b"no log", b"PK\x05\x06" + bytes(18)])
def test_a_log_that_cannot_be_read_says_so(log: Path, content: bytes | None) -> None:
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(SamplesError, match=r"."):
        read(log)


def test_summaries_that_are_no_list(log: Path) -> None:
    with zipfile.ZipFile(log, "w") as file:
        file.writestr("summaries.json", "{}")
    with pytest.raises(SamplesError, match="no summaries"):
        summaries(log)


@pytest.mark.parametrize(
    ("text", "name"),
    [(" Yes.", "yes"), ("**B)**", "b"), (["no"], "no"), ("x" * 41, ""), ("x" * 1_000_000, ""), (None, ""), (7, "")],
    ids=range(7),
)
def test_targets_and_answers_are_names_of_classes(log: Path, text: object, name: str) -> None:
    one = sample(1, "C") | {"target": text, "scores": {"match": {"value": "C", "answer": text}}}
    write_log(log, [one])
    (found,) = read(log).samples
    assert (found.label, found.answers) == (name, {"match": name})
    assert read(log).samples == (found,)
