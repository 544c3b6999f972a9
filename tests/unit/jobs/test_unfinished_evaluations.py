"""What an attempt at an evaluation leaves for the next one: scripts leave prepared logs as eval-set would."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from run_experiment.attempts.redone import move_away
from run_experiment.common.clock import now
from run_experiment.evaluation.errors import EvalError
from run_experiment.inputs.data_files import split_hash
from run_experiment.inputs.file_hashes import file_hash
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.evaluate import evaluate
from run_experiment.jobs.evaluation_logs import Left, LogPlace
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.edits import Rendered, parse
from run_experiment.machine.memory import memory_kills

LOG, SCRIPT, RECORD = Path("logs/base.log"), Path("base/eval/cap_base.slurm"), Path("base/eval/cap_base.json")
EVAL_LOG, ATTEMPTS, UNFINISHED = (
    Path("base/eval/logs/cap_base.eval"),
    Path("base/attempts"),
    Path("base/eval/.unfinished"),
)
WORDS = {"test": [{"input": "a"}, {"input": "b"}, {"input": "c"}]}
# Leaves the next of the logs that are listed in `leaves`, with the exit status of eval-set.
LEAVE = """
name=$(head -n 1 leaves); sed -i 1d leaves
[ "$name" = nothing ] || cp {logs}/$name.eval "${{RUN_EXPERIMENT_EVAL_SET:-by_hand}}/$(date +%s%N).eval"
case $name in whole | other | mixed | limited | nothing) ;; *) exit 1 ;; esac
"""


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of an evaluation of three samples, by what they are."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalError,
        EvalLog,
        EvalResults,
        EvalSample,
        EvalSpec,
        write_eval_log,
    )

    folder = tmp_path_factory.mktemp("logs")

    def write(name: str, *inputs: str, uuids: Sequence[str] = "xyz", limit: int | None = None) -> None:
        spec = EvalSpec(
            created="2025-01-31T10:00:00+00:00",
            task="cap",
            task_id="one",
            model="none/none",
            dataset=EvalDataset(samples=3, sample_ids=[1, 2, 3]),
            config=EvalConfig(limit=limit),
            tags=["run-experiment:local-4:abc"],
        )
        samples = [
            EvalSample(id=number, epoch=1, input=text, target="x", uuid=uuid)
            for number, (text, uuid) in enumerate(zip(inputs, uuids, strict=False), start=1)
        ]
        if len(inputs) == 3:
            results = EvalResults(total_samples=3, completed_samples=3)
            log = EvalLog(status="success", eval=spec, results=results, samples=samples)
        else:
            broke = EvalError(message="the task broke", traceback="", traceback_ansi="")
            log = EvalLog(status="error", eval=spec, samples=samples, error=broke)
        write_eval_log(log, str(folder / f"{name}.eval"))

    write("one", "a")
    write("two", "a", "b")
    write("whole", "a", "b", "c")
    write("other", "a", "b", "c", uuids="uvw")
    write("mixed", "a", "b", "a")
    write("limited", "a", "b", "c", limit=3)
    (folder / "torn.eval").write_bytes((folder / "two.eval").read_bytes()[:-40])
    spoil(folder / "two.eval", folder / "spoilt.eval")
    return folder


def spoil(log: Path, target: Path) -> None:
    """A copy of a log with a sample that cannot be read; its header can."""
    with zipfile.ZipFile(log) as file:
        sample = next(item for item in file.infolist() if item.filename.startswith("samples/"))
    content = bytearray(log.read_bytes())
    middle = sample.header_offset + 30 + len(sample.filename) + sample.compress_size // 2
    content[middle : middle + 8] = bytes(8)
    target.write_bytes(content)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data and a task, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Path("words.json").write_text(json.dumps(WORDS))
    Path("cap.py").write_text("a task")
    return tmp_path


def evaluation(text: str, connections: int = 4) -> EvaluationJob:
    """An evaluation with a script that has these commands."""
    script = Rendered("#!/bin/bash\n", f"set -euo pipefail\n{text}\n").text
    SCRIPT.parent.mkdir(parents=True, exist_ok=True)
    SCRIPT.write_text(script)
    return EvaluationJob(
        run="base",
        config={
            "task": {"script": {"sha256": file_hash(Path("cap.py"))}},
            "data": {"split": "test", "sha256": split_hash([Path("words.json")], "test")},
        },
        files={str(SCRIPT): parse(script).fingerprint},
        target=str(RECORD),
        name="tiny.base",
        script=str(SCRIPT),
        cell="cap_base",
        task=str(Path("cap.py").absolute()),
        data=str(Path("words.json").absolute()),
        manifest=None,
        cache="cache",
        max_connections=connections,
    )


def leaving(logs: Path, *names: str, then: str = "") -> EvaluationJob:
    """An evaluation whose script leaves these logs, one a run."""
    Path("leaves").write_text("".join(f"{name}\n" for name in names))
    return evaluation(LEAVE.format(logs=logs) + then)


def record() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text()))


def told() -> list[tuple[str, str, str]]:
    return [(event["action"], event["details"], event["result"]) for event in record()["events"]]


def fails(job: EvaluationJob, match: str, local_id: str = "4") -> None:
    with pytest.raises(JobError, match=match):
        evaluate(job, local_id, LOG)


def unfinished() -> list[Path]:
    return sorted(UNFINISHED.glob("*/*.eval"))


CONTINUED = ("EVAL_RETRY", "Continuing attempt of job local-4 (inspect eval-set)")


def test_what_is_there_is_continued_and_gone_after_the_success(logs: Path) -> None:
    job = leaving(logs, "two", "whole")
    fails(job, r"^evaluation ended with status error after 2 of 3 samples: the task broke; its log is")
    assert len(unfinished()) == 1
    (kept,) = ATTEMPTS.glob("local-4/*.eval")
    assert kept.read_bytes() == (logs / "two.eval").read_bytes()

    evaluate(job, "5", LOG)

    assert EVAL_LOG.read_bytes() == (logs / "whole.eval").read_bytes()
    assert told() == [(*CONTINUED, "2 of 3 samples reused, 1 to do")]
    assert record()["continued"] == {"job_id": "local-4", "reused_samples": 2}
    assert not list(UNFINISHED.iterdir())


def test_samples_that_are_computed_again_are_reported(logs: Path) -> None:
    """inspect-ai does not know samples of shuffled data without ids again."""
    job = leaving(logs, "two", "other")
    fails(job, "the task broke")
    evaluate(job, "5", LOG)
    assert told()[1:] == [
        ("EVAL_RETRY", "inspect-ai computed samples of job local-4 again", "0 of 2 samples were reused")
    ]
    assert record()["continued"]["reused_samples"] == 0


def test_the_log_with_the_most_samples_is_kept(logs: Path) -> None:
    job = leaving(logs, "one", "two", "one", "whole")
    for number in "456":
        fails(job, "the task broke", number)
    evaluate(job, "7", LOG)
    assert [result for _, _, result in told()] == ["2 of 3 samples reused, 1 to do"]


def test_an_attempt_that_fails_before_it_has_a_log_costs_no_samples(logs: Path) -> None:
    Path("leaves").write_text("two\nwhole\n")
    job = evaluation("[ ! -e broken ] || { rm broken; exit 1; }\n" + LEAVE.format(logs=logs))
    fails(job, "the task broke")
    Path("broken").touch()
    fails(job, "exit status 1", "5")
    assert not Path("broken").exists()

    evaluate(job, "6", LOG)

    assert told() == [(*CONTINUED, "2 of 3 samples reused, 1 to do")]
    assert record()["continued"] == {"job_id": "local-4", "reused_samples": 2}


@pytest.mark.parametrize("log", ["torn", "spoilt"])
def test_a_log_that_cannot_be_read_is_given_up(logs: Path, log: str) -> None:
    job = leaving(logs, log, "whole")
    fails(job, "exit status 1|the task broke")
    evaluate(job, "5", LOG)
    ((action, details, result),) = told()
    assert (action, result) == ("EVAL_RETRY", "started fresh")
    assert details.startswith("Attempt of job local-4 cannot be continued: cannot read ")
    assert "continued" not in record()


def test_a_torn_log_of_a_script_that_ended_well_is_tried_again(logs: Path) -> None:
    torn = f'[ -e torn ] || {{ touch torn; cp {logs}/torn.eval "$RUN_EXPERIMENT_EVAL_SET"; exit 0; }}\n'
    evaluate(evaluation(torn + f'cp {logs}/whole.eval "$RUN_EXPERIMENT_EVAL_SET"'), "5", LOG)
    assert EVAL_LOG.exists()


@pytest.mark.parametrize("left", ["two", "whole"])
def test_nothing_is_used_that_was_computed_while_data_changed(logs: Path, left: str) -> None:
    """They are changed back before the next attempt."""
    change = "[ -e changed ] || { touch changed; sed -i s/a/z/ words.json; }\n"
    job = leaving(logs, left, "other")
    job = evaluation(change + LEAVE.format(logs=logs))
    fails(job, "changed since this job was planned|the task broke")
    assert unfinished() == []
    assert len(list(ATTEMPTS.glob("local-4/*.eval"))) == 1
    Path("words.json").write_text(json.dumps(WORDS))

    evaluate(job, "5", LOG)

    assert "continued" not in record()
    ((_, details, result),) = told()
    assert details.startswith("Attempt of job local-4 cannot be continued: split test of")
    assert result == "started fresh"


def test_samples_without_ids_that_repeat_are_computed_anew(logs: Path) -> None:
    job = leaving(logs, "two", "mixed", "other")
    fails(job, "the task broke")
    evaluate(job, "5", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "other.eval").read_bytes()
    reason = "its samples have no ids, and are in another order now or repeat each other"
    assert told() == [
        (*CONTINUED, "2 of 3 samples reused, 1 to do"),
        ("EVAL_RETRY", f"Attempt of job local-5 cannot be continued: {reason}", "started fresh"),
    ]


def test_equal_rows_of_the_data_are_continued_after_two_interruptions(logs: Path) -> None:
    """Without ids equal samples look like one that was computed twice, which is wrong only if the rows differ."""
    Path("words.json").write_text(json.dumps({"test": [{"input": "a"}, {"input": "b"}, {"input": "a"}]}))
    job = leaving(logs, "one", "two", "mixed")
    fails(job, "after 1 of 3 samples")
    fails(job, "after 2 of 3 samples", "5")

    evaluate(job, "6", LOG)

    assert EVAL_LOG.read_bytes() == (logs / "mixed.eval").read_bytes()
    assert [result for _, _, result in told()] == ["2 of 3 samples reused, 1 to do"]
    assert record()["continued"]["reused_samples"] == 2


def test_a_success_that_is_refused_is_not_left_for_eval_set(logs: Path) -> None:
    job = leaving(logs, "limited", "whole")
    fails(job, "limit is 3 instead of not set")
    assert unfinished() == []
    evaluate(job, "5", LOG)
    assert "continued" not in record()


def test_a_complete_log_needs_no_new_one(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = leaving(logs, "whole", "nothing", "nothing", then="[ -e fine ]")

    def unread(_: LogPlace) -> Left:
        raise EvalError("as if the job was killed before it read the log")

    with monkeypatch.context() as killed:
        killed.setattr(LogPlace, "left", unread)
        fails(job, "exit status 1")
        fails(job, "exit status 1", "5")
    Path("fine").touch()
    evaluate(job, "6", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "whole.eval").read_bytes()
    assert told() == [(*CONTINUED, "3 of 3 samples reused, none to do")]


def test_a_partial_log_is_no_result(logs: Path) -> None:
    job = leaving(logs, "two", "nothing")
    fails(job, "the task broke")
    fails(job, "the script left no inspect-ai log", "5")
    assert len(unfinished()) == 1


def test_other_configurations_have_folders_of_their_own(logs: Path) -> None:
    job = leaving(logs, "two", "two", "whole")
    fails(job, "the task broke")
    fails(replace(job, config={**job.config, "generation": {}}), "the task broke", "5")
    assert len(unfinished()) == 2
    evaluate(job, "7", LOG)
    assert record()["continued"]["reused_samples"] == 2
    assert len(unfinished()) == 1, "that of the other configuration"


def test_what_is_asked_for_again_begins_anew_and_says_nothing_of_attempts_before(logs: Path) -> None:
    job = leaving(logs, "two", "whole")
    fails(job, "the task broke")
    before = [folder.name for folder in Path(f"{job.run}/attempts").glob("*")]
    # A login node's clock decides nothing.
    move_away(Path(), job.target, now() - timedelta(hours=1), UNFINISHED.glob("*"), before)
    evaluate(job, "5", LOG)
    assert (told(), record()["attempts"], "continued" in record()) == ([], [], False)


def test_other_sizes_and_places_continue_what_is_there(logs: Path, tmp_path: Path) -> None:
    job = leaving(logs, "two", "whole")
    fails(job, "the task broke")
    moved = Path("words.json").rename(tmp_path / "moved.json")
    evaluate(replace(job, data=str(moved), max_connections=2), "5", LOG)
    assert record()["continued"]["reused_samples"] == 2


def test_a_script_of_its_own_begins_anew(logs: Path) -> None:
    own = f'name=$(head -n 1 leaves); sed -i 1d leaves; cp {logs}/$name.eval "$INSPECT_LOG_DIR"\n[ $name = whole ]'
    Path("leaves").write_text("two\nwhole\n")
    job = evaluation(own)
    fails(job, "the task broke")
    assert not UNFINISHED.exists()

    evaluate(job, "5", LOG)

    reason = "its script does not use the job's folder for `inspect eval-set`"
    assert told() == [("EVAL_RETRY", f"Attempt of job local-4 cannot be continued: {reason}", "started fresh")]


def test_a_log_that_is_not_in_its_folder_is_not_continued(logs: Path) -> None:
    """As one that an earlier version left with its attempt."""
    job = leaving(logs, "two", "whole")
    fails(job, "the task broke")
    (log,) = unfinished()
    log.unlink()
    evaluate(job, "5", LOG)
    reason = f"its log is not in {log.parent}"
    assert told() == [("EVAL_RETRY", f"Attempt of job local-4 cannot be continued: {reason}", "started fresh")]


@pytest.mark.parametrize(("given", "expected"), [(None, "0"), ("7", "7")])
def test_a_task_that_makes_its_samples_from_a_set_has_the_same_order_every_time(
    logs: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if given:
        monkeypatch.setenv("PYTHONHASHSEED", given)
    evaluate(leaving(logs, "whole", then="echo seed $PYTHONHASHSEED"), "4", LOG)
    assert f"seed {expected}\n" in LOG.read_text()


def test_a_long_error_of_inspect_ai_is_told_whole(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints them with rich, which breaks lines."""
    monkeypatch.delenv("COLUMNS", raising=False)
    error = f"ERROR: {'no docker ' * 12}here"
    fails(evaluation(f"python -c 'import rich; rich.print(\"{error}\"); exit(1)'\n"), f"exit status 1: {error}")


# Needs memory for so many samples at once.
FITS = """
number=${{INSPECT_EVAL_MAX_CONNECTIONS:-{asked}}}; echo $number >> tries
[ $number -le {fits} ] || {{ echo "CUDA out of memory"; exit 1; }}
cp {logs}/whole.eval "$RUN_EXPERIMENT_EVAL_SET"
"""


def fitting(logs: Path, fits: int, asked: int) -> EvaluationJob:
    return evaluation(FITS.format(logs=logs, fits=fits, asked=asked), asked)


def tries() -> list[str]:
    return Path("tries").read_text().split()


def test_out_of_memory_halves_the_samples_at_once(logs: Path) -> None:
    evaluate(fitting(logs, 2, 8), "5", LOG)
    assert tries() == ["8", "4", "2"]
    assert told() == [("OOM_RETRY", f"max_connections {one} → {one // 2}", "tried again") for one in (8, 4)]
    assert record()["changes"] == {"max_connections": 2}


def test_the_next_job_begins_with_less_if_memory_did_not_suffice(logs: Path) -> None:
    fails(replace(fitting(logs, 2, 4), retries=0), "CUDA out of memory")
    evaluate(fitting(logs, 2, 4), "5", LOG)
    assert tries() == ["4", "2"]


def test_what_never_fits_ends_and_begins_anew_the_next_time(logs: Path) -> None:
    fails(fitting(logs, 0, 2), "out of memory even with max_connections 1: ask for a larger GPU")
    assert len(list(ATTEMPTS.iterdir())) == 2
    assert not RECORD.exists()
    evaluate(fitting(logs, 2, 2), "5", LOG)
    assert tries() == ["2", "1", "2"]


def test_a_script_that_sets_its_own_number_is_run_once(logs: Path) -> None:
    job = evaluation('echo --max-connections >> runs; echo "CUDA out of memory"; exit 1')
    fails(job, "The script sets --max-connections itself: lower it there, or ask for a larger GPU")
    assert len(Path("runs").read_text().split()) == 1


def test_a_killed_process_of_a_script_that_ended_well_was_too_large(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text("0::/job\n")
    counts = tmp_path / "job" / "memory.events"
    counts.parent.mkdir()
    counts.write_text("oom_kill 1\n")
    monkeypatch.setattr(memory_kills, "__defaults__", (tmp_path, tmp_path))
    kill = f"[ -e killed ] || {{ touch killed; echo oom_kill 2 > {counts}; exit; }}\n"

    evaluate(evaluation(kill + FITS.format(logs=logs, fits=2, asked=4)), "5", LOG)

    assert told() == [("OOM_RETRY", "max_connections 4 → 2", "tried again")]
