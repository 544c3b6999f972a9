"""Jobs that wait for an epoch of a training, which is followed by itself: for them nothing is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from run_experiment.attempts.trainings import Sought, trained_epoch
from run_experiment.common.json_files import write_record
from snakemake_executor_plugin_slurm_attached.ends.left_behind import planned

# The rule of such jobs.
RULE = "await_epoch"


def sought_training(folder: Path, facts: Mapping[str, Any]) -> Sought:
    """How the training of a job is found in the experiment's `folder`; `facts` is the file it is started with."""
    return Sought(folder, facts["run"], facts["config"], facts["output_dir"], facts["checkpoints"])


class Epochs:
    """What became of the session's trainings, and whether their epochs are there; `folder` is the experiment's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What each training's job file says, by the path of that.
        self._facts: dict[str, dict[str, Any]] = {}
        # Whether trainings that ended succeeded, by their records.
        self._ended: dict[str, bool] = {}

    def note_end(self, job: JobExecutorInterface, succeeded: bool) -> None:
        """A job ended for this session."""
        self._ended |= dict.fromkeys(map(str, job.output), succeeded)

    def is_trained(self, job: JobExecutorInterface) -> bool | None:
        """Whether the epoch that a job waits for is there, whole; None while it may still come. Raises ValueError."""
        facts = self._read(str(job.params.job))
        epoch = int(Path(str(job.output[0])).stem.rpartition("_")[2])
        trained = trained_epoch(sought_training(self._folder, facts), epoch)
        ended = self._ended.get(facts["target"])
        if not trained and not ended:
            return ended
        write_record(self._folder / str(job.output[0]), trained or {})
        return True

    def _read(self, job_file: str) -> dict[str, Any]:
        if job_file not in self._facts:
            self._facts[job_file] = planned(self._folder, job_file)
        return self._facts[job_file]
