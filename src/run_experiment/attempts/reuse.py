"""Results of other experiments that are taken instead of made: of the same configuration, and complete.

What is taken of a training is a folder of links beside the run's own trainings, from where it is restored like an
earlier training of the run; of an evaluation, its log, in its place. The record says where each is from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from run_experiment.attempts.trainings import KeptTraining, Sought, complete_in, new_folder
from run_experiment.common import paths
from run_experiment.common.json_files import Config, config_hash, mapping, read_record, short_hash, write_record
from run_experiment.experiment.records import read_training
from run_experiment.inputs.data_files import DataError
from run_experiment.inputs.file_hashes import file_facts, file_hash


@dataclass(frozen=True)
class OfferedEvaluation:
    """An evaluation of another experiment, with its record and its log."""

    experiment: Path
    run: str
    cell: str
    record: dict[str, Any]

    @property
    def log(self) -> Path:
        """Its log in that experiment."""
        return self.experiment / paths.eval_log(self.run, self.cell)

    @property
    def job_id(self) -> str:
        """The job that made it."""
        return str(self.record.get("job_id"))

    @property
    def log_hash(self) -> str | None:
        """SHA-256 of the log that its job judged; None if the record is older than such hashes."""
        return mapping(self.record.get("log")).get("sha256")

    @property
    def why(self) -> str:
        """Why it is not made here."""
        return f"evaluated by job {self.job_id} of {self.experiment}, from where it is taken"


class OtherExperiments:
    """Experiments from which results may be taken; what is in their folders is read when it is first asked for."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders

    def training(self, sought: Sought) -> KeptTraining | None:
        """The newest complete training of this configuration."""
        if sought.output_dir is None:
            return None
        # The names that a configuration gives to the folders of its trainings.
        candidates = (folder for home in self._homes for folder in home.glob(f"*{short_hash(sought.config)}*"))
        found = (complete_in(sought, folder) for folder in candidates)
        return max((kept for kept in found if kept), key=lambda kept: str(kept.record.get("ended")), default=None)

    def evaluation(self, config: Config) -> OfferedEvaluation | None:
        """The newest evaluation of this configuration, with its checkpoint, whose log is the one of its record."""
        found = (_offered(*place) for place in self._evaluations.get(config_hash(config), ()))
        whole = (one for one in found if one and _has_its_log(one))
        return max(whole, key=lambda one: str(one.record.get("ended")), default=None)

    @cached_property
    def _homes(self) -> list[Path]:
        """Folders of trainings, also those outside of the experiment that hold a training of now."""
        found: dict[Path, None] = {}
        for folder in self.folders:
            for pattern in (f"*/{paths.TRAININGS}", f"*/*/{paths.TRAININGS}"):
                found |= dict.fromkeys(folder.glob(pattern))
            for path in folder.glob(paths.finetune_record("*")):
                made = read_training(path)
                places = [folder / one for one in made.checkpoints] if made else []
                found |= dict.fromkeys(place.parent.parent / paths.TRAININGS for place in places)
        return list(found)

    @cached_property
    def _evaluations(self) -> Mapping[str, list[tuple[Path, str]]]:
        """Folders and the paths of records in them, by the hash of their configuration."""
        found: dict[str, list[tuple[Path, str]]] = {}
        for folder in self.folders:
            for path in folder.glob(paths.eval_record("*", "*")):
                config = mapping((read_record(path) or {}).get("config"))
                found.setdefault(config_hash(config), []).append((folder, str(path.relative_to(folder))))
        return found


def _offered(experiment: Path, path: str) -> OfferedEvaluation | None:
    record = read_record(experiment / path)
    return OfferedEvaluation(experiment, *paths.target_of(path), record) if record else None


def _has_its_log(evaluation: OfferedEvaluation) -> bool:
    try:
        return evaluation.log_hash == file_hash(evaluation.log)
    except DataError:
        return False


def take_training(sought: Sought, offered: KeptTraining) -> Path:
    """Link a training of another experiment into a folder of this one's trainings; returns the folder. Raises OSError.

    An interruption leaves nothing that counts.
    """
    folder = new_folder(sought)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    source = {"experiment": offered.record.get("experiment"), "run": offered.record.get("run")}
    try:
        shutil.copytree(offered.folder, beside, copy_function=_link)
        record = beside / paths.KEPT_RECORD
        # Else writing would go through the link.
        record.unlink()
        write_record(record, _taken(offered.record, sought.experiment, sought.run, source))
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def take_evaluation(experiment: Path, run: str, cell: str, offered: OfferedEvaluation) -> None:
    """Put an evaluation of another experiment in the place of one of this one. Raises OSError.

    Its log is copied: a log may be scored anew in its place. An interruption leaves nothing that counts: the record is
    written last.
    """
    log, record = experiment / paths.eval_log(run, cell), experiment / paths.eval_record(run, cell)
    beside = log.with_name(f".{log.name}.{os.getpid()}.tmp")
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(offered.log, beside)
        facts = file_facts(beside)
        if facts["sha256"] != offered.log_hash:
            raise OSError(f"{offered.log} was replaced while this run was being planned. Start again.")
        # An old record beside a new log would say that it is of another evaluation.
        record.unlink(missing_ok=True)
        beside.replace(log)
    finally:
        beside.unlink(missing_ok=True)
    source = {"experiment": str(offered.experiment), "run": offered.run, "cell": offered.cell}
    write_record(record, {**_taken(offered.record, experiment, run, source), "log": facts})


def _link(source: str, target: str) -> None:
    """A hard link, so that removing the other experiment takes nothing; to another file system a symbolic one."""
    try:
        os.link(source, target)
    except OSError:
        os.symlink(os.path.abspath(source), target)


def _taken(record: Mapping[str, Any], experiment: Path, run: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a result of another experiment that was taken from `source`."""
    provenance = mapping(record.get("provenance"))
    # It may have been taken itself.
    made = provenance.get("taken_from", source)
    own = {"experiment": str(experiment.absolute()), "run": run}
    return {**record, **own, "provenance": {**provenance, "taken_from": made}}
