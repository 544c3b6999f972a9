"""Trainings that are kept, restored and resumed: each has the folder of its configuration."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_jobs import LOCK, LOG, RECORD, TRAIN, files, finetune, folder_of, read, weights, write_script

from run_experiment.jobs.checks import JobError
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.machine.processes import locked


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
