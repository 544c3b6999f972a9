"""The jobs of earlier main processes, as this one goes on with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.errors import PassingError, SlurmError
from run_experiment.slurm.events import Event, Reattached, Unlogged
from run_experiment.slurm.ledger import Ledger, Logged, Submission
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.earlier.find import Queue, earlier_jobs, unlogged
from snakemake_executor_plugin_slurm_attached.earlier.outdated import cancel_outdated
from snakemake_executor_plugin_slurm_attached.ends.left_behind import is_made
from snakemake_executor_plugin_slurm_attached.following.ended import Ended
from snakemake_executor_plugin_slurm_attached.submissions import LONGEST_PAUSE, LOST, note_settled, output_of

Tell = Callable[[Event], None]


class EarlierJobs:
    """Jobs that earlier processes submitted, by target, until this one follows or submits a job for their targets.

    Those that ended meanwhile are logged, and kept only if their targets are to be made now. `queue` asks for the
    user's live jobs, `dag` is Snakemake's.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        ended: Ended,
        queue: Queue,
        dag: Any,
        tell: Tell,
        logger: logging.Logger,
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._ended = ended
        self._queue = queue
        self._dag = dag
        self._tell = tell
        self._logger = logger
        # None until they were looked for.
        self._jobs: dict[str, Earlier] | None = None
        # What the action logs had of them, by id.
        self._logged: dict[str, Logged] = {}

    @property
    def are_known(self) -> bool:
        """Whether they were looked for."""
        return self._jobs is not None

    @property
    def live(self) -> list[Submission]:
        """Those that wait or run, and that no job of this process has asked for, or not yet."""
        return [former.submission for former in (self._jobs or {}).values() if former.is_live]

    def take(self, target: str) -> Earlier | None:
        """The job for a target, once."""
        return self._jobs.pop(target, None) if self._jobs else None

    def logged(self, submission: Submission) -> Logged:
        """What the action logs had of a job when this process began."""
        return self._logged.get(str(submission.job_id), Logged())

    def look_for(self, stopping: threading.Event) -> None:
        """Find them, unless that is done; nothing is submitted before SLURM says how they are. Raises WorkflowError."""
        pause = 1.0
        while self._jobs is None:
            try:
                found = self._found()
            except PassingError as error:
                self._logger.warning(f"SLURM does not list the jobs, asking again in {pause:.0f} s: {error}")
                stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except OSError as error:
                raise WorkflowError(f"It is not known which jobs were submitted, so none is: {error}") from error
            else:
                self._jobs = self._conclude_ended(found)

    def settle(self) -> None:
        """Find them if there are any, in a session that may not submit a job."""
        try:
            self._jobs = self._conclude_ended(self._found())
        except (SlurmError, OSError) as error:
            self._logger.warning(f"Jobs that ended meanwhile are not logged yet: {error}")

    def has_unsettled(self) -> bool:
        """True if the ledger holds jobs whose ends may not be logged."""
        try:
            return bool(self._ledger.open() or self._ledger.unlogged())
        except OSError:
            # Said once a job is to be submitted.
            return False

    def give_up(self, former: Earlier) -> None:
        """Log how a job ended that left nothing, and have it never judged again."""
        self._tell(Unlogged(former.submission))
        self._log_state(former, former.state)

    def log_end(self, submission: Submission, known: AccountedJob | None = None, why: str = "") -> None:
        """Log how a job ended that is not followed, once accounting has its figures."""
        output = output_of(self._folder, submission)
        self._ended.add_unseen(submission, output, self.logged(submission), known, why)

    def log_withdrawn(self, submission: Submission, why: str) -> None:
        """Log that a job of several targets is not to make this one."""
        self._ended.add_withdrawn(submission, output_of(self._folder, submission), self.logged(submission), why)

    def _found(self) -> dict[str, Earlier]:
        """Those that the ledger and SLURM have now. Raises SlurmError, OSError."""
        self._logged = self._ledger.last_logged()
        earlier = earlier_jobs(self._folder, self._ledger, self._tell, self._queue)
        earlier |= cancel_outdated(self._folder, earlier, self._dag, self._tell)
        for submission in unlogged(self._folder, self._ledger):
            self._tell(Unlogged(submission))
            self.log_end(submission)
        return earlier

    def _conclude_ended(self, earlier: dict[str, Earlier]) -> dict[str, Earlier]:
        """Log jobs that ended while nothing followed them, unless their targets are made now; returns the others."""
        needed = {path for job in self._dag.needrun_jobs() for path in job.output}
        # SLURM may show a job as running for a while after it made its target.
        ended = {
            target: "COMPLETED" if made else former.state
            for target, former in earlier.items()
            if target not in needed and ((made := is_made(self._folder, former.submission)) or not former.is_live)
        }
        # All before the first end: with that, all that is known of would be complete.
        for target, state in ended.items():
            self._tell(Reattached(earlier[target].submission, state))
        for target, state in ended.items():
            self._log_state(earlier[target], state)
        return {target: former for target, former in earlier.items() if target not in ended}

    def _log_state(self, former: Earlier, state: str) -> None:
        submission = former.submission
        note_settled(self._ledger, submission, state or LOST)
        if state:
            self.log_end(submission, former.accounted)
        else:
            self._ended.add_forgotten(submission, output_of(self._folder, submission), self.logged(submission))
