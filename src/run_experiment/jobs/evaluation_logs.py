"""Where the log of an evaluation's attempt may appear, which one it is, and how it is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from run_experiment.attempts import history
from run_experiment.common import paths
from run_experiment.evaluation.continuing import recovered
from run_experiment.evaluation.eval_log import EvalError
from run_experiment.evaluation.find_log import Logs, Wanted, log_folders, logs_in, own_logs, tag, tagged
from run_experiment.inputs.task_signature import registered_name
from run_experiment.jobs.run import Attempt
from run_experiment.jobs.specs import EvaluationJob


@dataclass(frozen=True)
class Search:
    """Where the log of an attempt may appear, and what lay there before; `usual` is the place of the evaluation's log.

    A log of this evaluation carries the tag in `wanted`.
    """

    wanted: Wanted
    attempt: Path
    usual: Path
    folders: tuple[Path, ...]
    trees: tuple[Path, ...]
    before: Logs

    def found(self) -> list[Path]:
        """Logs that the attempt's script left, oldest first. Raises EvalError."""
        return own_logs(self.wanted, self.attempt, self.before, logs_in(self.folders, self.trees))

    def leaves_any(self) -> bool:
        """Whether there are logs that the attempt's script may have left."""
        try:
            return bool(self.found())
        # There are some that do not tell whose they are.
        except EvalError:
            return True

    def for_tag(self, known: str | None) -> Search:
        """The same search, for logs that carry the tag of an earlier attempt."""
        return replace(self, wanted=replace(self.wanted, tag=known)) if known else self

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Where what is done meanwhile fails, keep what logs it left with the attempt."""
        try:
            yield
        except BaseException:
            with suppress(EvalError, OSError):
                for log in self.found():
                    self._keep(log, self.attempt)
            raise

    def left_by(self, earlier: history.Attempt) -> list[Path]:
        """Logs of an earlier attempt, oldest first, all that can be had of them now in its folder. Raises OSError."""
        own = earlier.folder.resolve()
        there = {path: stamp for path, stamp in logs_in([own]).items() if path.parent == own}
        if not there and (known := earlier.begun.get("tag")) and earlier.began:
            began = int(earlier.began.timestamp()) * 10**9
            new = {path: at for path, at in self.before.items() if at[0] >= began}
            there = {path: new[path] for path in tagged(new, str(known))}
        logs = sorted(there, key=lambda path: there[path])
        for log in logs:
            self._keep(log, own)
        return [own / log.name for log in logs]

    def _keep(self, log: Path, folder: Path) -> None:
        if not recovered(log, folder):
            put(log, folder / log.name, own=(self.usual.parent,))


def search(job: EvaluationJob, current: Attempt) -> Search:
    """A search for the log of an attempt's script, which has not begun."""
    here, function = Path.cwd(), job.config["task"].get("function")
    wanted = Wanted(
        tag=tag(f"{current.job_id}:{uuid4().hex}"),
        function=registered_name(Path(job.task), function) if function else None,
        epoch=job.epoch,
        models=tuple(here / model for model in job.models),
        experiment=here,
        cell=here / paths.eval_folder(job.run) / job.cell,
    )
    # Where inspect-ai writes by itself: beside where it is started.
    usual = [here / job.folder / "logs", (here / job.script).parent / "logs", here / job.run / "logs", here / "logs"]
    text = Path(job.script).read_text(encoding="utf-8", errors="replace")
    submitted = {**os.environ, "SLURM_SUBMIT_DIR": str(here / job.folder)}
    ids = dict.fromkeys(one.job_id for one in current.earlier(job))
    # A script may name the folder by its job, and those of earlier attempts had ids of their own.
    each = [submitted, *({**submitted, "SLURM_JOB_ID": job_id} for job_id in ids)]
    given = [folder for environment in each for folder in log_folders(text, here / job.folder, environment)]
    folders, trees = (current.folder, *given, *usual), (here / paths.eval_folder(job.run),)
    return Search(
        wanted, current.folder, Path(paths.eval_log(job.run, job.cell)), folders, trees, logs_in(folders, trees)
    )


def put(log: Path, target: Path, own: tuple[Path, ...]) -> None:
    """Put a log in a place: from folders of our own it is moved; elsewhere another tool may read it, so it stays."""
    if log == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(log.parent == folder.resolve() for folder in own):
        log.replace(target)
        return
    beside = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(log, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
