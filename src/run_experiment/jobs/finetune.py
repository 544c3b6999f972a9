"""The job of a fine-tune: run its script, see that every epoch left a checkpoint, write the record."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from run_experiment.attempts.saved import SAVED, saved_files, seconds_gone_on_from
from run_experiment.attempts.trainings import (
    KeptTraining,
    Sought,
    adopt,
    carry_over,
    conflict,
    files_in,
    folder_name,
    has_older_layout,
    is_own_link,
    kept_training,
    new_folder,
    place_in,
    select,
    trained_epoch,
    unfinished_training,
)
from run_experiment.common import paths
from run_experiment.common.files import Stamps, stamps
from run_experiment.common.json_files import read_record, write_record
from run_experiment.finetuning.metrics import METRICS_FILE, final_losses, read_pace
from run_experiment.finetuning.resume_state import JOB
from run_experiment.jobs.checks import JobError, failure, require_as_planned
from run_experiment.jobs.resume_training import Start, learning, plan_start
from run_experiment.jobs.run import Attempt, run_job_script, tried
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.jobscripts.own_recipe import trainer_in
from run_experiment.jobscripts.script_facts import script_facts
from run_experiment.machine.provenance import INSTALLED, told_installed, with_installed
from run_experiment.trainers.known import trainer_of


def finetune(job: FinetuneJob, local_id: str, log: Path) -> None:
    """Train a run, in the experiment folder. Raises JobError.

    A complete training of this configuration is restored, whether its record was lost or another configuration was
    trained since. An interrupted one resumes after its last complete epoch.
    """
    tried(job, "finetune", local_id, log, partial(_make, job))


def _make(job: FinetuneJob, current: Attempt) -> None:
    sought = Sought(Path(), job.run, job.config, job.output_dir, job.checkpoints)
    _carry_over(sought, Path(job.target))
    if kept := kept_training(sought):
        folder, record = kept.folder, _restore(sought, kept, current)
    else:
        folder, record = _train(job, current, sought)
    if record.get("checkpoints") != job.elsewhere:
        write_record(folder / paths.KEPT_RECORD, record)
    write_record(Path(job.target), record)
    if job.output_dir:
        for name in (paths.UNFINISHED, INSTALLED):
            (folder / name).unlink(missing_ok=True)
        trainer_of(job.config).drop_state(folder)


def _carry_over(sought: Sought, record: Path) -> None:
    """Rename what older versions left in or beside the output folder. Raises JobError, OSError."""
    if sought.output_dir and has_older_layout(sought):
        _require_own(sought)
        # Its checkpoints cannot be found for a moment.
        record.unlink(missing_ok=True)
        carry_over(sought)


def _restore(sought: Sought, kept: KeptTraining, current: Attempt) -> dict[str, Any]:
    """Select a complete training; return its record."""
    print(f"{sought.run} is already trained (job {kept.record['job_id']}): its record is restored", file=sys.stderr)
    _select(sought, kept.folder)
    # The follower of this job recognizes its end by this.
    own = {"restored_by": current.job_id, "allocation": current.allocation()}
    return {**kept.record, "checkpoints": sought.checkpoints, **own}


def _select(sought: Sought, folder: Path) -> None:
    """Make the output folder a link to a training's. Raises JobError, OSError."""
    if sought.output_dir is None:
        return
    if sought.current != folder:
        _require_own(sought)
    select(sought, folder)


def _require_own(sought: Sought) -> None:
    """The output folder must not be in use by another experiment, nor hold the run's other files. Raises JobError."""
    if why := conflict(sought):
        raise JobError(why)


def _train(job: FinetuneJob, current: Attempt, sought: Sought) -> tuple[Path, dict[str, Any]]:
    """Train; return the folder of the training and its record."""
    require_as_planned(job)
    script = script_facts(Path(job.script), Path(job.folder))
    # Before anything else: an old record beside new checkpoints would describe the wrong training.
    Path(job.target).unlink(missing_ok=True)
    trainer = trainer_in(Path(job.script)) if job.output_dir else None
    unfinished = unfinished_training(sought) if trainer else None
    folder = _begin(sought, unfinished)
    start = plan_start(job, trainer, current, folder, unfinished is not None) if trainer else Start()
    _withdraw(job, sought, start.trained)
    samples = folder / paths.GPU_METRICS
    if not start.trained:
        # It describes an attempt that this one does not resume.
        (folder / INSTALLED).unlink(missing_ok=True)
    places = [place_in(folder, sought.output, Path(one)) for one in sought.checkpoints]
    before = stamps(path for place in (*places, *map(Path, job.elsewhere)) for path in files_in(place))
    current.begin(**{SAVED: saved_files(Path(), job.output_dir, job.checkpoints)})
    with learning(current, start):
        environment = {JOB: current.job_id, **start.environment(current.folder)}
        ended = run_job_script(job, script, current, environment, samples)
        if ended.failed:
            raise ended.failed
    folder = _folder_written(sought, folder)
    checkpoints = _written_checkpoints(sought, job.elsewhere, (current.log, folder, before), start.trained)
    record = current.record()
    facts = {
        "provenance": with_installed(record["provenance"], told_installed(folder)),
        "checkpoints": checkpoints,
        **_epochs([place_in(folder, sought.output, Path(one)) for one in checkpoints]),
        "changes": start.changed_sizes,
        **_earlier_seconds(current, start),
        **_losses(folder),
        **_speed(folder),
        **ended.gpu,
    }
    return folder if job.output_dir else sought.output, record | facts


def _withdraw(job: FinetuneJob, sought: Sought, trained: int) -> None:
    """Let epochs that are trained again count as not trained, and not verified: evaluations may be waiting for them."""
    for epoch in range(trained, len(job.checkpoints)):
        if trained_epoch(sought, epoch):
            (Path(job.checkpoints[epoch]) / paths.TRAINED).unlink()
            Path(paths.manifest(job.run, epoch)).unlink(missing_ok=True)


def _begin(sought: Sought, unfinished: Path | None) -> Path:
    """Select the folder to train in; without an output folder, only samples and versions go there."""
    if sought.output_dir is None:
        return Path(f"{sought.run}/artifacts")
    folder = unfinished or new_folder(sought)
    _select(sought, folder)
    # An unfinished training must not have the record of a finished one.
    (folder / paths.KEPT_RECORD).unlink(missing_ok=True)
    return folder


def _folder_written(sought: Sought, folder: Path) -> Path:
    """The folder that the script wrote to: it may have removed the link, and made a folder in its place."""
    is_replaced = sought.output_dir and sought.output.is_dir() and not is_own_link(sought)
    return adopt(sought, folder_name(sought.beside, sought.run, sought.config)) if is_replaced else folder


def _written_checkpoints(
    sought: Sought, elsewhere: list[str], written: tuple[Path, Path, Stamps], trained: int
) -> list[str]:
    """Folders of the checkpoints, one an epoch, all but the first `trained` written by this job. Raises JobError.

    `written` are its log, the folder that it wrote to, and the checkpoints' files as they were before.
    """
    log, folder, before = written
    # Not through the link, which another job may have changed.
    places = {one: place_in(folder, sought.output, Path(one)) for one in sought.checkpoints}
    wrong = _find_fault(places, before, trained)
    if wrong and elsewhere:
        if not (also_wrong := _find_fault({one: Path(one) for one in elsewhere}, before)):
            return elsewhere
        wrong = f"{wrong}, and {also_wrong}"
    if wrong:
        raise JobError(failure(wrong, log))
    return sought.checkpoints


def _find_fault(checkpoints: Mapping[str, Path], before: Stamps, trained: int = 0) -> str | None:
    """What is wrong with checkpoints, given their places by their names, and their files as they were before.

    That a file was written shows in its stamp being another one: a file server's clock may differ from ours.
    """
    for epoch, (name, place) in enumerate(checkpoints.items()):
        files = files_in(place)
        if not files:
            return f"{name} was not written"
        if epoch >= trained and all(before.get(path) == stamp for path, stamp in stamps(files).items()):
            return f"{name} is older than the training"
    return None


def _epochs(checkpoints: Sequence[Path]) -> dict[str, Any]:
    """Which job trained each epoch, and when; nothing if no epoch says so."""
    found = [read_record(checkpoint / paths.TRAINED) or {} for checkpoint in checkpoints]
    return {"epochs": found} if any(found) else {}


def _earlier_seconds(current: Attempt, start: Start) -> dict[str, float]:
    """Seconds of the attempts that this one went on from, which its own do not hold; nothing if it began anew."""
    if start.resumed is None:
        return {}
    return {"earlier_seconds": round(seconds_gone_on_from(current.earlier, current.begun[SAVED]), 1)}


def _losses(folder: Path) -> dict[str, Any]:
    try:
        return {"losses": final_losses(folder / METRICS_FILE)}
    # Missing, or written by another trainer.
    except (OSError, ValueError, csv.Error):
        return {"losses": {}}


def _speed(folder: Path) -> dict[str, float]:
    """Tokens per second of its last steps, for estimates; nothing if it had too few."""
    pace = read_pace(folder / METRICS_FILE)
    return {"tokens_per_second": pace.tokens_per_second} if pace and pace.tokens_per_second else {}
