"""The job of a fine-tune: run its script, see that every epoch left a checkpoint, write the record."""

from __future__ import annotations

import csv
import errno
import glob
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from run_experiment import layout
from run_experiment.attempts import is_since
from run_experiment.finetune_start import is_unfinished, learning, plan_start
from run_experiment.finetuning.metrics import METRICS_FILE, final_losses
from run_experiment.finetuning.progress import drop_state
from run_experiment.jobs import (
    Job,
    JobError,
    failure,
    gpu_facts,
    require_as_planned,
    require_unchanged,
    unused,
)
from run_experiment.provenance import INSTALLED, with_installed
from run_experiment.records import read_record, same_config, write_record
from run_experiment.tries import Attempt, run_job_script, tried


@dataclass(frozen=True)
class FinetuneJob(Job):
    """A fine-tune: its data file (absolute) and the folders of its checkpoints, one an epoch.

    `output_dir` is the folder that torchtune writes all of them to, None where another tool's script has its own way.
    `elsewhere` are the folders that another tool's script may write its checkpoints to instead.
    """

    data: str
    checkpoints: list[str]
    output_dir: str | None
    elsewhere: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> dict[str, int]:
        """The seed of adapters, dropout and the order of the data."""
        seed = self.config.get("hyperparameters", {}).get("seed")
        return {} if seed is None else {"training": seed}


def finetune(job: FinetuneJob, local_id: str, log: Path) -> None:
    """Train a run, in the experiment folder. Raises JobError.

    A training that lies there whole is not done again: where only its record got lost, or where it was set aside for
    another configuration that is now taken back. One that was cut off goes on from its last whole epoch.
    """
    tried(job, "finetune", local_id, log, partial(_make, job))


def _make(job: FinetuneJob, current: Attempt) -> None:
    if record := _restored(job):
        print(f"{job.run} is already trained (job {record['job_id']}): its record is restored", file=sys.stderr)
        # Who follows this job knows its end by this.
        record = {**record, "restored_by": current.job_id}
    else:
        record = _train(job, current)
    if record.get("checkpoints") != job.elsewhere:
        write_record(_kept_record(job), record)
    write_record(Path(job.target), record)
    if job.output_dir:
        for name in (layout.UNFINISHED, INSTALLED):
            (Path(job.output_dir) / name).unlink(missing_ok=True)
        drop_state(Path(job.output_dir))


def _train(job: FinetuneJob, current: Attempt) -> dict[str, Any]:
    for split, facts in job.config["data"].items():
        require_unchanged(Path(job.data), split, facts["sha256"])
    require_as_planned(job)
    # First of all: an old record beside new checkpoints would say that they are of another training.
    Path(job.target).unlink(missing_ok=True)
    goes_on = is_unfinished(job) and not _other_owner(job, _maker(job))
    if goes_on:
        # Of a training that is gone on with there is none yet.
        _kept_record(job).unlink(missing_ok=True)
    else:
        _set_aside(job)
    start = plan_start(job, current, goes_on)
    artifacts = Path(job.output_dir or f"{job.run}/artifacts")
    samples, installed = artifacts / layout.GPU_METRICS, artifacts / INSTALLED
    # Of the try before this one.
    installed.unlink(missing_ok=True)
    with learning(job, current, start):
        run_job_script(job, current, start.environment(current.folder), samples)
    checkpoints = _written_checkpoints(job, current, start.trained)
    record = current.record(job)
    return {
        **record,
        "provenance": with_installed(record["provenance"], read_record(installed) or {}),
        "checkpoints": checkpoints,
        "changes": start.changed_sizes,
        **_results(job),
        **gpu_facts(samples),
    }


def _kept_record(job: FinetuneJob) -> Path:
    """A copy of the record beside the checkpoints: Snakemake removes a target before it makes it again."""
    return Path(job.output_dir or job.checkpoints[-1]) / layout.KEPT_RECORD


def _restored(job: FinetuneJob) -> dict[str, Any] | None:
    """Record of a training of this configuration that is whole, now in its place again."""
    if record := _whole(job, _kept_record(job).parent):
        return record
    whole = [(record, folder) for folder in _aside(job) if (record := _whole(job, folder))]
    if not whole:
        return None
    # One that was made again is newer than the one that it replaced.
    record, folder = max(whole, key=lambda one: str(one[0].get("ended")))
    Path(job.target).unlink(missing_ok=True)
    _set_aside(job)
    try:
        Path(str(job.output_dir)).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(str(job.output_dir))
    # On another file system than what is asked for now.
    except OSError:
        return None
    return {**record, "checkpoints": job.checkpoints}


def _aside(job: FinetuneJob) -> list[Path]:
    """Folders of earlier trainings of the run, where `_set_aside` puts them."""
    if job.output_dir is None:
        return []
    output = Path(job.output_dir)
    beside = [(folder, _made_in(folder)) for folder in output.parent.glob(f"{glob.escape(output.name)}.*")]
    # Another run's output folder may have such a name, too.
    own = [folder for folder, made in beside if made.get("run") == job.run and not _other_owner(job, made)]
    return [*Path(layout.attempts(job.run)).glob("*.artifacts*"), *own]


def _whole(job: FinetuneJob, folder: Path) -> dict[str, Any] | None:
    """Record in a folder of a training of this configuration, if its checkpoints are there too."""
    kept = read_record(folder / layout.KEPT_RECORD)
    if not kept or not same_config(kept.get("config"), job.config) or not is_since(kept.get("redo"), job.redo):
        return None
    own = job.output_dir or str(folder)
    return kept if all(_files(checkpoint.replace(own, str(folder), 1)) for checkpoint in job.checkpoints) else None


def _set_aside(job: FinetuneJob) -> None:
    """Keep what an earlier training left: it is never mixed with the new one, nor lost."""
    output = Path(job.output_dir) if job.output_dir else None
    if output is None or not output.exists():
        return
    if owner := _other_owner(job, _maker(job)):
        raise JobError(f"{output} holds a training of {owner}: set an output.base_directory of this experiment's own")
    maker = _maker(job).get("job_id", "unfinished")
    try:
        output.rename(unused(Path(layout.attempts(job.run)) / f"{maker}.artifacts"))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On another file system: it stays there, under another name.
        output.rename(unused(output.with_name(f"{output.name}.{maker}")))


def _maker(job: FinetuneJob) -> dict[str, Any]:
    """Record of the training whose checkpoints lie where this one's are to lie, finished or not."""
    return _made_in(_kept_record(job).parent)


def _made_in(folder: Path) -> dict[str, Any]:
    return read_record(folder / layout.KEPT_RECORD) or read_record(folder / layout.UNFINISHED) or {}


def _other_owner(job: FinetuneJob, made: Mapping[str, Any]) -> str | None:
    """The other experiment whose training, by its record, lies in a folder that both share."""
    owner, here = made.get("experiment"), Path.cwd()
    if not owner or Path(owner) == here or Path(str(job.output_dir)).resolve().is_relative_to(here):
        return None
    return str(owner) if (Path(owner) / layout.SUMMARY).exists() else None


def _written_checkpoints(job: FinetuneJob, current: Attempt, trained: int) -> list[str]:
    """Folders of the checkpoints: every epoch must have left one, younger than the job but for the first `trained`."""
    wrong = _what_is_wrong(job.checkpoints, current, trained)
    if wrong and job.elsewhere:
        if not (also_wrong := _what_is_wrong(job.elsewhere, current)):
            return job.elsewhere
        wrong = f"{wrong}, and {also_wrong}"
    if wrong:
        raise JobError(failure(wrong, current.log))
    return job.checkpoints


def _what_is_wrong(checkpoints: Sequence[str], current: Attempt, trained: int = 0) -> str | None:
    for epoch, checkpoint in enumerate(checkpoints):
        files = _files(checkpoint)
        if not files:
            return f"{checkpoint} was not written"
        if epoch >= trained and max(path.stat().st_mtime for path in files) < current.started.timestamp() - 1:
            return f"{checkpoint} is older than the training"
    return None


def _files(checkpoint: str) -> list[Path]:
    return [path for path in Path(checkpoint).glob("*") if path.is_file()]


def _results(job: FinetuneJob) -> dict[str, Any]:
    try:
        return {"losses": final_losses(Path(job.output_dir or "") / METRICS_FILE)}
    # There is none, or it is of another trainer.
    except (OSError, ValueError, csv.Error):
        return {"losses": {}}
