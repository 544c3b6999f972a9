"""The file of a log: read as inspect-ai reads it, whatever state it is in, without importing inspect-ai."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    read_eval_log,
    read_eval_log_sample_summaries,
    write_eval_log,
)
from inspect_ai.log._recorders.eval import LogStart
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score

from run_experiment.evaluation.errors import EvalError as Unreadable
from run_experiment.evaluation.eval_log import read_outcome
from run_experiment.evaluation.log_file import read_header, read_summaries

NAN = float("nan")
SPEC = EvalSpec(
    created="2025-01-31T10:00:00+00:00",
    task="cap",
    task_id="one",
    task_registry_name="pkg/cap",
    task_args={"split": "test", "given": 1},
    task_args_passed={"given": 1},
    model="hf/local",
    model_args={"model_path": "model", "do_sample": False},
    model_generate_config=GenerateConfig(seed=14, max_tokens=3),
    tags=["a tag"],
    metadata={"epoch": 1},
    dataset=EvalDataset(samples=2, sample_ids=[1, "two"]),
    config=EvalConfig(limit=(1, 3), epochs=2, fail_on_error=0.5),
    packages={"inspect_ai": "0.3"},
)
SAMPLES = [
    EvalSample(id=1, epoch=1, input="a", target="b", uuid="u1", scores={"match": Score(value=NAN)}),
    EvalSample(
        id="two", epoch=1, input="a", target=["b"], error=EvalError(message="x", traceback="", traceback_ansi="")
    ),
]
RESULTS = EvalResults(
    total_samples=4,
    completed_samples=2,
    scores=[
        EvalScore(name="match", scorer="match", reducer="mean", metrics={"mean": EvalMetric(name="mean", value=NAN)}),
        EvalScore(name="key", scorer="both", metrics={"share": EvalMetric(name="share", value=0.5)}),
    ],
)
STATS = EvalStats(started_at="2025-01-31T10:00:00+00:00", completed_at="2025-01-31T11:00:00+00:00")
FAILED = EvalError(message="boom", traceback="Traceback\nboom", traceback_ansi="")


def write_started(path: Path, *summaries: list[dict[str, Any]]) -> None:
    """A log as it is while its evaluation runs, with summaries written so many times."""
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("_journal/start.json", LogStart(version=2, eval=SPEC, plan=EvalPlan()).model_dump_json())
        for number, samples in enumerate(summaries, start=1):
            log.writestr(f"_journal/summaries/{number}.json", json.dumps(samples))


def summary(name: int | str, **facts: Any) -> dict[str, Any]:
    return {"id": name, "epoch": 1, "input": "a", "target": "b", **facts}


def require_read_as_by_inspect(path: Path) -> None:
    """Everything that is read is what inspect-ai reads."""
    whole, samples = read_eval_log(str(path), header_only=True), read_eval_log_sample_summaries(str(path))
    for ours, theirs in [(read_header(path), whole), *zip(read_summaries(path), samples, strict=True)]:
        assert_part_of(ours.model_dump(), theirs.model_dump())


def assert_part_of(ours: Any, theirs: Any) -> None:
    """Our values are those of inspect-ai, which has more of them; what is not set may be left out in either."""
    if isinstance(ours, dict):
        for name, value in ours.items():
            assert_part_of(value, theirs.get(name))
    elif isinstance(ours, list) and theirs is not None:
        for one, other in zip(ours, theirs, strict=True):
            assert_part_of(one, other)
    else:
        # As text, for NaN is NaN.
        assert json.dumps(ours) == json.dumps(theirs)


@pytest.mark.parametrize(
    "log",
    [
        EvalLog(status="success", eval=SPEC, results=RESULTS, stats=STATS, samples=SAMPLES),
        EvalLog(status="error", eval=SPEC, error=FAILED, stats=STATS, samples=SAMPLES[:1]),
        EvalLog(status="cancelled", eval=SPEC, samples=[]),
    ],
    ids=lambda log: log.status,
)
def test_finished_logs(tmp_path: Path, log: EvalLog) -> None:
    write_eval_log(log, str(tmp_path / "one.eval"))
    require_read_as_by_inspect(tmp_path / "one.eval")
    assert read_header(tmp_path / "one.eval").eval.task_args_passed == {"given": 1}
    # In the compression that inspect-ai uses, which zipfile alone does not know.
    with zipfile.ZipFile(tmp_path / "one.eval") as file:
        assert {one.compress_type for one in file.infolist()} == {93}


def test_a_log_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "one.eval"
    again = [summary(number, uuid=f"u{number}", completed=True) for number in range(2, 12)]
    write_started(path, [summary(1), summary(2, error="x")], *([one] for one in again))
    require_read_as_by_inspect(path)
    # Ten files and more: by number, not by name. The sample that was evaluated again counts as it is now.
    assert [(one.id, one.error) for one in read_summaries(path)] == [(number, None) for number in range(1, 12)]
    assert (read_header(path).status, read_outcome(path).total_samples) == ("started", 4)


def test_logs_of_another_version_are_left_to_inspect(tmp_path: Path) -> None:
    path = tmp_path / "one.eval"
    spec = SPEC.model_dump(mode="json", exclude_none=True) | {"sandbox": ["docker", "compose.yaml"]}
    del spec["task_args_passed"]
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("header.json", json.dumps({"version": 1, "status": "success", "eval": spec}))
        log.writestr("summaries.json", json.dumps([summary(1)]))
    assert read_header(path).eval.task_args_passed == {"split": "test", "given": 1}


@pytest.mark.parametrize(
    "members", [{}, {"header.json": "{"}, {"header.json": "{}"}, {"header.json": '{"version": 2}'}]
)
def test_what_is_no_log(tmp_path: Path, members: dict[str, str]) -> None:
    path = tmp_path / "one.eval"
    with zipfile.ZipFile(path, "w") as log:
        for name, text in members.items():
            log.writestr(name, text)
    with pytest.raises(Unreadable, match=f"cannot read {path}: "):
        read_header(path)


def test_a_log_is_judged_without_importing_inspect(tmp_path: Path) -> None:
    write_eval_log(EvalLog(status="success", eval=SPEC, results=RESULTS, samples=SAMPLES), str(tmp_path / "one.eval"))
    code = (
        "import sys, run_experiment.jobs.evaluate; from pathlib import Path\n"
        "from run_experiment.evaluation.eval_log import read_outcome\n"
        f"print(read_outcome(Path({str(tmp_path / 'one.eval')!r})).completed_samples)\n"
        "print([name for name in ('inspect_ai', 'torch', 'pandas', 'numpy', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["2", "[]"], done.stderr
