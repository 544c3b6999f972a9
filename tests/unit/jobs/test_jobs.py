"""Jobs with real scripts: what a failure keeps, what a success leaves, and when a result counts."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tiny_jobs import LOCK, LOG, RECORD, TRAIN, as_it_lies, files, finetune, read, write_script

from run_experiment.attempts import history
from run_experiment.common.json_files import config_hash
from run_experiment.jobs import finetune as finetune_module
from run_experiment.jobs import script_process
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.jobscripts.edits import Rendered
from run_experiment.machine.processes import Terminated, interrupt_once, locked, raise_on_sigterm
from run_experiment.machine.provenance import installed


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


@pytest.mark.parametrize("name", ["USR1", "USR2", "HUP", "TERM"])
def test_a_script_that_a_signal_of_slurm_ended_is_tried_again(training: FinetuneJob, name: str) -> None:
    """As by `#SBATCH --signal=B:USR1@60` without a trap: what it saved is not lost, nor is the rest of its time."""
    write_script("r4/finetune.slurm", f"[ -e begun ] || {{ touch begun; kill -{name} $$; sleep 60; }}\n{TRAIN}")
    finetune(training, "1", LOG)
    assert [attempt["failure"] for attempt in read(RECORD)["attempts"]] == ["interrupted"]


@pytest.mark.parametrize("content", ["step;train\\n1;2\\n", "epoch,loss\\nfirst,1\\n", "\\377\\n"])
def test_another_trainer_s_metrics_cost_no_training(training: FinetuneJob, content: str) -> None:
    write_script("r4/finetune.slurm", f"{TRAIN}\nprintf '{content}' > r4/artifacts/metrics.csv")
    finetune(training, "1", LOG)
    assert read(RECORD)["losses"] == {}


def test_id_is_slurm_s_where_there_is_one(training: FinetuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    finetune(training, "3", LOG)
    assert read(RECORD)["job_id"] == "4711"


def test_a_failure_names_the_process_that_the_other_nodes_lost(training: FinetuneJob) -> None:
    lines = ("rank 0 on n1 failed: RuntimeError: closed", "rank 3 on n2 was ended by SIGBUS", "srun: error: n1: task 0")
    # As the tracebacks of the processes of another node.
    more = "for i in {1..600}; do echo '[rank0]:   File trl_recipe.py, line 1, in finetune'; done"
    write_script("r4/finetune.slurm", f"printf '%s\\n' {shlex.join(lines)}; {more}; exit 143")
    with pytest.raises(JobError, match="exit status 143: rank 3 on n2 was ended by SIGBUS; its log is"):
        finetune(training, "3", LOG)
    assert read("r4/attempts/local-3/attempt.json")["failure"] == "interrupted"


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


@pytest.mark.parametrize("hidden", ["INSPECT_EVAL_LIMIT", "ACCELERATE_MIXED_PRECISION", "WORLD_SIZE", "RANK"])
def test_script_runs_in_this_environment_without_hidden_settings(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv(hidden, "3")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_script("r4/finetune.slurm", f"{TRAIN}\ncommand -v inspect\necho it is ${{{hidden}:-none}}")
    finetune(training, "1", LOG)
    assert LOG.read_text().splitlines()[-1] == "it is none"


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


def test_checkpoint_that_was_not_written_is_a_failure(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", TRAIN + "rm r4/artifacts/epoch_1/adapter")
    with pytest.raises(JobError, match=r"^r4/artifacts/epoch_1 was not written; its log is "):
        finetune(training, "1", LOG)
    assert not RECORD.exists()


def test_checkpoints_count_whatever_the_file_server_s_clock_says(training: FinetuneJob) -> None:
    """It may be minutes behind that of the node."""
    write_script("r4/finetune.slurm", f"{TRAIN}\ntouch -d '-4 min' r4/artifacts/*/*")
    finetune(training, "1", LOG)
    assert read(RECORD)["checkpoints"] == training.checkpoints


def test_checkpoint_of_an_earlier_training_is_a_failure(training: FinetuneJob) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/adapter").write_text("old")
    with pytest.raises(JobError, match=r"^elsewhere is older than the training"):
        finetune(replace(training, checkpoints=["elsewhere"]), "1", LOG)


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


@pytest.mark.parametrize("answers", ["[ ! -e ran ]", "[ -e ran ]"], ids=["as it begins", "as it ends"])
def test_a_job_that_slurm_started_again_knows_when_although_slurm_answers_only_once(
    training: FinetuneJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\n{answers} && echo 2025-01-31T12:00:00\ntouch asked\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    until_asked = "for _ in $(seq 100); do [ -e asked ] && break; sleep 0.1; done"
    write_script("r4/finetune.slurm", f"{TRAIN}\n{until_asked}\ntouch ran")
    finetune(training, "1", LOG)
    allocation = read(RECORD)["allocation"]
    assert allocation["start_known_to_slurm"]
    assert allocation["started"].startswith("2025-01-31T12:00:00")


@pytest.mark.parametrize("restarts", ["0", "1"])
def test_a_failed_attempt_says_when_slurm_started_its_job(
    training: FinetuneJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: str
) -> None:
    """By that it is told from one of an earlier or later start, whatever the clock of its node."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").write_text("#!/bin/sh\necho 2025-01-31T12:00:00\n")
    (tmp_path / "bin/squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    write_script("r4/finetune.slurm", "exit 1")
    with pytest.raises(JobError):
        finetune(training, "1", LOG)
    (attempt,) = history.read(Path(), "r4", "17")
    assert attempt.slurm_start == datetime(2025, 1, 31, 12).astimezone()


def test_what_a_script_leaves_in_the_background_ends_with_it(training: FinetuneJob) -> None:
    write_script("r4/finetune.slurm", f"{TRAIN}\nsleep 60 &")
    finetune(training, "1", LOG)
    with locked(LOCK):
        # Nobody is at work any more.
        pass


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


@pytest.mark.parametrize("minutes", [-10, 10])
def test_samples_that_a_script_takes_count_whatever_the_file_server_s_clock_says(
    training: FinetuneJob, minutes: int
) -> None:
    """Those of an attempt before do not."""
    own = "timestamp, index, utilization.gpu [%]\n2026/01/31 10:00:00.000, 0, {} %\n"
    Path("gpu.csv").write_text(own.format(7))
    os.utime("gpu.csv", (moment := time.time() + 60 * minutes, moment))
    sample = f": nvidia-smi --filename={Path('gpu.csv').absolute()}"
    write_script("r4/finetune.slurm", f"{TRAIN}\n{sample}")
    finetune(training, "1", LOG)
    assert "gpu" not in read(RECORD)
    RECORD.unlink()
    shutil.rmtree("r4/trainings")
    sampled = f"printf '{own.format('93')}' > gpu.csv; touch -d '{minutes} min' gpu.csv".replace("%", "%%")
    write_script("r4/finetune.slurm", f"{TRAIN}\n{sample}; cd {Path().absolute()}; {sampled}")
    finetune(training, "2", LOG)
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


BACKGROUND = """
(trap '' INT; echo started; while sleep 0.1; do :; done) &
wait; wait
"""
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


def _heed_signals() -> None:
    """Ignore none, as programs do that are started in the background or by `nohup`, which the tests may be."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def signalled(training: FinetuneJob, folder: Path, number: signal.Signals) -> tuple[int, str]:
    """Exit status and errors of a job that is sent a signal once its script says that it has started."""
    job = subprocess.Popen(run_finetune(training, folder), stderr=subprocess.PIPE, text=True, preexec_fn=_heed_signals)
    while not (LOG.exists() and "started" in LOG.read_text()):
        assert job.poll() is None, "it ended by itself"
        time.sleep(0.05)
    job.send_signal(number)
    _, errors = job.communicate(timeout=180)
    return job.returncode, errors


def test_a_closed_terminal_ends_the_script_with_its_job(training: FinetuneJob, tmp_path: Path) -> None:
    """By itself it would live on: it has a process group of its own."""
    write_script("r4/finetune.slurm", "echo started; sleep 60")
    status, errors = signalled(training, tmp_path / "jobs", signal.SIGHUP)
    assert (status, errors) == (1, "r4 was interrupted; run the same command to continue\n")
    assert read("r4/attempts/local-3/attempt.json")["error"] == "KeyboardInterrupt"
    with locked(LOCK):
        pass


def test_a_second_hangup_does_not_cut_off_the_end_of_the_script(training: FinetuneJob, tmp_path: Path) -> None:
    """A closed terminal sends two: of the shell, and of the kernel."""
    write_script("r4/finetune.slurm", f"trap 'kill -HUP $PPID; echo again' INT\n{BACKGROUND}")
    status, _ = signalled(training, tmp_path / "jobs", signal.SIGHUP)
    assert (status, read("r4/attempts/local-3/attempt.json")["error"]) == (1, "KeyboardInterrupt")
    assert "again" in Path("r4/attempts/local-3/job.log").read_text()
    with locked(LOCK):
        # Nobody is at work any more.
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
def test_a_script_that_is_being_started_ends_with_its_job(
    training: FinetuneJob, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    number = signal.SIGTERM if error is Terminated else signal.SIGINT

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if options.get("process_group") == 0:
                started.append(self)
                signal.raise_signal(number)

    monkeypatch.setattr(script_process.subprocess, "Popen", Interrupted)
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    raise_on_sigterm()
    interrupt_once()
    write_script("r4/finetune.slurm", "sleep 60")
    try:
        with pytest.raises(error):
            finetune(training, "3", LOG)
        (script,) = started
        assert script.poll() is not None
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for script in started:
            script.kill()


def test_sigterm_leaves_a_record_and_a_whole_log(training: FinetuneJob, tmp_path: Path) -> None:
    write_script("r4/finetune.slurm", TERMINATED)
    status, errors = signalled(training, tmp_path / "jobs", signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "r4 was ended by SIGTERM: cancelled, preempted or out of time" in errors
    attempt = read("r4/attempts/local-3/attempt.json")
    assert attempt["error"] == "ended by SIGTERM: cancelled, preempted or out of time"
    kept = Path("r4/attempts/local-3/job.log").read_text().splitlines()
    assert {"told", "told, too", "the last line"} <= set(kept)
    with locked(LOCK):
        # Nobody is at work any more.
        pass
