"""Time limits of job scripts, from how long such jobs took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from run_experiment.estimate.cost import Judge, Source
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Target

# A job may wait longer for a slow disk or node than those that were measured.
_MARGIN, _STARTUP = 1.5, 600
# Seconds that limits are rounded up to.
_ROUND = 900
_HOUR = 3600


class TimeLimits:
    """The time limits of a plan's jobs; `hours` are the least and the most that one may be, None for any.

    What is judged by its size alone keeps the usual limit.
    """

    def __init__(self, plan: Plan, judge: Callable[[], Judge], hours: Sequence[float | None]) -> None:
        self._plan = plan
        self._judge = judge
        self._least, self._most = hours

    def __call__(self, path: str, usual: str) -> str:
        """The limit of the job that makes a target, as sbatch takes it; `usual` if nothing like it was measured."""
        target = self._plan[path]
        job = self._judge().job(path, target)
        if job.seconds is None or job.source is Source.SIZE:
            return usual
        seconds = max(_MARGIN * job.seconds.likely, job.seconds.most) + _STARTUP
        if _was_too_short(target):
            seconds = max(seconds, _seconds(usual))
        seconds = max(seconds, (self._least or 0) * _HOUR)
        seconds = min(seconds, (self._most or math.inf) * _HOUR)
        return _text(math.ceil(seconds / _ROUND) * _ROUND)


def _was_too_short(target: Target) -> bool:
    """Whether the last attempt hit its limit: the estimate, by which that may have been set, is of little worth."""
    return target.attempt is not None and target.attempt.slurm_state == "TIMEOUT"


def _seconds(limit: str) -> int:
    hours, minutes, seconds = map(int, limit.split(":"))
    return hours * _HOUR + minutes * 60 + seconds


def _text(seconds: int) -> str:
    return f"{seconds // _HOUR:02}:{seconds // 60 % 60:02}:00"
