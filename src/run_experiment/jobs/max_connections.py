"""How many samples an evaluation computes at once: half as many after an attempt that ran out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.attempts.files import Failure
from run_experiment.evaluation.environment import MAX_CONNECTIONS
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.run import Attempt, Entry

_USED, _ASKED = "max_connections", "asked_max_connections"
_LARGER = "ask for a larger GPU or more memory in its #SBATCH lines, or cut max_tokens"
_OWN = "The script sets --max-connections itself: lower it there, or"


@dataclass(frozen=True)
class Connections:
    """Samples at once, `asked` for and `used`; both None if the script sets them itself.

    `halved` is the number with which the attempt before ran out of memory, if that is why fewer are used.
    """

    asked: int | None
    used: int | None
    halved: int | None = None

    @property
    def begun(self) -> dict[str, int | None]:
        """Facts of an attempt, which the next one reads."""
        return {_USED: self.used, _ASKED: self.asked}

    @property
    def oom_entry(self) -> Entry | None:
        """Entry for the action log; None if there is nothing to report."""
        return (Action.OOM_RETRY, f"{_USED} {self.halved} → {self.used}", "tried again") if self.halved else None

    @property
    def changes(self) -> dict[str, int]:
        """What a record says of another number; empty if it is the one asked for."""
        return {_USED: self.used} if self.used and self.used != self.asked else {}

    def environment(self) -> dict[str, str]:
        """Environment in which inspect-ai uses another number than its script's default."""
        return {MAX_CONNECTIONS: str(self.used)} if self.changes else {}


def plan_connections(asked: int | None, earlier: Sequence[history.Attempt]) -> Connections:
    """The number to use: one that did not run out of memory yet. `earlier` are the attempts before, newest first."""
    if asked is None:
        return Connections(None, None)
    last = next((one for one in earlier if _USED in one.begun), None)
    known = last.begun[_USED] if last else None
    if last is None or not isinstance(known, int):
        return Connections(asked, asked)
    if last.failure is not Failure.OUT_OF_MEMORY or asked < known:
        wanted = last.begun.get(_ASKED)
        was_lowered = wanted is None or known < wanted
        return Connections(asked, min(asked, known) if was_lowered else asked)
    # With 1, whoever started it again gave it more memory.
    return Connections(asked, known // 2, halved=known) if known > 1 else Connections(asked, asked)


@contextmanager
def fitting(asked: int | None, current: Attempt) -> Iterator[Connections]:
    """Choose the number to use; make a failure final if memory runs out and no smaller one is left. Raises JobError."""
    connections = plan_connections(asked, current.earlier)
    try:
        yield connections
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
