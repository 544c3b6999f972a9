"""The executor: what differs from the SLURM executor that it extends."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake.settings.enums import Quietness
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from run_experiment.attempts.files import forget_not_submitted, note_not_submitted
from run_experiment.jobscripts.sbatch_lines import SbatchError
from run_experiment.machine.allocation import own_allocation
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.client_process import cluster_variables
from run_experiment.slurm.errors import SlurmError
from run_experiment.slurm.events import (
    RECORD_ATTRIBUTE,
    Cancelled,
    Detached,
    Event,
    Finished,
    QueueFull,
    Reattached,
    Refused,
)
from run_experiment.slurm.job_ids import slurm_id
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier, Fate
from snakemake_executor_plugin_slurm_attached.earlier.jobs import EarlierJobs
from snakemake_executor_plugin_slurm_attached.ends.left_behind import planned
from snakemake_executor_plugin_slurm_attached.ends.verdict import End, verdict
from snakemake_executor_plugin_slurm_attached.epochs import RULE as EPOCH_RULE
from snakemake_executor_plugin_slurm_attached.epochs import Epochs
from snakemake_executor_plugin_slurm_attached.following.follower import Follower
from snakemake_executor_plugin_slurm_attached.interrupts import Interrupts
from snakemake_executor_plugin_slurm_attached.messages import level, message
from snakemake_executor_plugin_slurm_attached.settings import CANCEL
from snakemake_executor_plugin_slurm_attached.submissions import (
    OUTPUTS,
    cancel,
    dated,
    note_settled,
    output_of,
    planned_submission,
)
from snakemake_executor_plugin_slurm_attached.submitting.arguments import call_for, overrides
from snakemake_executor_plugin_slurm_attached.submitting.pacing import Pacing
from snakemake_executor_plugin_slurm_attached.submitting.sharing import (
    in_folder,
    sbatch_arguments,
    sbatch_script,
    share_of,
)
from snakemake_executor_plugin_slurm_attached.submitting.submitter import Request, Submitter

# Seconds between two looks at records.
_LOOK = 1
# Seconds for which the end waits for what accounting has of the last jobs.
_LATE_FIGURES = 30
# Names a file of partitions for the SLURM executor.
_PARTITIONS = "SNAKEMAKE_SLURM_PARTITIONS"
# What Snakemake says of every interrupt; of ours it is not true.
_NOT_TRUE = "Terminating processes on user request"


class Executor(SlurmExecutor):  # type: ignore[misc]
    """Submits jobs to SLURM, follows them, leaves them alone when it ends, and finds them again."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        """Keep what of SLURM is in the environment: the SLURM executor removes it in an allocation."""
        self._allocation = own_allocation()
        self._cluster = cluster_variables(os.environ)
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        """Begin with no job; those of an earlier process are looked for when the first one is wanted."""
        os.environ.update(self._cluster)
        super().__post_init__(test_mode)
        settings = self.workflow.executor_settings
        # Absolute: jobs start elsewhere.
        self._folder = Path.cwd()
        # The logger plugin has lines of its own if Snakemake is to be quiet about rules.
        self._speaks = Quietness.RULES not in (self.workflow.output_settings.quiet or ())
        self._jobs: dict[str, JobExecutorInterface] = {}
        # What each job file says, by target, as above.
        self._facts: dict[str, dict[str, Any]] = {}
        self._ledger = Ledger(self._folder / LEDGER)
        # Whether jobs were to be run.
        self._has_begun = False
        self._ends: dict[str | None, End] = {}
        # How often each target was submitted again.
        self._retried: Counter[str] = Counter()
        # Those whose jobs were on their way out of the queue when they were found.
        self._leaving: set[str] = set()
        # Those that this command cancelled, by SLURM's ids.
        self._cancelled: set[str] = set()
        self._epochs = Epochs(self._folder)
        self._interrupts = Interrupts()
        latency = self.workflow.execution_settings.latency_wait
        self._follower = Follower(self._folder, settings.poll_seconds, settings.lost_seconds, latency, self._tell)
        self._pacing = Pacing(
            settings.max_queued,
            settings.poll_seconds,
            lambda: set(map(slurm_id, self._follower.jobs)),
            lambda number: self._tell(QueueFull(number)),
            self._allocation,
        )
        self._earlier = EarlierJobs(
            self._folder,
            self._ledger,
            self._follower.ended,
            self._pacing.queue,
            self.workflow.dag,
            self._tell,
            self.logger,
        )
        self._submitter = Submitter(
            self._folder, self._ledger, self._pacing, self._follow, self._refused, self._earlier.log_end, self._tell
        )
        self.next_seconds_between_status_checks = _LOOK
        if os.environ.get(_PARTITIONS):
            self.logger.warning(f"{_PARTITIONS} is not used: partitions are those of job scripts and profiles")
        if not len(self.workflow.dag):
            self._settle_without_jobs()

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Follow those that an earlier process submitted; let the others wait for their turn."""
        if not self._has_begun:
            self._has_begun = True
            self._interrupts.install()
            self.logger.addFilter(self._is_true)
        self._earlier.look_for(self._pacing.stopping)
        with self._submitter.gathering:
            # In the order of the experiment.
            for job in sorted(jobs, key=lambda job: int(job.jobid)):
                self.run_job_pre(job)
                # A job between those that were found and those that are followed would be in neither.
                with self._interrupts.deferred():
                    self.run_job(job)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Follow the job that an earlier process submitted, or let this one wait for its turn."""
        if job.rule.name == EPOCH_RULE:
            self.report_job_submission(SubmittedJobInfo(job), register_job=False)
            return
        try:
            facts = planned(self._folder, str(job.params.job))
            new = planned_submission(self._folder, facts)
        # An error ends this job only.
        except (OSError, ValueError) as error:
            self.report_job_error(SubmittedJobInfo(job), msg=f"It was not submitted: {error}\n")
            return
        self._jobs[new.target], self._facts[new.target] = job, facts
        try:
            self._start(job, new)
        except (WorkflowError, SbatchError, SlurmError, OSError, ValueError) as error:
            self._refused(new, str(error))

    def _start(self, job: JobExecutorInterface, new: Submission) -> None:
        """The same, once it is known what it is to make. Raises WorkflowError, SbatchError, SlurmError, OSError."""
        former = self._earlier.take(new.target)
        former = former.completed(new.config_hash) if former else None
        fate = former.fate(self._folder, new.config_hash) if former else Fate.GONE
        if former and fate in (Fate.ATTACH, Fate.MADE, Fate.FAILED):
            self._tell(Reattached(former.submission, former.state))
            if former.is_leaving:
                self._leaving.add(new.target)
            # An end is judged as any other.
            self._follow(former.submission, None if fate is Fate.ATTACH else former.accounted)
        else:
            if former and fate is Fate.GONE:
                self._earlier.give_up(former)
            self._submitter.put(self._request(job, new, former if fate is Fate.CANCEL else None))

    def settle(self) -> None:
        """Log jobs that ended while nothing followed them; call it when a session begins, whatever it will do."""
        if self._earlier.has_unsettled():
            self._earlier.settle()

    def _settle_without_jobs(self) -> None:
        """The same in a session that has nothing to run, for which Snakemake calls no hook."""
        if not self._earlier.has_unsettled():
            return
        try:
            # Claims the experiment and begins the action logs.
            self.workflow._onstart([])
        except SystemExit:
            # Another process works on the experiment, and logs its jobs.
            return
        self.settle()
        self._follower.close(_LATE_FIGURES)

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        """The rule's own command, in the experiment's folder: no second Snakemake holds the allocation."""
        if job.shellcmd is None:
            raise WorkflowError(f"rule {job.name} has no shell command: name it among the localrules")
        return in_folder(self._folder, job.shellcmd)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that ended, yield the others."""
        if not active_jobs:
            return
        # Jobs that have not started need it: SLURM does not make it, and somebody may have tidied up.
        with suppress(OSError):
            (self._folder / OUTPUTS).mkdir(parents=True, exist_ok=True)
        try:
            # A job may end before Snakemake counts it as active.
            self._ends |= {end.submission.job_id: end for end in self._follower.look()}
        # No error of ours may lose the jobs.
        except Exception as error:
            self.logger.error(f"The jobs could not be looked at, trying again: {error}")
        for info in active_jobs:
            end = self._ends.get(info.external_jobid)
            if info.job.rule.name == EPOCH_RULE:
                if not self._try_to_report_epoch(info):
                    yield info
            elif end and self._try_to_report(info, end):
                del self._ends[info.external_jobid]
            else:
                yield info

    def _try_to_report_epoch(self, info: SubmittedJobInfo) -> bool:
        """Report that an epoch is trained, or that it will not be; False while it may be."""
        try:
            is_trained = self._epochs.is_trained(info.job)
        except (OSError, ValueError) as error:
            self.logger.error(f"Whether {info.job.output[0]} is trained could not be found out, trying again: {error}")
            return False
        if is_trained:
            self.report_job_success(info)
        elif is_trained is False:
            self.report_job_error(info, msg="Its training failed before this epoch was whole.\n")
        return is_trained is not None

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        """Report it to Snakemake, and to jobs that wait for a training."""
        self._epochs.note_end(job_info.job, succeeded=True)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """Report it to Snakemake, and to jobs that wait for a training."""
        self._epochs.note_end(job_info.job, succeeded=False)
        super().report_job_error(job_info, msg=msg, **kwargs)

    def _try_to_report(self, info: SubmittedJobInfo, end: End) -> bool:
        """Report an end; False if its files cannot be read now."""
        try:
            self._report(info, end)
        except OSError as error:
            self.logger.error(f"What {end.submission.name} left could not be read, trying again: {error}")
            return False
        return True

    def cancel(self) -> None:
        """End before the jobs do: they keep running, unless the user interrupted and has set that they be cancelled."""
        self._interrupts.heed()
        self._submitter.stop()
        received = self._interrupts.received
        wanted = bool(received) and self.workflow.executor_settings.on_interrupt == CANCEL
        in_flight = [*self._follower.submissions, *self._earlier.live]
        cancelled = wanted and self._cancel(in_flight)
        # Before, it is not known which jobs there are.
        if self._earlier.are_known:
            self._tell(Detached(tuple(in_flight), cancelled))
        self.shutdown()
        # Jobs of local rules, which take seconds, use what Snakemake takes down now.
        self.workflow.scheduler._local_executor.shutdown()
        if received:
            # Not a failure of the workflow: none is reported.
            raise SystemExit(128 + received)

    def shutdown(self) -> None:
        """End the threads; Snakemake calls this at the end of everything."""
        self._submitter.stop()
        super().shutdown()
        if not self._interrupts.received:
            self._follower.close(_LATE_FIGURES)
            for submission in self._earlier.live:
                why = "this command does not need its result; it keeps running"
                self.logger.warning(f"SLURM job {submission.job_id} ({submission.name}): {why}")

    def _request(self, job: JobExecutorInterface, submission: Submission, former: Earlier | None = None) -> Request:
        script = self._folder / self._facts[submission.target]["script"]
        call = call_for(job, script.read_text(encoding="utf-8"), self.workflow)
        (self._folder / OUTPUTS).mkdir(parents=True, exist_ok=True)
        again, command = self._retried[submission.target] > 0, self.format_job_exec(job)
        elements = self.max_array_size if {"all", job.rule.name} & self.array_jobs else 1
        facts = self._facts[submission.target]
        return Request(
            submission=submission,
            arguments=sbatch_arguments(self._folder, submission, call),
            script=sbatch_script(call, command),
            kind=job.rule.name,
            stagger=float(job.resources.get("stagger") or 0),
            priority=job.priority,
            former=former,
            again=again,
            share=None if former or again else share_of(job, facts, call, command, elements),
        )

    def _refused(self, submission: Submission, reason: str) -> None:
        # Without it, the reason is only in the log.
        with suppress(OSError):
            note_not_submitted(self._folder, submission.target, submission.config_hash, reason)
        self._tell(Refused(submission, reason))
        info = SubmittedJobInfo(self._jobs[submission.target])
        self.report_job_error(info, msg=f"It was not submitted: {reason}\n")

    def _follow(self, submission: Submission, ended: AccountedJob | None = None) -> None:
        forget_not_submitted(self._folder, submission.target)
        self._follower.add(submission, output_of(self._folder, submission), self._earlier.logged(submission), ended)
        info = SubmittedJobInfo(self._jobs[submission.target], submission.job_id)
        # Records say what is complete: by its own mark Snakemake would make again what ended while nobody looked.
        self.report_job_submission(info, register_job=False)

    def _report(self, info: SubmittedJobInfo, end: End) -> None:
        submission, output = end.submission, output_of(self._folder, end.submission)
        target = submission.target
        wins = overrides(info.job, self.workflow.resource_settings).wins
        found = verdict(self._folder, end, output, self._facts[target], self._retried[target], wins)
        # Who cancels a job and starts again at once wants it to run.
        if end.state == "CANCELLED" and target in self._leaving:
            found = replace(found, again="it was cancelled before this command began")
        elif end.state == "CANCELLED" and slurm_id(submission.job_id) in self._cancelled:
            found = replace(found, again="another evaluation of its job is outdated")
        self._leaving.discard(target)
        note_settled(self._ledger, submission, end.state)
        why = "\n".join(filter(None, [end.message, found.advice]))
        self._follower.finish(Finished(submission, end.succeeded, end.state, why, found.again), end.accounted)
        if end.succeeded:
            if all(output_of(self._folder, one) != output for one in self._follower.submissions):
                _remove_empty(output)
            self.report_job_success(info)
        elif found.again:
            self._submit_again(info.job, submission)
        else:
            self.report_job_error(info, msg=f"{why}\n")

    def _submit_again(self, job: JobExecutorInterface, former: Submission) -> None:
        self._retried[former.target] += 1
        last = dated(replace(former, job_id=None))
        # Alone, also if the job that ended was to make others, too.
        submission = planned_submission(self._folder, self._facts[former.target])
        try:
            self._submitter.put(replace(self._request(job, submission), last=last))
        # An error ends this job only.
        except (WorkflowError, SbatchError, OSError, ValueError) as error:
            self._refused(submission, str(error))

    def _cancel(self, submissions: list[Submission]) -> bool:
        """Cancel jobs; returns whether SLURM took it."""
        try:
            cancel(submissions)
        except SlurmError as error:
            self.logger.error(f"The jobs could not be cancelled: {error}")
            return False
        return True

    def _tell(self, event: Event) -> None:
        """Hand an event to the logger plugins; those that the user has to know are messages, too."""
        text = message(event) if self._speaks or level(event) > logging.INFO else None
        self.logger.log(level(event), text, extra={RECORD_ATTRIBUTE: event})
        if isinstance(event, Cancelled):
            why = f"cancelled by run-experiment: {event.reason}"
            if event.goes_on:
                self._earlier.log_withdrawn(event.submission, why)
            else:
                self._cancelled.add(slurm_id(event.submission.job_id))
                self._earlier.log_end(event.submission, why=why)

    def _is_true(self, record: logging.LogRecord) -> bool:
        return not (self._interrupts.received and record.getMessage().startswith(_NOT_TRUE))


def _remove_empty(output: Path) -> None:
    with suppress(OSError):
        if not output.stat().st_size:
            output.unlink()
