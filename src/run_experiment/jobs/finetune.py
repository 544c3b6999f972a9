"""The job of a fine-tune: run its script, see that every epoch left a checkpoint, write the record."""

from __future__ import annotations

import csv
import errno
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from run_experiment.attempts.kept_trainings import (
    Sought,
    files_in,
    is_unfinished,
    kept_training,
    made_in,
    other_owner,
    unfinished_aside,
)
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.finetuning.metrics import METRICS_FILE, final_losses
from run_experiment.finetuning.resume_state import drop_state
from run_experiment.jobs.checks import JobError, failure, gpu_facts, require_as_planned, require_unchanged, unused
from run_experiment.jobs.own_recipe import runs_our_recipe
from run_experiment.jobs.resume_training import learning, plan_start
from run_experiment.jobs.run import Attempt, run_job_script, tried
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.machine.provenance import INSTALLED, told_installed, with_installed


def finetune(job: FinetuneJob, local_id: str, log: Path) -> None:
    """Train a run, in the experiment folder. Raises JobError.

    A complete training of this configuration is restored, whether only its record was lost or it was set aside for
    another configuration. An interrupted one resumes after its last complete epoch.
    """
    tried(job, "finetune", local_id, log, partial(_make, job))


def _make(job: FinetuneJob, current: Attempt) -> None:
    if record := _restore(job):
        print(f"{job.run} is already trained (job {record['job_id']}): its record is restored", file=sys.stderr)
        # The follower of this job recognizes its end by this.
        record = {**record, "restored_by": current.job_id}
    else:
        record = _train(job, current)
    if record.get("checkpoints") != job.elsewhere:
        write_record(_kept_record(job), record)
    write_record(Path(job.target), record)
    if job.output_dir:
        for name in (paths.UNFINISHED, INSTALLED):
            (Path(job.output_dir) / name).unlink(missing_ok=True)
        drop_state(Path(job.output_dir))


def _train(job: FinetuneJob, current: Attempt) -> dict[str, Any]:
    for split, facts in job.config["data"].items():
        require_unchanged(Path(job.data), split, facts["sha256"])
    require_as_planned(job)
    # Before anything else: an old record beside new checkpoints would describe the wrong training.
    Path(job.target).unlink(missing_ok=True)
    resumes = _find_unfinished(job)
    if resumes:
        # An unfinished training must not have the record of a finished one.
        _kept_record(job).unlink(missing_ok=True)
    else:
        _set_aside(job)
    start = plan_start(job, current, resumes)
    artifacts = Path(job.output_dir or f"{job.run}/artifacts")
    samples = artifacts / paths.GPU_METRICS
    if not start.trained:
        # It describes an attempt that this one does not resume.
        (artifacts / INSTALLED).unlink(missing_ok=True)
    with learning(job, current, start):
        run_job_script(job, current, start.environment(current.folder), samples)
    checkpoints = _written_checkpoints(job, current, start.trained)
    record = current.record(job)
    return {
        **record,
        "provenance": with_installed(record["provenance"], told_installed(artifacts)),
        "checkpoints": checkpoints,
        "changes": start.changed_sizes,
        **_results(job),
        **gpu_facts(samples),
    }


def _find_unfinished(job: FinetuneJob) -> bool:
    """Move an unfinished training of this configuration to its output folder if it was set aside; False if none."""
    if job.output_dir is None or not runs_our_recipe(Path(job.script)):
        return False
    sought = _sought(job)
    if is_unfinished(sought, sought.folder):
        return not _other_owner(job)
    if aside := unfinished_aside(sought):
        _put_back(job, aside)
    return aside is not None


def _put_back(job: FinetuneJob, aside: Path) -> None:
    """Move a training that was set aside to its output folder. Raises OSError."""
    Path(job.target).unlink(missing_ok=True)
    _set_aside(job)
    folder = _sought(job).folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # From another file system: copy under another name first, so that a partial copy is never used.
        copied = unused(folder.with_name(f".{folder.name}.copy"))
        shutil.copytree(aside, copied, symlinks=True)
        copied.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)


def _kept_record(job: FinetuneJob) -> Path:
    """Path of the record's copy beside the checkpoints: Snakemake removes a target before making it again."""
    return _sought(job).folder / paths.KEPT_RECORD


def _restore(job: FinetuneJob) -> dict[str, Any] | None:
    """Move a complete training of this configuration to its output folder; return its record, None if none."""
    sought = _sought(job)
    if not (kept := kept_training(sought)):
        return None
    if kept.folder == sought.folder:
        return kept.record
    _put_back(job, kept.folder)
    return {**kept.record, "checkpoints": job.checkpoints}


def _sought(job: FinetuneJob) -> Sought:
    """The training that this job asks for."""
    return Sought(Path(), job.run, job.config, job.redo, job.output_dir, job.checkpoints)


def _set_aside(job: FinetuneJob) -> None:
    """Move the output of an earlier training out of the way: neither mixed with the new one nor lost."""
    output = Path(job.output_dir) if job.output_dir else None
    if output is None or not output.exists():
        return
    if owner := _other_owner(job):
        raise JobError(f"{output} holds a training of {owner}: set an output.base_directory of this experiment's own")
    maker = _record_in_output(job).get("job_id", "unfinished")
    try:
        output.rename(unused(Path(paths.attempts(job.run)) / f"{maker}.artifacts"))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On another file system: renamed there.
        output.rename(unused(output.with_name(f"{output.name}.{maker}")))


def _record_in_output(job: FinetuneJob) -> dict[str, Any]:
    """Record of the training in this job's output folder, finished or not."""
    return made_in(_sought(job).folder)


def _other_owner(job: FinetuneJob) -> str | None:
    """The other experiment whose training is in this job's output folder, if any."""
    return other_owner(_sought(job), _record_in_output(job))


def _written_checkpoints(job: FinetuneJob, current: Attempt, trained: int) -> list[str]:
    """Folders of the checkpoints, one an epoch, all but the first `trained` written by this job. Raises JobError."""
    wrong = _find_fault(job.checkpoints, current, trained)
    if wrong and job.elsewhere:
        if not (also_wrong := _find_fault(job.elsewhere, current)):
            return job.elsewhere
        wrong = f"{wrong}, and {also_wrong}"
    if wrong:
        raise JobError(failure(wrong, current.log))
    return job.checkpoints


def _find_fault(checkpoints: Sequence[str], current: Attempt, trained: int = 0) -> str | None:
    for epoch, checkpoint in enumerate(checkpoints):
        files = files_in(Path(checkpoint))
        if not files:
            return f"{checkpoint} was not written"
        if epoch >= trained and max(path.stat().st_mtime for path in files) < current.started.timestamp() - 1:
            return f"{checkpoint} is older than the training"
    return None


def _results(job: FinetuneJob) -> dict[str, Any]:
    try:
        return {"losses": final_losses(Path(job.output_dir or "") / METRICS_FILE)}
    # Missing, or written by another trainer.
    except (OSError, ValueError, csv.Error):
        return {"losses": {}}
