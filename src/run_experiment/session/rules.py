"""What is known of the rules' jobs that make the targets of a session."""

from __future__ import annotations

from pathlib import Path

from run_experiment.session.events import RuleStarted
from run_experiment.session.plan import SessionPlan


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
