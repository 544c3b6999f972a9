"""Trainings that are much slower than such trainings were: each is reported once."""

from __future__ import annotations

from run_experiment.actionlog.entry import Action, Entry
from run_experiment.finetuning.metrics import Pace, read_pace
from run_experiment.session.jobs import FollowedJob
from run_experiment.session.plan import SessionPlan
from run_experiment.session.written import Written

# Share of the expected speed below which a training is slow, and the step from which it is judged.
_SLOW, _WARM = 0.7, 20
_ADVICE = "See whether its GPU is shared or throttled (nvidia-smi), and whether its node is busy"


class PaceWatch:
    """Compares the speed of running trainings with the expected one."""

    def __init__(self, plan: SessionPlan, written: Written) -> None:
        self._plan = plan
        self._written = written
        self._reported: set[str] = set()

    def entry(self, job: FollowedJob) -> Entry | None:
        """What is to be reported of a running training; None if that is nothing, or was before."""
        if job.job_id in self._reported:
            return None
        curve = job.curve(self._plan.folder)
        pace = read_pace(curve) if curve else None
        if pace is None or pace.tokens_per_second is None or pace.step < _WARM:
            return None
        entry = self._judged(job, pace, pace.tokens_per_second)
        if entry is None:
            return None
        self._reported.add(job.job_id)
        # Another session may have followed it before.
        return entry if job.is_new or not self._written.has_throughput(job.job.subject, job.job_id) else None

    def _judged(self, job: FollowedJob, pace: Pace, speed: float) -> Entry | None:
        expected = self._plan.speed(job.job.target)
        if expected is None or speed >= _SLOW * expected.tokens_per_second:
            return None
        share, on = speed / expected.tokens_per_second, f" on {expected.gpu}" if expected.gpu else ""
        return Entry(
            Action.THROUGHPUT_STATUS,
            f"{speed:,.0f} tokens/s at step {pace.step}",
            f"{share:.0%} of the {expected.tokens_per_second:,.0f} tokens/s of {expected.source}{on}",
            job.job.subject,
            job_id=job.job_id,
            recommendation=_ADVICE,
        )
