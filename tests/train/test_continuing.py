"""Evaluations that are cut off, with the real inspect-ai: another try computes only what is missing."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import TASKS

from run_experiment.common import paths
from run_experiment.inputs.data_files import file_hash, split_hash
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.evaluate import evaluate
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.edits import Rendered, parse
from run_experiment.machine.memory import memory_kills

LOG = Path("logs/base.log")
SCRIPT, RECORD = Path("base/eval/count_base.slurm"), Path("base/eval/count_base.json")
EVAL_LOG, ATTEMPTS = Path("base/eval/logs/count_base.eval"), Path("base/attempts")
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


def evaluation(options: str = "", call: str = "inspect eval", then: str = "", connections: int = 4) -> EvaluationJob:
    """An evaluation, as its script now is, of the data as they now are."""
    command = f"{call} count.py@count --model mockllm/model -T data_path=words.json"
    command += f" --max-connections {connections} --log-format eval --display plain {options}"
    text = Rendered("#!/bin/bash\n", f"set -euo pipefail\n{command}\n{then}\n").text
    SCRIPT.parent.mkdir(parents=True, exist_ok=True)
    SCRIPT.write_text(text)
    return EvaluationJob(
        run="base",
        config={
            "task": {"script": {"sha256": file_hash(Path("count.py"))}, "function": "count"},
            "data": {"split": "test", "sha256": split_hash(Path("words.json"), "test")},
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


def test_a_killed_script_goes_on_in_the_same_job() -> None:
    trouble(w24="script")

    evaluate(evaluation("--seed 7", connections=1), "5", LOG)

    require_whole()
    assert record()["provenance"]["seeds"] == {"generation": 7}
    assert computed() == Counter({f"w{number}": 1 for number in range(TOTAL)}) + Counter(["w24"])
    details = "Continuing attempt of job local-5 (inspect eval-retry)"
    assert told() == [("EVAL_RETRY", details, "24 of 30 samples reused, 6 to do")]
    assert record()["continued"] == {"job_id": "local-5", "reused_samples": 24}
    assert [path.name for path in ATTEMPTS.iterdir()] == ["local-5"]


@pytest.mark.parametrize(
    "options", ["", "--log-dir 'their logs/of \"base\"'", "--log-dir=theirs/$SLURM_JOB_ID --tags=mine"]
)
def test_the_next_job_goes_on_where_one_was_killed(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = evaluation(options)
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
    assert details == "Continuing attempt of job 5 (inspect eval-retry)"
    assert result == f"{TOTAL - again.total()} of 30 samples reused, {again.total()} to do"


def test_a_home_of_its_own_costs_only_what_was_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = evaluation(connections=1)
    trouble(w17="all")
    killed(job)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))

    evaluate(job, "6", LOG)

    require_whole()
    assert told()[0][2] == "10 of 30 samples reused, 20 to do"
    assert computed().total() == TOTAL + 8


def test_an_error_is_final_and_the_next_job_computes_what_is_missing() -> None:
    job = evaluation()
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    before = computed()
    assert len(list(ATTEMPTS.iterdir())) == 1

    evaluate(job, "6", LOG)

    require_whole()
    reused = record()["continued"]["reused_samples"]
    assert reused >= 16
    assert (computed() - before).total() == TOTAL - reused


def test_every_kill_costs_only_what_was_at_work() -> None:
    trouble(w9="script", w18="script")

    evaluate(evaluation(connections=1), "5", LOG)

    require_whole()
    assert computed().total() == TOTAL + 2
    assert [action for action, _, _ in told()] == ["EVAL_RETRY", "EVAL_RETRY"]


def test_the_attempt_that_got_furthest_counts() -> None:
    job = evaluation(call="[ -e fine ] && inspect eval")
    trouble(w17="error")
    Path("fine").touch()
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    Path("fine").unlink()
    with pytest.raises(JobError, match="exit status 1"):
        evaluate(job, "6", LOG)
    Path("fine").touch()

    evaluate(job, "7", LOG)

    require_whole()
    assert record()["continued"]["reused_samples"] >= 16
    assert record()["continued"]["job_id"] == "local-5"


def test_a_log_that_nobody_can_go_on_from_is_given_up() -> None:
    job = evaluation()
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    (log,) = ATTEMPTS.glob("local-5/*.eval")
    with zipfile.ZipFile(log) as file:
        sample = next(item for item in file.infolist() if item.filename.startswith("samples/"))
    content = bytearray(log.read_bytes())
    middle = sample.header_offset + 30 + len(sample.filename) + sample.compress_size // 2
    content[middle : middle + 8] = bytes(8)
    log.write_bytes(content)

    evaluate(job, "6", LOG)

    require_whole()
    details = "Attempt of job local-5 cannot be continued: an attempt could not go on from its log"
    assert told()[1:] == [("EVAL_RETRY", details, "started fresh")]
    assert sorted(path.name for path in ATTEMPTS.iterdir()) == ["local-5", "local-6"]


def test_an_error_before_there_is_a_log_costs_no_samples() -> None:
    """The log is sound: something else was wrong, and may be mended."""
    job = evaluation(call="[ ! -e broken ] || { rm broken; exit 1; }\ninspect eval")
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    Path("broken").touch()
    before = computed()
    with pytest.raises(JobError, match="exit status 1"):
        evaluate(job, "6", LOG)
    assert not Path("broken").exists()

    evaluate(job, "7", LOG)

    require_whole()
    assert record()["continued"]["job_id"] == "local-5"
    assert (computed() - before).total() == TOTAL - record()["continued"]["reused_samples"]


def test_a_sound_log_that_nobody_can_go_on_from_is_given_up_after_two_tries() -> None:
    shim = Path("shims/inspect")
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/bash\n[ "$1" = eval-retry ] && exit 1\nexec {shutil.which("inspect")} "$@"\n')
    shim.chmod(0o755)
    job = evaluation(call="PATH=$PWD/shims:$PATH inspect eval")
    trouble(w17="error")
    for number, error in ((5, "the task broke"), (6, "exit status 1"), (7, "exit status 1")):
        with pytest.raises(JobError, match=error):
            evaluate(job, str(number), LOG)

    evaluate(job, "8", LOG)

    require_whole()
    details = "Attempt of job local-5 cannot be continued: an attempt could not go on from its log"
    assert told() == [("EVAL_RETRY", details, "started fresh")]


def test_samples_without_ids_in_another_order_are_not_mixed() -> None:
    script = Path("count.py").read_text()
    backwards = '    samples = samples[::-1] if Path("backwards").exists() else samples\n    dataset ='
    Path("count.py").write_text(script.replace("    dataset =", backwards))
    job = evaluation("-T ids=false")
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    Path("backwards").touch()
    Path("computed").unlink()

    evaluate(job, "6", LOG)

    from inspect_ai.log import read_eval_log_sample_summaries

    asked = [sample.input for sample in read_eval_log_sample_summaries(str(EVAL_LOG))]
    assert sorted(asked) == sorted(f"w{number}" for number in range(TOTAL))
    assert "continued" not in record()
    details = "its samples have no ids, and are in another order now or repeat each other"
    expected = ("EVAL_RETRY", f"Attempt of job local-6 cannot be continued: {details}", "started fresh")
    assert told()[1:] == [expected]


def test_a_torn_log_of_a_script_that_went_on_is_tried_again() -> None:
    torn = '[ -e torn ] || { touch torn; echo PK > "$INSPECT_LOG_DIR/a.eval"; exit; }'

    evaluate(evaluation(call=f"{torn}\ninspect eval"), "5", LOG)

    require_whole()
    ((_, details, result),) = told()
    assert details.startswith("Attempt of job local-5 cannot be continued: cannot read ")
    assert result == "started fresh"


def test_a_killed_process_of_a_script_that_went_on_was_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text("0::/job\n")
    counts = tmp_path / "job" / "memory.events"
    counts.parent.mkdir()
    counts.write_text("oom_kill 1\n")
    monkeypatch.setattr(memory_kills, "__defaults__", (tmp_path, tmp_path))
    kill = f"[ -e killed ] || {{ touch killed; echo oom_kill 2 > {counts}; exit; }}"

    evaluate(evaluation(call=f"{kill}\ninspect eval"), "5", LOG)

    require_whole()
    assert told() == [("OOM_RETRY", "max_connections 4 → 2", "tried again")]


def test_a_complete_log_is_taken_without_a_script() -> None:
    job = evaluation(then="if [ -e cut ]; then rm cut; kill -9 $JOB_PID 0; fi; echo again >> ran")
    Path("cut").touch()
    killed(job)

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == TOTAL
    assert not Path("ran").exists()
    assert told() == [("EVAL_RETRY", "Taking the complete log of job local-5", "30 of 30 samples reused, none to do")]


def test_what_fails_after_a_complete_log_is_run_again() -> None:
    job = evaluation(then="[ -e fine ]")
    with pytest.raises(JobError, match="exit status 1"):
        evaluate(job, "5", LOG)
    Path("fine").touch()

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == TOTAL


def test_out_of_memory_halves_the_connections_and_keeps_what_is_there() -> None:
    trouble(fits=3)

    evaluate(evaluation(connections=8), "5", LOG)

    require_whole()
    actions = [(action, details) for action, details, _ in told() if action == "OOM_RETRY"]
    assert actions == [("OOM_RETRY", f"max_connections {one} → {one // 2}") for one in (8, 4)]
    assert record()["changes"] == {"max_connections": 2}


def test_the_next_job_begins_with_less_where_memory_did_not_suffice() -> None:
    trouble(fits=1)
    job = evaluation(connections=4)
    with pytest.raises(JobError, match="CUDA out of memory"):
        evaluate(replace(job, retries=0), "5", LOG)

    evaluate(job, "6", LOG)

    require_whole()
    assert record()["changes"] == {"max_connections": 1}


def test_more_connections_are_used_where_memory_was_no_trouble() -> None:
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(evaluation(connections=2), "5", LOG)

    evaluate(evaluation(connections=8), "6", LOG)

    require_whole()
    assert record()["changes"] == {}


def test_what_a_script_computes_is_read_from_the_log() -> None:
    trouble(fits=3)

    evaluate(evaluation("--max-connections $((2 * 2))", connections=32), "5", LOG)

    require_whole()
    assert told() == [("OOM_RETRY", "max_connections 4 → 2", "tried again")]
    assert record()["changes"] == {"max_connections": 2}


def test_what_nobody_knows_is_not_halved() -> None:
    loading = 'echo "CUDA out of memory"; echo >> runs; exit 1'
    job = evaluation("--max-connections $((2 * 2))", call=f"{loading}\ninspect eval")

    for runs in (1, 2):
        with pytest.raises(JobError, match="out of memory and its script's --max-connections cannot be read: ask for"):
            evaluate(job, "5", LOG)
        assert len(Path("runs").read_text()) == runs


def test_what_never_fits_ends_plainly() -> None:
    trouble(fits=0)

    with pytest.raises(JobError, match="out of memory even with max_connections 1: ask for a larger GPU"):
        evaluate(evaluation(connections=2), "5", LOG)

    assert not RECORD.exists()
    assert len(list(ATTEMPTS.iterdir())) == 2


def test_a_torn_log_is_not_continued_and_the_action_log_is_told() -> None:
    job = evaluation()
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(job, "5", LOG)
    (log,) = ATTEMPTS.glob("local-5/*.eval")
    log.write_bytes(log.read_bytes()[:-40])
    Path("computed").unlink()

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == TOTAL
    ((action, details, result),) = told()
    assert (action, result) == ("EVAL_RETRY", "started fresh")
    assert details.startswith("Attempt of job local-5 cannot be continued: cannot read ")


def test_changed_data_are_evaluated_afresh() -> None:
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(evaluation(), "5", LOG)
    Path("words.json").write_text(json.dumps({"test": [{"input": f"w{number}"} for number in range(TOTAL + 1)]}))
    Path("computed").unlink()

    evaluate(evaluation(), "6", LOG)

    assert computed().total() == TOTAL + 1
    assert told() == []
    assert "continued" not in record()


def test_a_log_that_names_files_elsewhere_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the same content today; what lies there may be changed tomorrow, or be gone."""
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(evaluation(), "5", LOG)
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    Path("computed").unlink()
    moved = Path("words.json").rename("moved.json")
    Path("words.json").symlink_to(moved)

    evaluate(replace(evaluation(), data=str(moved.absolute())), "6", LOG)

    assert computed().total() == TOTAL
    details = "Attempt of job local-5 cannot be continued: its task, data or model lay elsewhere"
    assert told() == [("EVAL_RETRY", details, "started fresh")]

    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(replace(evaluation(), base="/models/a", redo="2999-01-01T00:00:00+00:00"), "7", LOG)
    Path("computed").unlink()
    evaluate(replace(evaluation(), base="/models/b", redo="2999-01-01T00:00:00+00:00"), "8", LOG)
    assert computed().total() == TOTAL

    monkeypatch.chdir(tmp_path / "copy")
    Path("computed").unlink()
    evaluate(evaluation(), "6", LOG)
    assert computed().total() == TOTAL
    assert told() == []


def test_what_was_computed_while_data_changed_is_never_used() -> None:
    text = Path("words.json").read_text()
    job = evaluation(then="if [ -e change ]; then rm change; sed -i 's/w0/w1/' words.json; fi")
    Path("change").touch()
    with pytest.raises(JobError, match="changed since this job was planned"):
        evaluate(job, "5", LOG)
    Path("words.json").write_text(text)

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == 2 * TOTAL
    assert told()[0][1].startswith("Attempt of job local-5 cannot be continued: split test of")


def test_what_a_failed_attempt_computed_while_data_were_changed_is_never_used() -> None:
    """They are changed back before the next one; the task reads the file itself, without a cache."""
    text = Path("words.json").read_text()
    change = 'if [ ! -e changed ]; then touch changed; sed -i "s/w3"/w31"/" words.json; fi'
    job = evaluation(call=f"{change}\ninspect eval")
    trouble(w17="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    assert "w31" in Path("computed").read_text()
    Path("words.json").write_text(text)

    evaluate(job, "6", LOG)

    require_whole()
    assert told()[0][1].startswith("Attempt of job local-5 cannot be continued: split test of")


def test_rows_that_are_there_twice_cost_nothing_after_two_interruptions() -> None:
    words = [f"w{min(number, TOTAL - 2)}" for number in range(TOTAL)]
    Path("words.json").write_text(json.dumps({"test": [{"input": word} for word in words]}))
    trouble(w9="script", w18="script")

    evaluate(evaluation("-T ids=false", connections=1), "5", LOG)

    first, second = (int(result.split()[0]) for _, _, result in told())
    # A sample may be done and not yet noted.
    assert first in (8, 9)
    assert second in (16, 17, 18), "not what the first attempt left, but what the second did"
    assert computed().total() <= TOTAL + 4


def test_questions_that_repeat_for_no_known_reason_are_not_continued() -> None:
    """Without ids nothing tells whether they are the same samples."""
    words = [{"input": f"w{min(number, TOTAL - 2)}", "of": number} for number in range(TOTAL)]
    Path("words.json").write_text(json.dumps({"test": words}))
    Path("count.py").write_text(Path("count.py").read_text().replace("in rows\n", "in reversed(rows)\n"))
    job = evaluation("-T ids=false", connections=1)
    trouble(w0="error")
    with pytest.raises(JobError, match="the task broke"):
        evaluate(job, "5", LOG)
    Path("computed").unlink()

    evaluate(job, "6", LOG)

    assert computed().total() == TOTAL
    assert "continued" not in record()
    assert [result for _, _, result in told()] == ["started fresh"]


def test_an_evaluation_that_is_asked_for_again_goes_on_from_nothing() -> None:
    job = evaluation()
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(job, "5", LOG)
    Path("computed").unlink()

    evaluate(replace(job, redo="2999-01-01T00:00:00+00:00"), "6", LOG)

    assert computed().total() == TOTAL
    assert told() == []


def test_a_script_that_cannot_be_told_starts_afresh() -> None:
    job = evaluation(call="env inspect eval")
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(job, "5", LOG)
    Path("computed").unlink()

    evaluate(job, "6", LOG)

    require_whole()
    assert computed().total() == TOTAL
    details = "Attempt of job local-5 cannot be continued: its script has no plain `inspect eval` to be told of it"
    assert told() == [("EVAL_RETRY", details, "started fresh")]


def test_shuffled_data_without_ids_are_said_to_be_computed_again() -> None:
    job = evaluation("-T ids=false -T shuffle=true")
    trouble(w17="error")
    with pytest.raises(JobError):
        evaluate(job, "5", LOG)
    Path("computed").unlink()

    evaluate(job, "6", LOG)

    assert computed().total() == TOTAL
    assert record()["continued"]["reused_samples"] == 0
    assert told()[-1][1:] == (
        "inspect-ai computed samples of job local-5 again",
        f"0 of {told()[0][2][:2]} samples were reused",
    )
