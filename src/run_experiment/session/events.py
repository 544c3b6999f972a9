"""What a workflow engine reports of its rules, as events, and which of a session's targets they make.

Events of a cluster's jobs are in `slurm.events`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from run_experiment.session.plan import SessionPlan

# Name under which the plan of a session travels as an attribute of a log record.
RECORD_ATTRIBUTE = "session_plan"


@dataclass(frozen=True)
class RuleStarted:
    """A rule's job is started, or waits for its turn to be submitted; `stagger` are seconds between submissions."""

    number: int
    outputs: Sequence[str]
    logs: Sequence[str]
    stagger: float = 0


@dataclass(frozen=True)
class RuleFinished:
    """A rule's job made its outputs."""

    number: int


@dataclass(frozen=True)
class RuleFailed:
    """A rule's job failed, in the words of `message` if there are any."""

    number: int
    message: str = ""


@dataclass(frozen=True)
class Tick:
    """It is time to look at the jobs that run on this machine."""


class Rules:
    """Targets by the number of the job that makes them; by target the seconds between submissions, and the log."""

    def __init__(self, plan: SessionPlan) -> None:
        self._plan = plan
        self._targets: dict[int, str] = {}
        self._started: dict[str, RuleStarted] = {}

    def started(self, event: RuleStarted) -> str | None:
        """Target of a job that is started; None if it makes none of the session."""
        target = next((path for path in event.outputs if path in self._plan.wanted), None)
        if target is not None:
            self._targets[event.number], self._started[target] = target, event
        return target

    def target(self, number: int) -> str | None:
        """Target of a job that was started."""
        return self._targets.get(number)

    def stagger(self, target: str) -> float:
        """Seconds between the submissions of a target's job and the one before it."""
        return self._started[target].stagger if target in self._started else 0

    def log(self, target: str) -> Path | None:
        """Log of a target's job."""
        logs = self._started[target].logs if target in self._started else ()
        return self._plan.folder / logs[0] if logs else None
