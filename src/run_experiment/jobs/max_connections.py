"""How many samples an evaluation computes at once: half as many after an attempt that ran out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from run_experiment.actionlog.entry import Action
from run_experiment.attempts.files import Failure
from run_experiment.evaluation.environment import MAX_CONNECTIONS
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.run import Attempt
from run_experiment.jobs.specs import EvaluationJob

_USED, _ASKED = "max_connections", "asked_max_connections"
_LARGER = "ask for a larger GPU or more memory in its #SBATCH lines, or cut max_tokens"
_OWN = "The script sets --max-connections itself: lower it there, or"


@dataclass(frozen=True)
class Connections:
    """Samples at once, `asked` for and `used`; both None if the script sets them itself."""

    asked: int | None
    used: int | None

    @property
    def changes(self) -> dict[str, int]:
        """What a record says of another number; empty if it is the one asked for."""
        return {_USED: self.used} if self.used and self.used != self.asked else {}

    def environment(self) -> dict[str, str]:
        """Environment in which inspect-ai uses another number than its script's default."""
        return {MAX_CONNECTIONS: str(self.used)} if self.changes else {}


def plan_connections(job: EvaluationJob, current: Attempt) -> Connections:
    """The number to use: one that did not run out of memory yet. A lower one is reported in the action log."""
    own = "--max-connections" in Path(job.script).read_text(encoding="utf-8", errors="replace")
    asked = None if own else job.max_connections
    planned = Connections(asked, asked and _fitting(current, asked))
    current.begin(**{_USED: planned.used, _ASKED: asked})
    return planned


@contextmanager
def fitting(current: Attempt, connections: Connections) -> Iterator[None]:
    """Make a failure final if memory ran out and no smaller number is left. Raises JobError."""
    try:
        yield
    except JobError as error:
        if error.failure is not Failure.OUT_OF_MEMORY:
            raise
        if connections.used is None:
            raise JobError(f"{error}\n{_OWN} {_LARGER}.") from error
        if connections.used <= 1:
            # The next one begins with what is asked for: it may have a larger GPU.
            current.begin(**{_USED: None})
            raise JobError(f"out of memory even with {_USED} 1: {_LARGER}\n{error}") from error
        raise


def _fitting(current: Attempt, asked: int) -> int:
    last = next((one for one in current.earlier if _USED in one.begun), None)
    known = last.begun[_USED] if last else None
    if last is None or not isinstance(known, int):
        return asked
    if last.failure is not Failure.OUT_OF_MEMORY or asked < known:
        wanted = last.begun.get(_ASKED)
        was_lowered = wanted is None or known < wanted
        return min(asked, known) if was_lowered else asked
    if known <= 1:
        # Whoever started it again gave it more memory.
        return asked
    current.tell(Action.OOM_RETRY, f"{_USED} {known} → {known // 2}", "tried again")
    return known // 2
