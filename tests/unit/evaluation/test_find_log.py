"""Which log is whose: by its tag, else by what its header says; never an old one, never another evaluation's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from run_experiment.common.files import Stamps
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.find_log import (
    Wanted,
    contradiction,
    logs_in,
    own_logs,
    tag,
    the_log,
)
from run_experiment.evaluation.log_file import read_header

TAG = tag("17:abc")
OTHER = tag("18:def")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment with two checkpoints and a folder for logs."""
    for path in ("r4/artifacts/epoch_0", "r4/artifacts/epoch_1", "r4/eval/cap_epoch1", "attempt", "logs"):
        (tmp_path / path).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def wanted(folder: Path) -> Wanted:
    models = (folder / "r4/artifacts/epoch_1",)
    return Wanted(TAG, "cap", 1, models, folder, folder / "r4/eval/cap_epoch1")


def write_log(path: Path, **spec: Any) -> Path:
    """A log with this header."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

    values = {"task": "cap", "task_registry_name": "cap", "task_id": path.stem, "model": "hf/local", **spec}
    header = EvalSpec(created="2025-01-31T10:00:00+00:00", dataset=EvalDataset(), config=EvalConfig(), **values)
    write_eval_log(EvalLog(status="success", eval=header, samples=[]), str(path))
    return path


def found(wanted: Wanted, folder: Path, before: Stamps | None = None) -> list[str]:
    """Names of the logs that are the job's."""
    logs = own_logs(
        wanted, [folder / "attempt"], before or {}, logs_in([folder / "attempt", folder / "logs"], [folder])
    )
    return [path.name for path in logs]


def test_epoch_in_a_task_s_own_metadata_is_not_the_model_s(wanted: Wanted, folder: Path) -> None:
    log = write_log(folder / "logs/a.eval", tags=[TAG, "mine"], metadata={"epoch": 3, "author": "me"})
    ours = replace(wanted, epoch_is_told=False)
    assert the_log(ours, [log]) == log
    with pytest.raises(EvalError, match="of epoch 3, not 1"):
        the_log(wanted, [log])
    untagged = write_log(folder / "logs/b.eval", metadata={"epoch": 3})
    with pytest.raises(EvalError, match="of epoch 3, not 1"):
        the_log(ours, [untagged])


def test_log_is_found_by_its_tag_among_others(wanted: Wanted, folder: Path) -> None:
    write_log(folder / "logs/a.eval", tags=[OTHER])
    write_log(folder / "logs/b.eval", tags=[TAG, "mine"], metadata={"epoch": 1})
    write_log(folder / "logs/c.eval", metadata={"run_experiment_job": OTHER, "epoch": 1})
    (folder / "logs/torn.eval").write_bytes(b"PK")
    assert found(wanted, folder) == ["b.eval"]


def test_logs_of_evaluations_at_work_are_not_looked_at(wanted: Wanted, folder: Path) -> None:
    (folder / "r4/eval/.unfinished/other.1").mkdir(parents=True)
    write_log(folder / "r4/eval/.unfinished/other.1/a.eval", metadata={"epoch": 1})
    assert found(wanted, folder) == []


def test_metadata_tell_where_a_script_has_tags_of_its_own(wanted: Wanted, folder: Path) -> None:
    write_log(folder / "logs/a.eval", tags=["theirs"], metadata={"run_experiment_job": TAG})
    assert found(wanted, folder) == ["a.eval"]


def test_logs_in_the_attempt_s_folder_need_no_tag(wanted: Wanted, folder: Path) -> None:
    write_log(folder / "attempt/a.eval")
    write_log(folder / "logs/b.eval", tags=[TAG])
    assert found(wanted, folder) == ["a.eval"]


def test_old_logs_are_nobody_s(wanted: Wanted, folder: Path) -> None:
    old = write_log(folder / "r4/eval/cap_epoch1/old.eval", metadata={"epoch": 1})
    os.utime(old, (2**31, 2**31))
    before = logs_in([], [folder])
    assert found(wanted, folder, before) == []
    write_log(folder / "r4/eval/cap_epoch1/new.eval", metadata={"epoch": 1})
    assert found(wanted, folder, before) == ["new.eval"]


@pytest.mark.parametrize(
    "spec",
    [
        {"model_args": {"model_path": "{folder}/r4/artifacts/epoch_1"}},
        {"model_args": {"model_path": "{folder}/r4/artifacts/epoch_1/merged"}},
        {"model_args": {"model_path": "artifacts/epoch_1"}},
    ],
)
def test_log_without_tag_is_known_by_its_model(wanted: Wanted, folder: Path, spec: dict[str, Any]) -> None:
    (folder / "r4/artifacts/epoch_1/merged").mkdir()
    path = spec["model_args"]["model_path"].format(folder=folder)
    write_log(folder / "logs/a.eval", model_args={"model_path": path})
    write_log(folder / "logs/b.eval", model_args={"model_path": str(folder / "r4/artifacts/epoch_0")})
    assert found(wanted, folder) == ["a.eval"]


def test_log_without_tag_is_known_by_its_epoch_only_within_its_run(wanted: Wanted, folder: Path) -> None:
    write_log(folder / "r4/eval/a.eval", metadata={"epoch": "1"})
    write_log(folder / "r4/eval/b.eval", metadata={"epoch": 0})
    assert found(wanted, folder) == ["a.eval"]


def test_logs_that_do_not_tell_are_an_error(wanted: Wanted, folder: Path) -> None:
    path = write_log(folder / "logs/a.eval", metadata={"epoch": 1})
    with pytest.raises(EvalError, match=f"new logs do not tell which evaluation they are of: {path}"):
        found(wanted, folder)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, None),
        ({"task_registry_name": "theirs/cap", "task": "cap_rank4"}, None),
        ({"task_registry_name": None, "task": "other"}, None),
        ({"task_registry_name": "other"}, "of task other, not cap"),
        ({"metadata": {"epoch": 1}}, None),
        ({"metadata": {"epoch": 0}}, "of epoch 0, not 1"),
        ({"model_args": {"model_path": "/nowhere/at/all"}}, None),
        ({"model_args": {"model_path": "/"}}, None),
        ({"model_args": {"model_path": "r4/artifacts/epoch_0"}}, "of the model in .*epoch_0, not in .*epoch_1"),
    ],
)
def test_what_contradicts(wanted: Wanted, folder: Path, spec: dict[str, Any], reason: str | None) -> None:
    log = write_log(folder / "logs/a.eval", **spec)
    if reason is None:
        assert the_log(wanted, [log]) == log
        return
    with pytest.raises(EvalError, match=f"a.eval is {reason}"):
        the_log(wanted, [log])


def test_the_newest_of_a_retried_evaluation_counts(wanted: Wanted, folder: Path) -> None:
    logs = [write_log(folder / f"logs/{name}.eval", task_id="one") for name in ("b", "a")]
    assert the_log(wanted, logs) == logs[1]


def test_several_evaluations_are_an_error(wanted: Wanted, folder: Path) -> None:
    logs = [write_log(folder / f"logs/{name}.eval") for name in ("a", "b")]
    with pytest.raises(EvalError, match=r"left logs of several evaluations: .*a\.eval, .*b\.eval"):
        the_log(wanted, logs)


def test_the_one_that_fits_is_taken_of_several(wanted: Wanted, folder: Path) -> None:
    fits = write_log(folder / "logs/a.eval")
    assert the_log(wanted, [fits, write_log(folder / "logs/b.eval", task_registry_name="other")]) == fits


def test_contradiction_of_a_control_is_its_model(folder: Path) -> None:
    for name in ("models/one", "models/two"):
        (folder / name).mkdir(parents=True)
    wanted = Wanted(TAG, "cap", None, (folder / "models/one",), folder, folder / "base/eval/cap_base")
    for name, expected in (("one", None), ("two", "of the model in")):
        log = write_log(folder / "logs" / f"{name}.eval", model_args={"model_path": str(folder / "models" / name)})
        reason = contradiction(wanted, read_header(log).eval)
        assert (reason or "")[:15] == (expected or "")
