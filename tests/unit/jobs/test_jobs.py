"""Jobs with real scripts: what a failure keeps, what a success leaves, and when a result counts."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pytest

from run_experiment.attempts import history
from run_experiment.common.json_files import config_hash
from run_experiment.inputs.data_files import file_hash, split_hash
from run_experiment.jobs import evaluate as evaluate_module
from run_experiment.jobs import finetune as finetune_module
from run_experiment.jobs.checks import JobError, require_data_set
from run_experiment.jobs.specs import EvaluationJob, FinetuneJob
from run_experiment.jobscripts.edits import Rendered, parse
from run_experiment.machine.processes import locked
from run_experiment.machine.provenance import installed

# Trains nothing, but says which training the checkpoints are of.
TRAIN = """
echo training in $PWD
mkdir -p r4/artifacts/epoch_0 r4/artifacts/epoch_1
echo "$$" | tee r4/artifacts/epoch_0/adapter r4/artifacts/epoch_1/adapter
"""
LOG, LOCK = Path("logs/r4.log"), Path("r4/.finetune.lock")
RECORD = Path("r4/finetune.json")
EVAL_RECORD = Path("r4/eval/cap_epoch0.json")
EVAL_LOG = Path("r4/eval/logs/cap_epoch0.eval")

AnyJob = TypeVar("AnyJob", FinetuneJob, EvaluationJob)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    (tmp_path / "words.json").write_text(json.dumps({"train": [{"input": "a"}], "test": [{"input": "b"}]}))
    return tmp_path


@pytest.fixture
def training(folder: Path) -> FinetuneJob:
    """A fine-tune whose script works."""
    write_script("r4/finetune.slurm", TRAIN)
    Path("r4/finetune.yaml").write_text(Rendered("", "lr: 0.1\n").text)
    config = {"data": {"train": {"sha256": split_hash(folder / "words.json", "train")}}, "lr": 0.1}
    checkpoints = ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"]
    files = {"r4/finetune.slurm": "", "r4/finetune.yaml": ""}
    return FinetuneJob(
        run="r4",
        config=config,
        files=files,
        target="r4/finetune.json",
        name="tiny.r4",
        script="r4/finetune.slurm",
        data=str(folder / "words.json"),
        checkpoints=checkpoints,
        output_dir="r4/artifacts",
    )


def as_it_lies(job: AnyJob) -> AnyJob:
    """The job as it would be planned with the files that are there now."""
    there = [path for path in job.files if Path(path).exists()]
    return replace(job, files={path: parse(Path(path).read_text()).fingerprint for path in there})


def finetune(job: FinetuneJob, local_id: str, log: Path) -> None:
    finetune_module.finetune(as_it_lies(job), local_id, log)


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    evaluate_module.evaluate(as_it_lies(job), local_id, log)


def write_script(path: str, text: str) -> None:
    """A job script as it was rendered when the job was planned."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(Rendered("#!/bin/bash\n", f"set -euo pipefail\n{text}\n").text)


def read(path: Path | str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def weights(folder: str) -> str:
    return Path(folder, "epoch_0/adapter").read_text()


def test_job_is_told_what_was_planned(training: FinetuneJob, tmp_path: Path) -> None:
    assert FinetuneJob.read(str(training.write(tmp_path / "jobs"))) == training
    assert training.write(tmp_path / "jobs") == training.write(tmp_path / "jobs")
    assert training.subject == "r4"


def test_success_leaves_a_record_and_no_attempt(training: FinetuneJob) -> None:
    finetune(training, "3", LOG)
    record = read(RECORD)
    assert record["config"] == training.config
    assert record["config_hash"] == config_hash(training.config)
    assert (record["run"], record["job_id"], record["losses"], record["events"]) == ("r4", "local-3", {}, [])
    assert record["started"] <= record["ended"]
    assert record["provenance"]["host"] == record["host"]
    assert read("r4/artifacts/record.json") == record
    assert not list(Path("r4/attempts").iterdir())
    assert LOG.read_text().startswith("training in ")


def test_record_has_the_last_losses(training: FinetuneJob) -> None:
    rows = "epoch,step,loss,validation_loss\n0,1,2.0,\n1,2,1.0,\n1,3,0.5,\n1,3,,0.25\n"
    write_script("r4/finetune.slurm", f"{TRAIN}\nprintf '{rows}' > r4/artifacts/metrics.csv")
    finetune(training, "1", LOG)
    assert read(RECORD)["losses"] == {"train_loss": 0.75, "validation_loss": 0.25}


def activate(number: str) -> str:
    """A line that activates an environment with another torchtune."""
    folder = Path(f"env-{number}/torchtune-{number}.dist-info").absolute()
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torchtune\nVersion: {number}\n")
    (folder.parent / "activate").write_text(f"export PYTHONPATH={folder.parent}\n")
    return f". {folder.parent}/activate"


# Like our recipe.
TELL = f"""{sys.executable} -c 'from pathlib import Path
from run_experiment.machine.provenance import tell_installed
tell_installed(Path("r4/artifacts"))'"""


def test_record_tells_the_environment_that_the_script_activates(training: FinetuneJob) -> None:
    text = Rendered(f"#!/bin/bash\n{activate('9.9')} || exit\n", f"set -euo pipefail\n{TELL}\n{TRAIN}\n").text
    Path("r4/finetune.slurm").write_text(text)
    finetune(training, "1", LOG)
    told = read(RECORD)["provenance"]
    assert told["versions"] == {**installed()["versions"], "torchtune": "9.9"}
    assert told["python"] == installed()["python"]
    assert told["seeds"] == {}
    assert files("r4/artifacts") == ["epoch_0/adapter", "epoch_1/adapter", "record.json"]


def test_environment_of_another_tool_s_script_is_not_told(training: FinetuneJob) -> None:
    Path("r4/finetune.slurm").write_text(f"{activate('9.9')}\n{TRAIN}")
    finetune(training, "1", LOG)
    told = read(RECORD)["provenance"]
    assert (told["versions"], told["python"]) == ({}, None)


@pytest.mark.parametrize(("last", "expected"), [(TELL, "9.9"), ("true", None)])
def test_environment_is_that_of_the_last_try(training: FinetuneJob, last: str, expected: str | None) -> None:
    first = f"if [ ! -e begun ]; then touch begun; {activate('9.8')}; {TELL}; exit 143; fi"
    recipe = ": python -m run_experiment.finetuning.recipe"
    write_script("r4/finetune.slurm", f"{recipe}\n{first}\n{activate('9.9')}\n{last}\n{TRAIN}")
    finetune(training, "1", LOG)
    record = read(RECORD)
    assert len(record["attempts"]) == 1
    assert record["provenance"]["versions"].get("torchtune") == expected


@pytest.mark.parametrize("content", ["step;train\\n1;2\\n", "epoch,loss\\nfirst,1\\n", "\\377\\n"])
def test_another_trainer_s_metrics_cost_no_training(training: FinetuneJob, content: str) -> None:
    write_script("r4/finetune.slurm", f"{TRAIN}\nprintf '{content}' > r4/artifacts/metrics.csv")
    finetune(training, "1", LOG)
    assert read(RECORD)["losses"] == {}


def test_id_is_slurm_s_where_there_is_one(training: FinetuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    finetune(training, "3", LOG)
    assert read(RECORD)["job_id"] == "4711"


def test_failure_keeps_its_log_and_its_reason(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", "echo one; echo two >&2; exit 3")
    with pytest.raises(JobError) as caught:
        finetune(training, "3", LOG)
    message = f"r4/finetune.slurm ended with exit status 3: two; its log is {LOG.absolute()}\n    one\n    two"
    assert str(caught.value) == message
    attempt = read("r4/attempts/local-3/attempt.json")
    assert (attempt["target"], attempt["error"], attempt["config"]) == ("finetune", message, training.config)
    assert files("r4/attempts") == ["local-3/attempt.json", "local-3/job.log"]
    assert Path("r4/attempts/local-3/job.log").read_text() == "one\ntwo\n"
    assert not RECORD.exists()


@pytest.mark.parametrize("status", [0, 3])
def test_secrets_that_a_script_prints_are_only_in_its_own_output(
    training: FinetuneJob, folder: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-hf-8471")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-oa\ncanary-8471")
    write_script("r4/finetune.slurm", f'{TRAIN}\necho "tok $HF_TOKEN $OPENAI_API_KEY" >&2; exit {status}')
    said = ""
    try:
        finetune(training, "3", LOG)
    except JobError as error:
        said = str(error)
    assert ("exit status 3: tok *** ***; its log is" in said) == bool(status)
    found = [path for path in folder.rglob("*") if path.is_file() and "canary" in path.read_text(errors="replace")]
    own = {LOG.absolute(), (folder / "r4/attempts/local-3/job.log")}
    assert LOG.absolute() in found
    assert set(found) <= own
    assert "canary" not in said


def test_failures_of_the_same_id_do_not_collide(training: FinetuneJob) -> None:
    for number in ("1", "2", "3"):
        write_script("r4/finetune.slurm", f"echo {number}; exit 1")
        with pytest.raises(JobError):
            finetune(training, "3", LOG)
    kept = {path.parent.name: path.read_text() for path in Path("r4/attempts").glob("*/job.log")}
    assert kept == {"local-3": "1\n", "local-3.2": "2\n", "local-3.3": "3\n"}
    write_script("r4/finetune.slurm", TRAIN)
    finetune(training, "3", LOG)
    assert sorted(path.name for path in Path("r4/attempts").iterdir()) == ["local-3", "local-3.2", "local-3.3"]


def test_missing_script_is_a_failure(training: FinetuneJob) -> None:
    training = as_it_lies(training)
    Path("r4/finetune.slurm").unlink()
    with pytest.raises(JobError, match=r"cannot read r4/finetune\.slurm: No such file"):
        finetune_module.finetune(training, "3", LOG)


def test_script_runs_in_this_environment_without_hidden_settings(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPECT_EVAL_LIMIT", "3")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_script("r4/finetune.slurm", f"{TRAIN}\ncommand -v inspect\necho limit ${{INSPECT_EVAL_LIMIT:-none}}")
    finetune(training, "1", LOG)
    assert LOG.read_text().splitlines()[-1] == "limit none"


@pytest.mark.parametrize("edited", ["train", "test"])
def test_data_changed_since_planning_is_not_trained_on(training: FinetuneJob, edited: str) -> None:
    splits = read("words.json")
    splits[edited].append({"input": "new"})
    Path("words.json").write_text(json.dumps(splits))
    if edited == "test":
        finetune(training, "1", LOG)
        return
    with pytest.raises(JobError, match=r"split train of .*words\.json changed since this job was planned; start again"):
        finetune(training, "1", LOG)
    assert LOG.read_text() == ""
    assert not Path("r4/artifacts").exists()


def test_removed_data_is_said(training: FinetuneJob) -> None:
    Path("words.json").unlink()
    with pytest.raises(JobError, match=r"cannot read .*words\.json"):
        finetune(training, "1", LOG)


def test_lost_record_is_restored(training: FinetuneJob, capsys: pytest.CaptureFixture[str]) -> None:
    finetune(training, "1", LOG)
    record, trained = read(RECORD), weights("r4/artifacts")
    RECORD.unlink()
    finetune(training, "2", LOG)
    assert read(RECORD) == restored(record, "local-2")
    assert weights("r4/artifacts") == trained
    assert "r4 is already trained (job local-1): its record is restored" in capsys.readouterr().err


def test_record_of_another_config_is_not_restored(training: FinetuneJob) -> None:
    finetune(training, "1", LOG)
    RECORD.unlink()
    other = replace(training, config={**training.config, "lr": 0.2})
    finetune(other, "2", LOG)
    assert read(RECORD)["job_id"] == "local-2"
    assert read(RECORD)["config"] == other.config


def test_record_without_all_checkpoints_is_not_restored(training: FinetuneJob) -> None:
    finetune(training, "1", LOG)
    RECORD.unlink()
    Path("r4/artifacts/epoch_1/adapter").unlink()
    finetune(training, "2", LOG)
    assert read(RECORD)["job_id"] == "local-2"


def folder_of(job: FinetuneJob) -> str:
    """Folder of a training's configuration."""
    return f"r4/trainings/{config_hash(job.config)[:12]}"


def test_trainings_are_kept_each_in_a_folder_of_its_configuration(training: FinetuneJob) -> None:
    jobs = [replace(training, config={**training.config, "lr": number}) for number in range(3)]
    trained = []
    for job in jobs:
        # Local ids come again: Snakemake numbers its jobs anew in each session.
        finetune(job, "1", LOG)
        assert os.readlink("r4/artifacts") == folder_of(job).removeprefix("r4/")
        trained.append(weights("r4/artifacts"))
    assert len(set(trained)) == 3
    assert [weights(folder_of(job)) for job in jobs] == trained
    assert [read(f"{folder_of(job)}/record.json")["config"]["lr"] for job in jobs] == [0, 1, 2]
    assert files("r4/artifacts") == ["epoch_0/adapter", "epoch_1/adapter", "record.json"]
    assert read(RECORD)["checkpoints"] == training.checkpoints


def test_what_another_tool_s_script_did_not_finish_is_kept(training: FinetuneJob) -> None:
    for number in range(2):
        write_script("r4/finetune.slurm", f"touch r4/artifacts/{number}; exit 1")
        with pytest.raises(JobError):
            finetune(training, "1", LOG)
    write_script("r4/finetune.slurm", "exit 1")
    with pytest.raises(JobError):
        finetune(training, "1", LOG)
    write_script("r4/finetune.slurm", TRAIN)
    finetune(training, "1", LOG)
    folder = folder_of(training)
    assert files(folder) == ["0"]
    assert files(f"{folder}.2") == ["1"]
    assert files(f"{folder}.3") == files("r4/artifacts") == ["epoch_0/adapter", "epoch_1/adapter", "record.json"]
    assert len(list(Path("r4/trainings").iterdir())) == 3, "an empty folder is used again"


@pytest.mark.parametrize("lines", ["rm r4/artifacts", "rm r4/artifacts; mkdir own; ln -s ../own r4/artifacts"])
def test_script_may_replace_its_output_folder(training: FinetuneJob, lines: str) -> None:
    write_script("r4/finetune.slurm", f"{lines}\n{TRAIN}")
    finetune(training, "1", LOG)
    made = weights("r4/artifacts")
    write_script("r4/finetune.slurm", TRAIN)
    finetune(replace(training, config={**training.config, "lr": 0.2}), "2", LOG)
    assert weights("r4/artifacts") != made
    finetune(training, "3", LOG)
    assert (read(RECORD)["job_id"], weights("r4/artifacts")) == ("local-1", made)


def test_record_of_another_tool_among_the_artifacts_is_kept_too(training: FinetuneJob) -> None:
    Path("r4/artifacts").mkdir()
    Path("r4/artifacts/record.json").write_text('{"by": "another tool"}')
    finetune(training, "1", LOG)
    assert read("r4/trainings/unfinished/record.json") == {"by": "another tool"}


def test_checkpoint_that_was_not_written_is_a_failure(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", TRAIN + "rm r4/artifacts/epoch_1/adapter")
    with pytest.raises(JobError, match=r"^r4/artifacts/epoch_1 was not written; its log is "):
        finetune(training, "1", LOG)
    assert not RECORD.exists()


def test_checkpoint_of_an_earlier_training_is_a_failure(training: FinetuneJob) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/adapter").write_text("old")
    os.utime("elsewhere/adapter", (1, 1))
    with pytest.raises(JobError, match=r"^elsewhere is older than the training"):
        finetune(replace(training, checkpoints=["elsewhere"]), "1", LOG)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs as inspect-ai leaves them, and a file that is none."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
        write_eval_log,
    )

    folder = tmp_path_factory.mktemp("logs")
    spec = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        dataset=EvalDataset(samples=2),
        model="none/none",
        config=EvalConfig(),
        packages={"inspect_ai": version("inspect-ai")},
    )
    other = spec.model_copy(update={"packages": {"inspect_ai": "0.0.1"}})
    limited = spec.model_copy(update={"config": EvalConfig(limit=1)})
    score = EvalScore(name="match", scorer="match", metrics={"accuracy": EvalMetric(name="accuracy", value=0.5)})
    results = EvalResults(total_samples=2, completed_samples=2, scores=[score])
    short = results.model_copy(update={"completed_samples": 1})
    for name, log in {
        "success": EvalLog(status="success", eval=spec, results=results, samples=[]),
        "other": EvalLog(status="success", eval=other, results=results, samples=[]),
        "short": EvalLog(status="success", eval=spec, results=short, samples=[]),
        "error": EvalLog(status="error", eval=spec, samples=[]),
        "limited": EvalLog(status="success", eval=limited, results=results, samples=[]),
    }.items():
        write_eval_log(log, str(folder / f"{name}.eval"))
    (folder / "torn.eval").write_bytes((folder / "success.eval").read_bytes()[:200])
    return folder


def manifest_of(sha256: str) -> dict[str, Any]:
    return {"config": {}, "files": {"adapter": {"size": 1, "sha256": sha256}}}


@pytest.fixture
def evaluation(folder: Path) -> EvaluationJob:
    """An evaluation of a verified checkpoint, with a result of an earlier one in its place."""
    Path("r4/checkpoints").mkdir(parents=True)
    Path("r4/checkpoints/epoch_0.json").write_text(json.dumps(manifest_of("abc")))
    EVAL_LOG.parent.mkdir(parents=True)
    EVAL_LOG.write_text("earlier")
    data = {"split": "test", "sha256": split_hash(folder / "words.json", "test")}
    Path("cap.py").write_text("a task")
    Path("r4/eval/cap_epoch0.args.yaml").write_text(Rendered("", "{}\n").text)
    return EvaluationJob(
        run="r4",
        config={
            "data": data,
            "task": {"script": {"sha256": file_hash(Path("cap.py"))}},
            "checkpoint": {"adapter": {"sha256": "abc"}},
        },
        files={"r4/eval/cap_epoch0.slurm": "", "r4/eval/cap_epoch0.args.yaml": ""},
        target="r4/eval/cap_epoch0.json",
        name="tiny.r4.cap.e0",
        script="r4/eval/cap_epoch0.slurm",
        cell="cap_epoch0",
        task=str(folder / "cap.py"),
        data=str(folder / "words.json"),
        manifest="r4/checkpoints/epoch_0.json",
        cache="cache/cap-1",
    )


def leaving(logs: Path, *names: str, then: str = "") -> None:
    """A job script that leaves these logs, the last one newest, and exits with status 0 as inspect does."""
    lines = [f"cp {logs}/{name}.eval $INSPECT_LOG_DIR/{i}_{name}.eval; sleep 0.02" for i, name in enumerate(names)]
    write_script("r4/eval/cap_epoch0.slurm", "\n".join(["echo evaluating", *lines, then]))


def test_evaluation_leaves_its_log_and_a_record(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success")
    evaluate(evaluation, "5", LOG)
    assert EVAL_LOG.read_bytes() == (logs / "success.eval").read_bytes()
    record = read(EVAL_RECORD)
    assert record["config"] == evaluation.config
    assert record["config_hash"] == config_hash(record["config"])
    assert record["results"]["metrics"] == {"match/accuracy": 0.5}
    assert record["results"]["completed_samples"] == 2
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
    assert "exit status 143 (SIGTERM: cancelled, preempted, or near its time limit): evaluating, but its eval" in said


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


@pytest.mark.parametrize("edited", ["r4/finetune.slurm", "r4/finetune.yaml"])
def test_training_edited_since_it_was_planned_is_refused(training: FinetuneJob, edited: str) -> None:
    job = as_it_lies(training)
    with Path(edited).open("a") as file:
        file.write("lr: 13\n")
    with pytest.raises(JobError, match=f"{edited} was changed since this job was planned; start again"):
        finetune_module.finetune(job, "3", LOG)


def test_edited_head_of_a_job_script_is_no_change(training: FinetuneJob) -> None:
    job, script = as_it_lies(training), Path("r4/finetune.slurm")
    script.write_text(script.read_text().replace("set -euo", "#SBATCH --mem=9G\nset -euo"))
    finetune_module.finetune(job, "3", LOG)
    assert Path(RECORD).is_file()


def test_job_that_a_killed_process_left_behind_is_not_run_twice(training: FinetuneJob) -> None:
    """A process that only the lock's descriptor connects with the attempt, as a killed wrapper's script is."""
    with locked(LOCK) as lock:
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    try:
        with pytest.raises(JobError, match=r"another process is working on it and writes to .*r4\.log"):
            finetune(training, "3", LOG)
        assert not Path("r4/artifacts").exists()
    finally:
        orphan.kill()
        orphan.wait()
    finetune(training, "3", LOG)
    assert Path(RECORD).is_file()


def test_training_of_an_earlier_configuration_is_restored(training: FinetuneJob) -> None:
    """Changing a parameter and changing it back costs no training."""
    finetune(training, "1", LOG)
    first, made = read(RECORD), weights("r4/artifacts")
    other = replace(training, config={**training.config, "lr": 0.2})
    finetune(other, "2", LOG)
    second = read(RECORD)
    assert second["job_id"] == "local-2"
    write_script("r4/finetune.slurm", "exit 1")
    finetune(training, "3", LOG)
    assert (read(RECORD), weights("r4/artifacts")) == (restored(first, "local-3"), made)
    finetune(other, "4", LOG)
    assert read(RECORD) == restored(second, "local-4")


def restored(record: dict[str, Any], job_id: str) -> dict[str, Any]:
    """A record as a job restores it, with that job's own times."""
    return {**record, "restored_by": job_id, "allocation": read(RECORD)["allocation"]}


def test_a_record_and_an_attempt_say_which_start_of_the_job_they_are_of(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored record, too: SLURM may have started the job again after it had trained."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    finetune(training, "1", LOG)
    first = read(RECORD)
    assert first["allocation"]["restarts"] == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    finetune(training, "1", LOG)
    record = read(RECORD)
    assert (record["restored_by"], record["allocation"]["restarts"], record["ended"]) == ("17", 2, first["ended"])
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    write_script("r4/finetune.slurm", "exit 1")
    with pytest.raises(JobError):
        finetune(replace(training, config={**training.config, "lr": 0.2}), "1", LOG)
    assert history.read(Path(), "r4", "18")[0].restarts == 2


@pytest.mark.parametrize("output", ["new/base/r4/artifacts", "elsewhere/r4"])
def test_training_of_an_earlier_output_folder_is_restored(training: FinetuneJob, output: str) -> None:
    finetune(training, "1", LOG)
    made = weights("r4/artifacts")
    job = trained_to(Path(output), training)
    finetune(replace(job, config={**job.config, "lr": 0.2}), "2", LOG)
    finetune(job, "3", LOG)
    assert weights(output) == made
    assert os.readlink(output).startswith("../")
    assert (read(RECORD)["restored_by"], read(RECORD)["checkpoints"]) == ("local-3", job.checkpoints)
    finetune(training, "4", LOG)
    assert (read(RECORD)["job_id"], read(RECORD)["checkpoints"]) == ("local-1", training.checkpoints)


@pytest.fixture
def other_file_system(folder: Path) -> Iterator[Path]:
    """A folder that nothing can be renamed to."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        yield Path(other)


def trained_to(output: Path, training: FinetuneJob) -> FinetuneJob:
    """The same training, to another folder."""
    write_script("r4/finetune.slurm", TRAIN.replace("r4/artifacts", str(output)))
    checkpoints = [str(output / f"epoch_{epoch}") for epoch in (0, 1)]
    return replace(training, output_dir=str(output), checkpoints=checkpoints)


def test_trainings_on_another_file_system_stay_there(training: FinetuneJob, other_file_system: Path) -> None:
    output = other_file_system / "r4"
    job = trained_to(output, training)
    finetune(job, "1", LOG)
    made = weights(str(output))
    finetune(replace(job, config={**job.config, "lr": 0.2}), "2", LOG)
    # Another run's, of the same settings, in the same folder.
    other = replace(trained_to(other_file_system / "r4.x", training), run="r4.x", target="r4.x/finetune.json")
    finetune(other, "3", LOG)
    assert read("r4.x/finetune.json")["job_id"] == "local-3"
    finetune(job, "4", LOG)
    assert (weights(str(output)), read(RECORD)["job_id"]) == (made, "local-1")
    assert sorted(path.name for path in other_file_system.iterdir()) == ["r4", "r4.x", "trainings"]
    assert len(list((other_file_system / "trainings").glob("r4.x.*"))) == 1
    assert len(list((other_file_system / "trainings").glob("r4.*"))) == 3
    assert not Path("r4/trainings").exists()


def test_training_is_restored_from_another_file_system(training: FinetuneJob, other_file_system: Path) -> None:
    finetune(training, "1", LOG)
    made = weights("r4/artifacts")
    finetune(replace(training, config={**training.config, "lr": 0.2}), "2", LOG)
    output = other_file_system / "scratch/r4"
    finetune(trained_to(output, training), "3", LOG)
    assert (read(RECORD)["job_id"], read(RECORD)["restored_by"]) == ("local-1", "local-3")
    assert weights(str(output)) == made
    assert weights(folder_of(training)) == made


def with_older_layout(job: FinetuneJob) -> str:
    """Two trainings as older versions left them: one moved away for the other; return what the first one made."""
    finetune(job, "1", LOG)
    made = weights("r4/artifacts")
    other = replace(job, config={**job.config, "lr": 0.2})
    finetune(other, "2", LOG)
    Path("r4/artifacts").unlink()
    Path(folder_of(job)).rename("r4/attempts/local-1.artifacts")
    Path(folder_of(other)).rename("r4/artifacts")
    Path("r4/trainings").rmdir()
    return made


def test_training_that_cannot_be_restored_now_is_not_trained_anew(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its evaluations are planned to stay: that it is tried again is better than hours for another one."""
    made = with_older_layout(training)
    rename = os.rename

    def failing(name: str) -> Callable[[Path, Path], None]:
        def call(source: Path, target: Path) -> None:
            if Path(source).name == name:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            rename(source, target)

        return call

    for name in ("local-1.artifacts", "artifacts"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", failing(name))
            with pytest.raises(OSError, match="Stale file handle"):
                finetune(training, "3", LOG)
    finetune(training, "4", LOG)
    assert (read(RECORD)["job_id"], weights("r4/artifacts")) == ("local-1", made)


def test_trainings_of_older_versions_are_carried_over(training: FinetuneJob) -> None:
    made = with_older_layout(training)
    other = replace(training, config={**training.config, "lr": 0.2})
    finetune(replace(training, config={**training.config, "lr": 0.3}), "3", LOG)
    assert (weights(folder_of(training)), read(RECORD)["job_id"]) == (made, "local-3")
    assert len(list(Path("r4/trainings").iterdir())) == 3
    assert list(Path("r4/attempts").glob("*.artifacts")) == []
    finetune(training, "4", LOG)
    assert (read(RECORD)["job_id"], weights("r4/artifacts")) == ("local-1", made)
    finetune(other, "5", LOG)
    assert read(RECORD)["job_id"] == "local-2"


def test_carrying_over_is_resumed_when_only_the_link_is_missing(training: FinetuneJob) -> None:
    with_older_layout(training)
    other = replace(training, config={**training.config, "lr": 0.2})
    Path("r4/trainings").mkdir()
    Path("r4/artifacts").rename(folder_of(other))
    RECORD.unlink()
    finetune(other, "3", LOG)
    assert (read(RECORD)["job_id"], os.readlink("r4/artifacts")) == ("local-2", folder_of(other).removeprefix("r4/"))


def test_job_of_an_older_version_is_waited_for(training: FinetuneJob) -> None:
    with_older_layout(training)
    before = files("r4")
    with locked(LOCK), pytest.raises(JobError, match="another process is working on it"):
        finetune(training, "3", LOG)
    assert [name for name in files("r4") if not name.startswith("attempts/local-3")] == before


@pytest.mark.parametrize("there", ["trained", "empty", "nothing"])
def test_link_of_the_user_s_own_stays_where_it_leads(
    training: FinetuneJob, other_file_system: Path, there: str
) -> None:
    scratch = other_file_system / "r4"
    if there == "trained":
        finetune(training, "1", LOG)
        shutil.copytree(folder_of(training), scratch)
        shutil.rmtree(folder_of(training))
        Path("r4/artifacts").unlink()
    if there == "empty":
        scratch.mkdir()
    Path("r4/artifacts").symlink_to(scratch)
    if there != "trained":
        finetune(training, "1", LOG)
    made = weights(str(scratch))
    finetune(replace(training, config={**training.config, "lr": 0.2}), "2", LOG)
    assert weights(str(scratch)) == made
    finetune(training, "3", LOG)
    assert (read(RECORD)["job_id"], weights("r4/artifacts")) == ("local-1", made)
    assert Path("r4/artifacts").samefile(scratch)


def test_folder_with_other_files_is_not_moved(training: FinetuneJob) -> None:
    job = trained_to(Path("r4"), training)
    with pytest.raises(JobError, match="r4 holds other files of r4"):
        finetune(job, "1", LOG)
    assert Path("r4/finetune.slurm").is_file()


def test_what_a_script_leaves_in_the_background_ends_with_it(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", f"{TRAIN}\nsleep 60 &")
    finetune(training, "1", LOG)
    with locked(LOCK):
        # Nobody is at work any more.
        pass


def test_shared_output_folder_of_another_experiment_is_left_alone(
    training: FinetuneJob, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, other = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("other")
    checkpoints = [str(shared / f"epoch_{epoch}") for epoch in (0, 1)]
    script = TRAIN.replace("r4/artifacts", str(shared))
    assert script != TRAIN
    write_script("r4/finetune.slurm", script)
    mine = replace(training, output_dir=str(shared), checkpoints=checkpoints)
    Path("experiment_summary.yaml").write_text("")
    finetune(mine, "1", LOG)
    copied = other / "copy"
    shutil.copytree(Path.cwd(), copied)
    monkeypatch.chdir(copied)
    theirs = replace(mine, config={**mine.config, "lr": 0.2})
    with pytest.raises(JobError, match=r"holds a training of .*: set an output.base_directory of this"):
        finetune(theirs, "2", LOG)
    assert weights(str(shared))


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
        "data": {"split": "test", "sha256": split_hash(Path("words.json"), "test")},
    }
    require_data_set(config, "cap.py", "words.json")
    for name in ("cap.py", "helper.py", "words.json"):
        kept = Path(name).read_text()
        Path(name).write_text('{"test": [{"input": "other"}]}')
        with pytest.raises(JobError, match=f"{name} changed since this job was planned"):
            require_data_set(config, "cap.py", "words.json")
        Path(name).write_text(kept)


SMI = """#!/bin/sh
case "$*" in
*query-gpu*) echo "0, 93, 30123, 81559, 412.5, 61" ;;
esac
"""


def test_gpus_are_sampled_while_a_script_runs(
    training: FinetuneJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text(SMI)
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    write_script("r4/finetune.slurm", f"{TRAIN}\nsleep 0.5")
    finetune(training, "1", LOG)
    rows = Path("r4/artifacts/gpu_metrics.csv").read_text().splitlines()
    assert rows[0].startswith("timestamp,index,utilization_gpu_percent,memory_used_mib")
    assert rows[1].endswith(",0,93,30123,81559,412.5,61")
    assert read(RECORD)["gpu"]["max_utilization"] == 93


def test_nothing_is_said_of_gpus_where_there_are_none(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for tool in ("bash", "mkdir", "tee"):
        found = shutil.which(tool)
        assert found
        (tmp_path / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    finetune(training, "1", LOG)
    assert not Path("r4/artifacts/gpu_metrics.csv").exists()
    assert "gpu" not in read(RECORD)


def test_file_system_without_locks_costs_no_job(training: FinetuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    finetune(training, "1", LOG)
    assert Path(RECORD).is_file()


ELSEWHERE = ["scratch/epoch_0", "scratch/epoch_1"]


@pytest.mark.parametrize("written", ["r4/artifacts", "scratch"])
def test_checkpoints_may_be_elsewhere(training: FinetuneJob, written: str) -> None:
    """Another tool's script need not know of the summary's output section."""
    write_script("r4/finetune.slurm", TRAIN.replace("r4/artifacts", written))
    finetune(replace(training, elsewhere=ELSEWHERE), "1", LOG)
    assert read(RECORD)["checkpoints"] == (ELSEWHERE if written == "scratch" else training.checkpoints)
    assert Path("r4/artifacts/record.json").exists() == (written == "r4/artifacts")


def test_checkpoints_elsewhere_must_be_of_this_training(training: FinetuneJob) -> None:
    job = replace(training, elsewhere=ELSEWHERE)
    write_script("r4/finetune.slurm", TRAIN.replace("r4/artifacts", "scratch"))
    finetune(job, "1", LOG)
    for path in Path("scratch").glob("*/adapter"):
        os.utime(path, (1, 1))
    write_script("r4/finetune.slurm", "echo nothing")
    with pytest.raises(JobError, match=r"r4/artifacts/epoch_0 was not written, and scratch/epoch_0 is older than"):
        finetune(replace(job, config={**job.config, "lr": 0.2}), "2", LOG)
    assert not RECORD.exists()


def test_old_record_is_gone_before_a_script_starts(training: FinetuneJob) -> None:
    finetune(training, "1", LOG)
    write_script("r4/finetune.slurm", f"{TRAIN}\nls r4")
    finetune(replace(training, config={**training.config, "lr": 0.2}), "2", LOG)
    assert "finetune.json" not in LOG.read_text().split()
    assert RECORD.exists()


def test_script_runs_in_the_folder_it_is_meant_for(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", TRAIN.replace("r4/", ""))
    finetune(replace(training, folder="r4"), "1", LOG)
    assert LOG.read_text().startswith(f"training in {Path('r4').absolute()}\n")


def test_evaluation_of_another_checkpoint_than_planned_is_refused(evaluation: EvaluationJob, logs: Path) -> None:
    leaving(logs, "success")
    manifest = "r4/checkpoints/epoch_0.json is of another checkpoint than this job was planned with; start again"
    with pytest.raises(JobError, match=manifest):
        evaluate(replace(evaluation, config={**evaluation.config, "checkpoint": {}}), "5", LOG)
    Path("r4/checkpoints/epoch_0.json").write_text(json.dumps(manifest_of("other")))
    with pytest.raises(JobError, match=manifest):
        evaluate(evaluation, "5", LOG)


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


TERMINATED = """
trap 'echo told; sleep 0.3; echo the last line; exit 1' TERM
(trap 'echo told, too' TERM; sleep 0.1; echo started; while sleep 0.1; do :; done) &
wait
"""


def run_finetune(job: FinetuneJob, jobs: Path) -> list[str]:
    """Command of a job, as Snakemake runs it."""
    script = Path(__file__).parents[3] / "scripts/run_finetune.py"
    file = as_it_lies(job).write(jobs)
    return [sys.executable, str(script), "--job", str(file), "--id", "3", "--log", str(LOG)]


def test_what_the_file_system_refuses_is_said_plainly(training: FinetuneJob, tmp_path: Path) -> None:
    LOG.parent.touch()
    done = subprocess.run(run_finetune(training, tmp_path / "jobs"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "r4 failed: [Errno 17] File exists: 'logs'\n")


def test_sigterm_leaves_a_record_and_a_whole_log(training: FinetuneJob, tmp_path: Path) -> None:
    write_script("r4/finetune.slurm", TERMINATED)
    job = subprocess.Popen(run_finetune(training, tmp_path / "jobs"), stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not (LOG.exists() and "started" in LOG.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 128 + signal.SIGTERM
    assert "r4 was ended by SIGTERM: cancelled, preempted or out of time" in errors
    attempt = read("r4/attempts/local-3/attempt.json")
    assert attempt["error"] == "ended by SIGTERM: cancelled, preempted or out of time"
    kept = Path("r4/attempts/local-3/job.log").read_text().splitlines()
    assert {"told", "told, too", "the last line"} <= set(kept)
    with locked(LOCK):
        # Nobody is at work any more.
        pass
