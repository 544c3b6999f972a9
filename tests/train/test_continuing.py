"""Evaluations that are cut off, with the real inspect-ai: another attempt computes only what is missing."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from evaluations import TASKS

from run_experiment.common import paths
from run_experiment.evaluation.errors import EvalError
from run_experiment.inputs.data_files import split_hash
from run_experiment.inputs.file_hashes import file_hash
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.evaluate import evaluate
from run_experiment.jobs.evaluation_logs import Left, LogPlace
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.edits import Rendered, parse

LOG = Path("logs/base.log")
SCRIPT, RECORD = Path("base/eval/count_base.slurm"), Path("base/eval/count_base.json")
EVAL_LOG, ATTEMPTS = Path("base/eval/logs/count_base.eval"), Path("base/attempts")
UNFINISHED = Path("base/eval/.unfinished")
TOTAL = 30
JOB = """import os, sys
from pathlib import Path
from run_experiment.jobs.evaluate import evaluate
from run_experiment.jobs.specs import EvaluationJob
os.environ["JOB_PID"] = str(os.getpid())
evaluate(EvaluationJob.read(sys.argv[1]), sys.argv[2], Path("logs/base.log"))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data, as the working directory; what inspect-ai keeps in the home is here, too."""
    folder = tmp_path / "an experiment's $1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    # A short path: inspect-ai has a socket there.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Path("words.json").write_text(json.dumps({"test": [{"input": f"w{number}"} for number in range(TOTAL)]}))
    Path("count.py").write_text((TASKS.parent / "counting.py").read_text())
    return folder


def evaluation(options: str = "", call: str = "inspect eval-set", connections: int = 4) -> EvaluationJob:
    """An evaluation of the data as they are now, with a script like a rendered one."""
    lines = [
        "set -euo pipefail",
        "export INSPECT_LOG_DIR=${RUN_EXPERIMENT_EVAL_SET:-by_hand}",
        f"export INSPECT_EVAL_MAX_CONNECTIONS=${{INSPECT_EVAL_MAX_CONNECTIONS:-{connections}}}",
        f"{call} count.py@count --model mockllm/model -T data_path=words.json --retry-attempts 0 --log-dir-allow-dirty"
        f" --log-format eval --display plain {options}",
    ]
    text = Rendered("#!/bin/bash\n", "\n".join(lines) + "\n").text
    SCRIPT.parent.mkdir(parents=True, exist_ok=True)
    SCRIPT.write_text(text)
    return EvaluationJob(
        run="base",
        config={
            "task": {"script": {"sha256": file_hash(Path("count.py"))}, "function": "count"},
            "data": {"split": "test", "sha256": split_hash([Path("words.json")], "test")},
        },
        files={str(SCRIPT): parse(text).fingerprint},
        target=str(RECORD),
        name="tiny.base",
        script=str(SCRIPT),
        cell="count_base",
        task=str(Path("count.py").absolute()),
        data=str(Path("words.json").absolute()),
        manifest=None,
        cache="cache",
        max_connections=connections,
    )


def trouble(**said: Any) -> None:
    Path("trouble.json").write_text(json.dumps(said))


def computed() -> Counter[str]:
    """How often each sample was computed so far."""
    return Counter(Path("computed").read_text().split())


def record() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text()))


def told() -> list[tuple[str, str, str]]:
    return [(event["action"], event["details"], event["result"]) for event in record()["events"]]


def killed(job: EvaluationJob, local_id: str = "5") -> None:
    """Run a job that is killed with all that it started."""
    path = job.write(Path("jobs"))
    command = [sys.executable, "-c", JOB, str(path), local_id]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    with Path(paths.lock(job.target)).open("rb") as lock:
        # Its script ends a moment later.
        fcntl.flock(lock, fcntl.LOCK_EX)


def require_whole() -> None:
    """The final log must have every sample once, with the scores of an evaluation that nothing stopped."""
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(EVAL_LOG))
    scores = {sample.id: sample.scores["match"].value for sample in log.samples or [] if sample.scores}
    assert scores == {f"w{number}": "C" if number % 3 else "I" for number in range(TOTAL)}
    assert (log.status, len(log.samples or [])) == ("success", TOTAL)
    results = record()["results"]
    assert (results["completed_samples"], results["total_samples"]) == (TOTAL, TOTAL)
    assert results["metrics"]["match/accuracy"] == pytest.approx(2 / 3)
    assert [path.name for path in EVAL_LOG.parent.iterdir()] == [EVAL_LOG.name]
    assert not list(UNFINISHED.iterdir())


def test_every_kill_of_a_script_costs_only_what_was_at_work() -> None:
    trouble(w9="script", w18="script")

    evaluate(evaluation("--seed 7", connections=1), "5", LOG)

    require_whole()
    assert record()["provenance"]["seeds"] == {"generation": 7}
    details = "Continuing attempt of job local-5 (inspect eval-set)"
    first, second = (int(result.split()[0]) for _, _, result in told())
    assert told() == [
        ("EVAL_RETRY", details, f"{reused} of 30 samples reused, {30 - reused} to do") for reused in (first, second)
    ]
    # At most 10 and then 19 had been begun, for a sample may begin before the one in front of it. Of these the last is
    # lost, and another if it was not written yet.
    assert 7 <= first <= 9
    assert 16 <= second <= 18
    assert TOTAL + 2 <= computed().total() <= TOTAL + (10 - first) + (19 - second)
    assert set(computed()) == {f"w{number}" for number in range(TOTAL)}
    assert record()["continued"] == {"job_id": "local-5", "reused_samples": second}
    assert sorted(path.name for path in ATTEMPTS.iterdir()) == ["local-5", "local-5.2"]


def test_the_next_job_continues_one_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    job = evaluation()
    trouble(w17="all")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    killed(job)
    before = computed()
    assert 17 < before.total() < 24
    monkeypatch.setenv("SLURM_JOB_ID", "6")

    evaluate(job, "6", LOG)

    require_whole()
    again = computed() - before
    lost = before.total() - record()["continued"]["reused_samples"]
    assert 1 <= lost <= 4
    assert again.total() == TOTAL - before.total() + lost
    ((_, details, result),) = told()
    assert details == "Continuing attempt of job 5 (inspect eval-set)"
    assert result == f"{TOTAL - again.total()} of 30 samples reused, {again.total()} to do"


def test_another_home_folder_costs_only_samples_that_were_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inspect-ai keeps finished samples there until it has ten to write; the next node may have another home."""
    job = evaluation(connections=1)
    trouble(w17="all")
    killed(job)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))

    evaluate(job, "6", LOG)

    require_whole()
    assert [result for _, _, result in told()] == ["10 of 30 samples reused, 20 to do"]
    assert computed().total() == TOTAL + 8


def test_an_error_is_final_and_the_next_job_computes_what_is_missing() -> None:
    trouble(w17="error")
    with pytest.raises(
        JobError, match=r"^evaluation ended with status error after 1\d of 30 samples: .*the task broke"
    ):
        evaluate(evaluation(connections=2), "5", LOG)
    before = computed()
    assert len(list(ATTEMPTS.iterdir())) == len(list(ATTEMPTS.glob("local-5/*.eval"))) == 1

    evaluate(evaluation(connections=8), "6", LOG)

    require_whole()
    reused = record()["continued"]["reused_samples"]
    assert reused >= 16
    assert (computed() - before).total() == TOTAL - reused
    assert record()["changes"] == {}


def test_out_of_memory_halves_the_connections_and_keeps_what_is_there() -> None:
    trouble(fits=3)

    evaluate(evaluation(connections=4), "5", LOG)

    require_whole()
    assert [event for event in told() if event[0] == "OOM_RETRY"] == [
        ("OOM_RETRY", "max_connections 4 → 2", "tried again")
    ]
    assert record()["changes"] == {"max_connections": 2}


def test_a_complete_log_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job was killed, or failed, before it could write the record."""
    job = evaluation(call="[ ! -e fine ] || touch ran\ninspect eval-set", options="\n[ -e fine ]")

    def unread(_: LogPlace) -> Left:
        raise EvalError("as if the job was killed before it read the log")

    with monkeypatch.context() as killed:
        killed.setattr(LogPlace, "left", unread)
        with pytest.raises(JobError, match="exit status 1"):
            evaluate(job, "5", LOG)
    Path("fine").touch()

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == TOTAL
    assert told() == [
        ("EVAL_RETRY", "Continuing attempt of job local-5 (inspect eval-set)", "30 of 30 samples reused, none to do")
    ]
    assert Path("ran").exists()
