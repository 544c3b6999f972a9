"""Jobs that fail in a way that another try mends: with scripts that fail as torch and the kernel have it."""

from __future__ import annotations

import errno
import json
import re
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from run_experiment.attempts.redone import move_away
from run_experiment.attempts.trainings import Sought, records_of
from run_experiment.common import paths
from run_experiment.common.clock import now
from run_experiment.inputs.data_files import split_hash
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.finetune import finetune
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.jobscripts.edits import Rendered, parse
from run_experiment.machine.processes import locked

LOG = Path("logs/r4.log")
CONFIG, SCRIPT = Path("r4/finetune.yaml"), Path("r4/finetune.slurm")
# Says how often it ran, and with what; its batch size is that of its changes, else of its config.
TRAIN = r""": python -m run_experiment.finetuning.recipe --config r4/finetune.yaml
set -euo pipefail
read_from="${RUN_EXPERIMENT_CHANGES:-} r4/finetune.yaml"
batch=$(grep -Eoh 'batch_size"?: [0-9]+' $read_from | grep -Eo '[0-9]+' | head -1)
echo "$batch" >> runs
if [ "$batch" -gt FITS ]; then echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'; exit 1; fi
BODY
mkdir -p r4/artifacts/epoch_0
echo trained > r4/artifacts/epoch_0/adapter
"""
# Knows no repository, and says whether the script runs.
GIT = r"""#!/bin/bash
for process in $(cat /proc/$PPID/task/*/children); do
    grep -qs finetune.slurm /proc/$process/cmdline && echo beside the script >> HERE/asked && exit 1
done
echo without the script >> HERE/asked
exit 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    Path("words.json").write_text(json.dumps({"train": [{"input": "a"}]}))
    return tmp_path


def training(run: str = "r4", batch: int = 8, accumulation: int = 1, fits: int = 100, body: str = "") -> FinetuneJob:
    """A fine-tune by a script that reads what it is told, and runs out of memory above a batch size."""
    for path, text in {
        f"{run}/finetune.slurm": TRAIN.replace("FITS", str(fits)).replace("BODY", body).replace("r4/", f"{run}/"),
        f"{run}/finetune.yaml": f"batch_size: {batch}\ngradient_accumulation_steps: {accumulation}\n",
    }.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(Rendered("", text).text)
    data = Path("words.json").absolute()
    files = [f"{run}/finetune.slurm", f"{run}/finetune.yaml"]
    return FinetuneJob(
        run=run,
        config={"data": {"train": {"sha256": split_hash([data], "train")}}, "model": {"weights": "abc"}, "lr": 0.1},
        files={path: parse(Path(path).read_text()).fingerprint for path in files},
        target=f"{run}/finetune.json",
        name=f"tiny.{run}",
        script=f"{run}/finetune.slurm",
        data=str(data),
        checkpoints=[f"{run}/artifacts/epoch_0"],
        output_dir=f"{run}/artifacts",
    )


def runs() -> list[int]:
    """Batch sizes of the runs so far."""
    return [int(line) for line in Path("runs").read_text().split()]


def record(run: str = "r4") -> dict[str, Any]:
    return dict(json.loads(Path(f"{run}/finetune.json").read_text()))


def redo(job: FinetuneJob) -> None:
    """Move away what `redo=` names."""
    sought = Sought(Path(), job.run, job.config, job.output_dir, job.checkpoints)
    before = [folder.name for folder in Path(f"{job.run}/attempts").glob("*")]
    # A login node's clock decides nothing.
    move_away(Path(), job.target, now() - timedelta(hours=1), [*records_of(sought), Path(job.target)], before)


def told(run: str = "r4") -> list[tuple[str, str, str]]:
    return [(event["action"], event["details"], event["result"]) for event in record(run)["events"]]


def test_out_of_memory_halves_the_batch_and_keeps_the_effective_one() -> None:
    job = training(fits=4)
    before = CONFIG.read_bytes(), SCRIPT.read_bytes()

    finetune(job, "3", LOG)

    assert runs() == [8, 4]
    assert record()["changes"] == {"batch_size": 4, "gradient_accumulation_steps": 2}
    assert told() == [
        (
            "OOM_RETRY",
            "Batch size 8 ran out of memory in job local-3 of r4: 8 × 1 → 4 × 2 (batch size × gradient accumulation)",
            "Effective batch size 8 as before",
        )
    ]
    assert (CONFIG.read_bytes(), SCRIPT.read_bytes()) == before
    failed = json.loads(Path("r4/attempts/local-3/attempt.json").read_text())
    assert (failed["failure"], failed["batch_size"]) == ("out of memory", 8)
    assert "CUDA out of memory" in Path("r4/attempts/local-3/job.log").read_text()


@pytest.mark.parametrize(("command", "seeds"), [("", {"training": 99}), (" seed=7", {})], ids=["config", "script"])
def test_the_seed_is_that_of_the_config_that_was_used(command: str, seeds: dict[str, int]) -> None:
    job = training()
    SCRIPT.write_text(SCRIPT.read_text().replace("--config r4/finetune.yaml", f"--config r4/finetune.yaml{command}"))
    CONFIG.write_text("batch_size: 8\nseed: 99\n")

    finetune(replace(job, files={}), "3", LOG)

    assert record()["provenance"]["seeds"] == seeds


@pytest.mark.parametrize(
    ("batch", "accumulation", "fits", "tried"),
    [(6, 1, 3, [6, 3]), (5, 1, 2, [5, 1]), (9, 2, 6, [9, 3]), (7, 2, 2, [7, 2])],
)
def test_odd_sizes(batch: int, accumulation: int, fits: int, tried: list[int]) -> None:
    finetune(training(batch=batch, accumulation=accumulation, fits=fits), "3", LOG)

    assert runs() == tried
    changes = record()["changes"]
    assert changes["batch_size"] * changes["gradient_accumulation_steps"] == batch * accumulation


def test_what_never_fits_ends_with_the_last_size_and_begins_anew_the_next_time() -> None:
    job = training(batch=4, fits=0)

    with pytest.raises(JobError, match="out of memory even with batch size 1: ask for a larger GPU") as caught:
        finetune(job, "3", LOG)

    assert runs() == [4, 2, 1]
    assert "its log is" in str(caught.value)
    assert not Path("r4/finetune.json").exists()

    finetune(training(batch=4, fits=4), "4", LOG)
    assert runs() == [4, 2, 1, 4]


def test_tries_are_limited_and_the_next_job_goes_on_from_what_was_learned() -> None:
    with pytest.raises(JobError, match="Retries used up: 1 "):
        finetune(replace(training(batch=16, fits=2), retries=1), "3", LOG)
    assert runs() == [16, 8]

    finetune(training(batch=16, fits=2), "4", LOG)
    assert runs() == [16, 8, 4, 2]


def test_other_runs_of_the_model_start_with_what_was_learned() -> None:
    finetune(training(fits=4), "3", LOG)
    finetune(training("r8", batch=16, fits=4), "4", Path("logs/r8.log"))
    finetune(training("r2", batch=4, fits=4), "5", Path("logs/r2.log"))

    assert runs() == [8, 4, 4, 4]
    ((action, details, _),) = told("r8")
    assert action == "OOM_RETRY"
    assert details.startswith("Batch size 8 ran out of memory in job local-3 of r4: 16 × 1 → 4 × 4")
    assert told("r2") == []


def test_a_job_that_slurm_killed_with_one_sample_a_batch_is_run_with_what_it_has_now() -> None:
    """Whoever starts it again raised its memory, as was advised."""
    job = training(batch=1, body="[ $(wc -l < runs) -gt 1 ] || exit 1")
    with pytest.raises(JobError):
        finetune(job, "3", LOG)
    Path("r4/attempts/local-3/slurm.json").write_text(json.dumps({"state": "OUT_OF_MEMORY", "error": "killed"}))

    finetune(job, "4", LOG)

    assert runs() == [1, 1]
    assert told() == []


def test_a_try_that_never_trained_says_nothing_of_sizes() -> None:
    """Batch size 8 took too much of the node, which no other run learns; 4 was cut off; the next one saw other data."""
    killed = "echo 'slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch.'; exit 1"
    body = f"case $(wc -l < runs) in 1) {killed} ;; 2) kill $$ ;; esac"
    job = replace(training(body=body), retries=1)
    with pytest.raises(JobError, match="Retries used up: 1 "):
        finetune(job, "3", LOG)
    data = Path("words.json").read_text()
    Path("words.json").write_text(json.dumps({"train": [{"input": "b"}]}))
    with pytest.raises(JobError, match="changed since"):
        finetune(job, "4", LOG)
    Path("words.json").write_text(data)

    finetune(job, "5", LOG)

    assert runs() == [8, 4, 4]


# Leaves an epoch that can be gone on from, where it has not yet, and is killed.
ONE_EPOCH = r"""
saved=r4/artifacts/epoch_0
if [ ! -e $saved ]; then
    mkdir -p $saved
    python -c "
import sys, zipfile
for name in ('recipe_state.pt', 'adapter_model.pt'):
    zipfile.ZipFile(f'{sys.argv[1]}/{name}', 'w').writestr('a', 'b')" $saved
    touch $saved/adapter_model.safetensors $saved/adapter_config.json
    kill $$
fi
"""


def test_a_training_that_was_replaced_for_a_moment_resumes() -> None:
    """A parameter was changed, a job began, and the parameter was changed back."""
    job = replace(training(body=ONE_EPOCH), retries=0)
    other = replace(job, config={**job.config, "lr": 0.2})
    for number, one in enumerate((job, other)):
        with pytest.raises(JobError, match="Retries used up: 0 "):
            finetune(one, str(number), LOG)

    finetune(job, "3", LOG)

    assert told() == [
        ("RESUME_TRAINING", "Continues from epoch_0, after job local-0", "1 of 1 epochs are trained, none to do")
    ]
    assert len(list(Path("r4/trainings").iterdir())) == 2, "that of the other one, too"
    before = json.loads(Path("r4/attempts/local-0/attempt.json").read_text())
    assert record()["earlier_seconds"] == before["seconds"], "and none of the other one"


# The same, which says who trained the epoch.
SIGNED = ONE_EPOCH.replace(
    "    kill $$", """    echo "{\\"job_id\\": \\"$RUN_EXPERIMENT_JOB\\"}" > $saved/trained.json\n    kill $$"""
)


def test_a_record_says_which_job_trained_which_epoch() -> None:
    job = replace(training(body=SIGNED), retries=0)
    with pytest.raises(JobError):
        finetune(job, "1", LOG)
    manifest = Path("r4/checkpoints/epoch_0.json")
    manifest.parent.mkdir()
    manifest.touch()
    finetune(job, "2", LOG)
    assert (record()["job_id"], record()["epochs"]) == ("local-2", [{"job_id": "local-1"}])
    assert manifest.exists(), "it was not trained again"


def test_an_epoch_that_is_trained_again_does_not_count_until_it_is() -> None:
    """Nor does its manifest, which waiting evaluations look for."""
    job = replace(training(body=SIGNED), retries=0)
    with pytest.raises(JobError):
        finetune(job, "1", LOG)
    Path("r4/artifacts/epoch_0/recipe_state.pt").write_text("damaged")
    manifest = Path("r4/checkpoints/epoch_0.json")
    manifest.parent.mkdir()
    manifest.touch()
    SCRIPT.write_text(SCRIPT.read_text().replace("read_from=", "exit 1\nread_from="))
    with pytest.raises(JobError):
        finetune(replace(job, files={}), "2", LOG)
    assert not manifest.exists()
    assert not Path("r4/artifacts/epoch_0/trained.json").exists()


def test_a_job_of_a_cluster_waits_for_the_locks_of_a_node_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    job, held = training(), ExitStack()
    held.enter_context(locked(Path(paths.lock(job.target))))
    with pytest.raises(JobError, match="another process is working on it"):
        finetune(job, "3", LOG)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr("run_experiment.jobs.run._LOCK_PATIENCE", 0.5)
    with pytest.raises(JobError, match="another process is working on it"):
        finetune(job, "3", LOG)
    monkeypatch.setattr("run_experiment.jobs.run._LOCK_PATIENCE", 30)
    threading.Timer(1.5, held.close).start()

    finetune(job, "3", LOG)

    assert (runs(), record()["job_id"]) == ([8], "17")


def test_the_ledger_is_read_only_to_put_attempts_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a large experiment is long, and each job would read it with its GPU waiting."""
    read = Mock()
    monkeypatch.setattr("run_experiment.slurm.ledger.Ledger.read", read)
    finetune(training(), "3", LOG)
    read.assert_not_called()


def test_an_error_is_run_once() -> None:
    with pytest.raises(JobError, match="ended with exit status 1"):
        finetune(training(body="echo 'KeyError: lr'; exit 1"), "3", LOG)

    assert runs() == [8]


def test_a_script_that_could_write_nothing_failed_for_the_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what it says itself, nothing is left."""
    full = f"{LOG.parent.absolute()}: cannot take a file (No space left on device): make room"
    monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(JobError, match=re.escape(f"exit status 1: {full}; its log is")):
        finetune(training(body="exit 1"), "3", LOG)
    with pytest.raises(JobError, match="exit status 1: some error; its log is"):
        finetune(training(body="echo some error; exit 1"), "3", LOG)


def test_the_log_is_kept_while_a_job_works() -> None:
    """Who is killed can save nothing, and the next job begins a new one."""
    finetune(training(body="echo hello; cp r4/attempts/local-3/job.log seen"), "3", LOG)
    assert Path("seen").read_text() == LOG.read_text() == "hello\n"


@pytest.mark.parametrize("kill", ["kill -9 $$", "python -c 'import os; os.kill(os.getpid(), 9)'"])
def test_what_was_killed_is_tried_again(kill: str) -> None:
    finetune(training(body=f"[ $(wc -l < runs) -gt 2 ] || {kill}"), "3", LOG)

    assert runs() == [8, 8, 8]
    assert record()["changes"] == {}


def test_another_tools_script_is_not_told_what_it_does_not_read() -> None:
    job = training(fits=4)
    SCRIPT.write_text(SCRIPT.read_text().replace("run_experiment.finetuning.recipe", "another trainer"))
    job = replace(job, files={})

    with pytest.raises(JobError, match="Its script has a batch size of its own"):
        finetune(job, "3", LOG)

    assert runs() == [8]


RECIPE = ": python -m run_experiment.finetuning.recipe"


@pytest.mark.parametrize(
    "command",
    [
        f"{RECIPE} --config r4/finetune.yaml batch_size=16",
        f"{RECIPE} --config r4/finetune.yaml $EXTRA",
        f"{RECIPE} --config r4/own.yaml",
        f'{RECIPE} --config "${{OWN:-r4/own.yaml}}"',
        f"{RECIPE} batch_size=16 --config=r4/finetune.yaml > train.log",
        f"{RECIPE} --config r4/finetune.yaml || {RECIPE} --config r4/own.yaml",
        f"cd r4; {RECIPE} --config r4/finetune.yaml; cd ..",
        f'CONFIG=r4/finetune.yaml; {RECIPE} --config "$CONFIG"',
        RECIPE,
    ],
)
def test_a_script_whose_sizes_are_not_known_keeps_them(command: str) -> None:
    """Neither after running out of memory, nor where another run did."""
    finetune(training("r8", fits=4), "3", Path("logs/r8.log"))
    job = training(fits=4)
    SCRIPT.write_text(SCRIPT.read_text().replace(f"{RECIPE} --config r4/finetune.yaml", command))

    with pytest.raises(JobError, match="Its script has a batch size of its own"):
        finetune(replace(job, files={}), "3", LOG)

    assert runs() == [8, 4, 8]


@pytest.mark.parametrize(
    "command",
    [
        f"export OMP_NUM_THREADS=4\n{RECIPE} --config r4/finetune.yaml",
        f"{RECIPE} --config ./r4/finetune.yaml | cat",
        f"cd /; {RECIPE} --config FOLDER/r4/finetune.yaml; cd -",
    ],
)
def test_a_script_that_takes_its_sizes_from_the_config_is_told(command: str) -> None:
    job = training(fits=4)
    command = command.replace("FOLDER", str(Path.cwd()))
    SCRIPT.write_text(SCRIPT.read_text().replace(f"{RECIPE} --config r4/finetune.yaml", command))

    finetune(replace(job, files={}), "3", LOG)

    assert runs() == [8, 4]


def test_commands_as_rendered_take_their_sizes_from_the_config() -> None:
    """Whatever the lines above them do."""
    job = training(fits=4)
    SCRIPT.write_text(Rendered("#!/bin/bash\ncd .\n", f"set -euo pipefail\n{SCRIPT.read_text()}").text)

    finetune(replace(job, files={}), "3", LOG)

    assert runs() == [8, 4]


def test_what_another_run_learned_counts_after_its_own_try_too() -> None:
    with pytest.raises(JobError):
        finetune(replace(training(batch=16, fits=1), retries=0), "3", LOG)
    with pytest.raises(JobError):
        finetune(replace(training("r2", batch=4, fits=1), retries=0), "4", Path("logs/r2.log"))

    finetune(training(batch=16, fits=2), "5", LOG)

    assert runs() == [16, 4, 2]
    details = "Batch size 4 ran out of memory in job local-4 of r2: 16 × 1 → 2 × 8 (batch size × gradient accumulation)"
    assert told() == [("OOM_RETRY", details, "Effective batch size 16 as before")]


def test_what_another_run_learned_meanwhile_counts_after_an_interruption() -> None:
    job = replace(training(batch=16, fits=8, body="[ $(wc -l < runs) -gt 2 ] || kill $$"), retries=1)
    with pytest.raises(JobError):
        finetune(job, "3", LOG)
    with pytest.raises(JobError):
        finetune(replace(training("r2", batch=4, fits=1), retries=0), "4", Path("logs/r2.log"))

    finetune(replace(job, retries=3), "5", LOG)

    assert runs() == [16, 8, 4, 2]


def test_out_of_the_nodes_memory_is_learned_by_no_other_run() -> None:
    killed = "echo 'slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch.'; exit 1"
    finetune(training(body=f"[ $(wc -l < runs) -gt 1 ] || {{ {killed}; }}"), "3", LOG)
    finetune(training("r8"), "4", Path("logs/r8.log"))

    assert runs() == [8, 4, 8]


def test_epochs_that_cannot_be_gone_on_from_are_told() -> None:
    cut_off = "if [ $(wc -l < runs) -lt 2 ]; then mkdir -p r4/artifacts/epoch_1; kill $$; fi"
    finetune(training(body=cut_off), "3", LOG)

    assert runs() == [8, 8]
    details = "Cannot continue from the epochs in r4/artifacts: epoch_0 is missing"
    assert told() == [("RESUME_TRAINING", details, "Starting again from epoch 0")]


def test_a_training_that_is_asked_for_again_is_not_taken_from_what_is_there() -> None:
    job = training()
    finetune(job, "3", LOG)
    Path("r4/finetune.json").unlink()
    finetune(job, "4", LOG)
    assert runs() == [8], "it is there, only its record was gone"

    redo(job)
    finetune(job, "5", LOG)

    assert runs() == [8, 8]
    assert record()["job_id"] == "local-5"
    assert yaml.safe_load(CONFIG.read_text())["batch_size"] == 8


def test_what_was_made_again_is_taken_back_not_what_it_replaced() -> None:
    job = training()
    finetune(job, "3", LOG)
    redo(job)
    finetune(job, "5", LOG)
    finetune(replace(job, config={**job.config, "lr": 0.2}), "6", LOG)

    finetune(job, "7", LOG)

    assert runs() == [8, 8, 8]
    assert (record()["job_id"], record()["restored_by"]) == ("local-5", "local-7")


def test_an_unfinished_training_of_another_experiment_is_left_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    shared, other = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("other")
    (other / "experiment_summary.yaml").touch()
    job = replace(training(), output_dir=str(shared), checkpoints=[str(shared / "epoch_0")])
    begun = {"experiment": str(other), "job_id": "17", "config": job.config}
    (shared / "unfinished.json").write_text(json.dumps(begun))

    with pytest.raises(JobError, match="holds a training of"):
        finetune(job, "3", LOG)

    assert [path.name for path in shared.iterdir()] == ["unfinished.json"]
    assert not Path("runs").exists()


def test_what_a_result_is_made_with_is_found_out_beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it, the GPUs of the job would wait for git and nvidia-smi."""
    program = Path("bin/git")
    program.parent.mkdir()
    program.write_text(GIT.replace("HERE", str(Path().absolute())))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent.absolute()), prepend=":")
    finetune(training(body="until [ -e asked ]; do sleep 0.05; done"), "3", LOG)
    assert Path("asked").read_text().splitlines()[0] == "beside the script"
    assert record()["provenance"]["project"] is None
