"""Jobs of evaluations: the log that counts, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_jobs import EVAL_LOG, EVAL_RECORD, LOG, as_it_lies, evaluate, files, leaving, manifest_of, read, write_script

from run_experiment.attempts.turns import withdraw
from run_experiment.common.json_files import config_hash
from run_experiment.inputs.data_files import split_hash
from run_experiment.inputs.file_hashes import file_facts, file_hash
from run_experiment.jobs import evaluate as evaluate_module
from run_experiment.jobs.checks import JobError, require_data_set
from run_experiment.jobs.main import Named
from run_experiment.jobs.shared_inspect import SharedInspect
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.machine.allocation import own_job_id
from run_experiment.machine.provenance import installed
from run_experiment.slurm.ledger import PATH, Ledger, Submission


def test_evaluation_leaves_its_log_and_a_record(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success")
    evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "success.eval").read_bytes()
    record = read(EVAL_RECORD)
    assert record["config"] == evaluation.config
    assert record["config_hash"] == config_hash(record["config"])
    assert record["results"]["metrics"] == {"match/accuracy": 0.5}
    assert record["results"]["completed_samples"] == 2
    assert record["log"] == file_facts(EVAL_LOG)
    assert record["job_id"] == "local-5"
    assert not list(Path("r4/attempts").iterdir())
    assert evaluation.subject == "r4/cap/epoch0"


def test_record_has_the_inspect_ai_of_the_log(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success")
    evaluate(evaluation, "5", LOG)
    told = read(EVAL_RECORD)["provenance"]
    assert {name: told[name] for name in installed()} == installed()
    EVAL_RECORD.unlink()
    leaving(logs, "other")
    evaluate(evaluation, "6", LOG)
    told = read(EVAL_RECORD)["provenance"]
    assert (told["versions"], told["python"]) == ({"inspect-ai": "0.0.1"}, None)


def test_evaluation_reads_its_own_cache(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success", then="echo $XDG_CACHE_HOME")
    evaluate(evaluation, "5", LOG)
    assert LOG.read_text().splitlines()[-1] == str(Path("cache/cap-1").absolute())


def test_dotenv_files_do_not_change_an_evaluation(
    evaluation: EvaluationJob, logs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    # In such a terminal a .env file counts more than the environment.
    monkeypatch.setenv("TERM_PROGRAM", "vscode")
    monkeypatch.setenv("VSCODE_PID", "1")
    (folder / ".env").write_text("INSPECT_EVAL_EPOCHS=2\nINSPECT_EVAL_TAGS=theirs\n")
    read = "from inspect_ai._util.dotenv import init_dotenv; init_dotenv()"
    seen = f"{read}; import os; print(repr(os.environ['INSPECT_EVAL_EPOCHS']))"
    leaving(logs, "success", then=f'echo $INSPECT_EVAL_TAGS; {sys.executable} -c "{seen}"')
    evaluate(evaluation, "5", LOG)
    tags, epochs = LOG.read_text().splitlines()[-2:]
    assert tags.startswith("run-experiment:local-5:")
    assert epochs == "''"
    said = f"{folder / '.env'} is not used for INSPECT_EVAL_EPOCHS, INSPECT_EVAL_TAGS: the summary decides"
    assert said in capfd.readouterr().err


FAILURES = {
    "no log": ([], "the script left no inspect-ai log"),
    "a failed log": (["error"], "evaluation ended with status error after 0 of 2 samples"),
    "a log of too few samples": (["short"], "evaluation completed only 1 of 2 samples"),
    "several logs, the newest failed": (["success", "error"], "evaluation ended with status error"),
    "a torn log": (["torn"], "cannot read "),
    "a log of a part of the data": (
        ["limited"],
        "the evaluation is not the one that was asked for: limit is 1 instead of not set",
    ),
}


@pytest.mark.parametrize(("left", "message"), FAILURES.values(), ids=FAILURES)
def test_evaluation_is_judged_by_its_log(evaluation: EvaluationJob, logs: Path, left: list[str], message: str) -> None:
    leaving(logs, *left)
    with pytest.raises(JobError) as caught:
        evaluate(evaluation, "5", LOG)
    assert str(caught.value).startswith(message)
    assert "\n    evaluating" in str(caught.value)
    assert EVAL_LOG.read_text() == "earlier"
    assert not EVAL_RECORD.exists()
    names = [f"{number}_{name}.eval" for number, name in enumerate(left)]
    assert files("r4/attempts/local-5") == [*names, "attempt.json", "job.log"]
    assert read("r4/attempts/local-5/attempt.json")["target"] == "cap_epoch0"


def test_a_whole_log_is_a_success_whatever_the_script_s_last_command_returned(
    evaluation: EvaluationJob, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaving(logs, "success", then="sleep 60 & kill $!; wait $!")
    evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "success.eval").read_bytes()
    assert EVAL_RECORD.exists()
    said = capsys.readouterr().err
    # Scripts that end so end so always: nothing is wrong.
    assert "r4/eval/cap_epoch0.slurm ended with exit status 143, but its evaluation succeeded\n" in said


@pytest.mark.parametrize("left", [[], ["short"], ["error"], ["torn"], ["limited"]])
def test_a_failed_script_without_a_whole_log_is_a_failure(
    evaluation: EvaluationJob, logs: Path, left: list[str]
) -> None:
    leaving(logs, *left, then="exit 2")
    with pytest.raises(JobError):
        evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_text() == "earlier"


def test_evaluation_of_changed_data_is_refused(evaluation: EvaluationJob, folder: Path) -> None:
    whole = replace(
        evaluation, config={**evaluation.config, "data": {"split": None, "sha256": file_hash(folder / "words.json")}}
    )
    shutil.copy("words.json", "kept.json")
    Path("words.json").write_text('{"test": [{"input": "other"}]}')
    with pytest.raises(JobError, match=r"split test of .*words\.json changed"):
        evaluate(evaluation, "5", LOG)
    with pytest.raises(JobError, match=r"^/.*words\.json changed"):
        evaluate(whole, "5", LOG)
    assert LOG.read_text() == ""


def test_evaluation_of_an_unverified_checkpoint_is_refused(evaluation: EvaluationJob) -> None:
    Path("r4/checkpoints/epoch_0.json").unlink()
    with pytest.raises(JobError, match=r"r4/checkpoints/epoch_0\.json is missing: the checkpoint was not verified"):
        evaluate(evaluation, "5", LOG)


@pytest.mark.parametrize("edited", ["r4/eval/cap_epoch0.slurm", "r4/eval/cap_epoch0.args.yaml", "cap.py"])
def test_evaluation_edited_since_it_was_planned_is_refused(evaluation: EvaluationJob, logs: Path, edited: str) -> None:
    leaving(logs, "success")
    job = as_it_lies(evaluation)
    with Path(edited).open("a") as file:
        file.write("limit: 1\n")
    with pytest.raises(JobError, match=f"{edited} (was changed|changed) since this job was planned; start again"):
        evaluate_module.evaluate(job, "5", LOG)
    assert EVAL_LOG.read_text() == "earlier"


def test_limit_of_an_own_script_is_its_owners_choice(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "limited")
    own = {**evaluation.config, "cap_epoch0.slurm": {"sha256": "its own"}}
    evaluate(replace(evaluation, config=own), "5", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "limited.eval").read_bytes()


def test_cache_is_built_only_of_what_was_planned(folder: Path) -> None:
    """Data and task may change while a prebuild waits: its folder is named by what they were."""
    for name in ("cap.py", "helper.py"):
        Path(name).write_text(name)
    config = {
        "script": {"sha256": file_hash(Path("cap.py"))},
        "imports": {"helper.py": {"sha256": file_hash(Path("helper.py"))}},
        "data": {"split": "test", "sha256": split_hash([Path("words.json")], "test")},
    }
    require_data_set(config, "cap.py", "words.json")
    for name in ("cap.py", "helper.py", "words.json"):
        kept = Path(name).read_text()
        Path(name).write_text('{"test": [{"input": "other"}]}')
        with pytest.raises(JobError, match=f"{name} changed since this job was planned"):
            require_data_set(config, "cap.py", "words.json")
        Path(name).write_text(kept)


def test_evaluation_of_another_checkpoint_than_planned_is_refused(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success")
    manifest = "r4/checkpoints/epoch_0.json is of another checkpoint than this job was planned with; start again"
    with pytest.raises(JobError, match=manifest):
        evaluate(replace(evaluation, config={**evaluation.config, "checkpoint": {}}), "5", LOG)
    Path("r4/checkpoints/epoch_0.json").write_text(json.dumps(manifest_of("other")))
    with pytest.raises(JobError, match=manifest):
        evaluate(evaluation, "5", LOG)


def test_an_evaluation_whose_checkpoint_was_replaced_meanwhile_fails(evaluation: EvaluationJob, logs: Path) -> None:
    """By a training that had to begin again; it is not known which weights were loaded."""
    leaving(logs, "success", then="rm r4/checkpoints/epoch_0.json")
    with pytest.raises(JobError, match=r"r4/checkpoints/epoch_0\.json is missing"):
        evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_text() == "earlier"


@pytest.mark.parametrize(("folder_of_logs", "stays"), [("their_logs", True), ("r4/eval/logs", False)])
def test_log_is_taken_from_the_script_s_own_folder(
    evaluation: EvaluationJob, folder_of_logs: str, stays: bool, tagged: str
) -> None:
    write_script("r4/eval/cap_epoch0.slurm", tagged.format(folder=folder_of_logs))
    Path(folder_of_logs).mkdir(exist_ok=True)
    Path(folder_of_logs, "by_hand.eval").write_bytes(b"old")
    EVAL_RECORD.write_text("{}")
    evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_bytes() != b"earlier"
    assert read(EVAL_RECORD)["results"]["metrics"] == {"match/accuracy": 0.5}
    assert Path(folder_of_logs, "new.eval").exists() == stays
    assert Path(folder_of_logs, "by_hand.eval").read_bytes() == b"old"


def test_failed_log_does_not_stay_among_the_finished_ones(evaluation: EvaluationJob, tagged: str) -> None:
    write = Path("write.py").read_text()
    Path("write.py").write_text(write.replace("write_eval_log(log,", "log.status = 'error'\nwrite_eval_log(log,"))
    write_script("r4/eval/cap_epoch0.slurm", tagged.format(folder="r4/eval/logs") + "\nexit 3")
    with pytest.raises(JobError, match="ended with status error"):
        evaluate(evaluation, "5", LOG)
    assert files("r4/eval/logs") == ["cap_epoch0.eval"]
    assert files("r4/attempts/local-5") == ["attempt.json", "job.log", "new.eval"]


@pytest.fixture
def tagged(logs: Path) -> str:
    """A script that writes a log with the job's tag into `{folder}`, as inspect-ai does."""
    Path("write.py").write_text(
        "import os, sys\n"
        "from inspect_ai.log import read_eval_log, write_eval_log\n"
        f"log = read_eval_log({str(logs / 'success.eval')!r})\n"
        "log.eval.tags = [os.environ['INSPECT_EVAL_TAGS']]\n"
        "write_eval_log(log, sys.argv[1] + '/new.eval')\n"
    )
    return "LOGS={folder}\npython write.py {folder} --log-dir $LOGS"


def test_an_evaluation_of_several_that_was_withdrawn_is_left_out(
    evaluation: EvaluationJob, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("RUN_EXPERIMENT_PLACE", "")
    made: list[str] = []
    monkeypatch.setattr(evaluate_module, "evaluate", lambda job, *_, **__: made.append(own_job_id("0")))
    assert withdraw(folder, "17+2")
    named = Named(evaluation, "0", LOG)
    shared = SharedInspect(folder)
    assert [evaluate_module._in_turn(place, named, shared) for place in (1, 2, 3)] == [None] * 3
    assert made == ["17+1", "17+3"]
    assert not withdraw(folder, "17+3")


# What the ledger has of an evaluation, and whether job 17 is to make it.
NOTED = {
    "nothing": ((), True),
    "its own id": (("17+2",), True),
    "given up": (("17+2", "CANCELLED"), False),
    "given up, and submitted again": (("17+2", "CANCELLED", "18"), False),
    "thought to be lost, but in the queue": (("17+2", "LOST", "17+2"), True),
}


@pytest.mark.parametrize(("then", "is_made"), NOTED.values(), ids=NOTED)
def test_what_was_withdrawn_is_left_out_also_if_the_note_of_it_was_removed(
    evaluation: EvaluationJob, folder: Path, monkeypatch: pytest.MonkeyPatch, then: tuple[str, ...], is_made: bool
) -> None:
    """Else it would be computed of an outdated configuration, and take the place of what another job made."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("RUN_EXPERIMENT_PLACE", "")
    made: list[str] = []
    monkeypatch.setattr(evaluate_module, "evaluate", lambda job, *_, **__: made.append(own_job_id("0")))
    ledger = Ledger(folder / PATH)
    for noted in then:
        if noted.isupper():
            ledger.settled(evaluation.target, "17+2", noted)
        else:
            ledger.accepted(Submission(evaluation.target, "", "", "", 0, "2026-01-31T12:00:00+01:00"), noted)
    evaluate_module._in_turn(2, Named(evaluation, "0", LOG), SharedInspect(folder))
    assert made == ["17+2"] * is_made
