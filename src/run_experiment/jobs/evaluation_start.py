"""What a try at an evaluation begins from: samples that an earlier one computed, and how many it computes at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.attempts.files import Failure
from run_experiment.evaluation.continuing import (
    PartialLog,
    asked_max_connections,
    can_be_read,
    can_be_told,
    inspect_environment,
    read_partial,
    repeats_itself,
    reused_samples,
    told_max_connections,
)
from run_experiment.evaluation.eval_log import EvalError, EvalOutcome, require_success
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.evaluation_logs import Search
from run_experiment.jobs.run import Attempt
from run_experiment.jobs.specs import EvaluationJob

_CONNECTIONS, _ASKED, _UNUSABLE, _READS = "max_connections", "asked_max_connections", "unusable", "reads"
_CONTINUES = "continues"
# Whether the next attempt can go on from this one.
_GOES_ON = "goes_on"
# The script failed before there was a log, and that which it was to go on from cannot be read.
_LEFT_NOTHING, _TORN = "left_nothing", "torn"
# How often a log may fail to be gone on from.
_IN_VAIN = 2
_REORDERED = "its samples have no ids, and are in another order now or repeat each other"
_SMALLEST = f"even with {_CONNECTIONS} 1"
_LARGER = "ask for a larger GPU or more memory in its #SBATCH lines, or cut max_tokens"


@dataclass(frozen=True)
class Earlier:
    """What an earlier attempt left of an evaluation; `cut_off` says that nothing went wrong in it."""

    job_id: str
    partial: PartialLog
    cut_off: bool

    @property
    def done(self) -> int:
        """Samples that are not computed again."""
        return self.partial.outcome.completed_samples

    @property
    def is_whole(self) -> bool:
        """Whether it lacks nothing: its job was killed before it could say so."""
        if not self.cut_off:
            return False
        try:
            require_success(self.partial.outcome)
        except EvalError:
            return False
        return True


@dataclass(frozen=True)
class Start:
    """What a try begins from: an earlier attempt's samples, if any, and connections, `asked` for and `used`.

    Those are None where only the script knows.
    """

    earlier: Earlier | None
    asked: int | None
    used: int | None

    @property
    def tag(self) -> str | None:
        """Tag that the log will carry; None where that is a new one's."""
        return self.earlier.partial.tag if self.earlier else None

    @property
    def changes(self) -> dict[str, int]:
        """What a record says of other connections; empty where they are as asked for."""
        return {_CONNECTIONS: self.used} if self.used and self.used != self.asked else {}

    def environment(self) -> dict[str, str]:
        """Environment of the evaluation's script."""
        log = self.earlier.partial.log.resolve() if self.earlier else None
        return inspect_environment(log, self.changes.get(_CONNECTIONS))

    def facts(self, log: Path) -> dict[str, Any]:
        """What the record says of how the log was made."""
        if self.earlier is None:
            return {"changes": self.changes}
        try:
            reused = reused_samples(self.earlier.partial.log, log)
        # That must not cost the result.
        except EvalError:
            reused = None
        return {"changes": self.changes, "continued": {"job_id": self.earlier.job_id, "reused_samples": reused}}


def plan_start(job: EvaluationJob, current: Attempt, search: Search) -> Start:
    """What a try begins from, told in the action log. Raises JobError where nothing fits into memory."""
    before = current.earlier(job)
    script = _script(job)
    asked = asked_max_connections(script, job.max_connections, os.environ)
    told = can_be_told(script)
    used = _fitting(current, asked, before, search) if told else asked
    current.begin(**{_CONNECTIONS: used if told else None, _ASKED: asked, _READS: _reads(job), _GOES_ON: told})
    start = Start(_earlier(job, current, search, before), asked, used)
    continued = start.earlier.partial.log.parent.name if start.earlier else None
    current.begin(tag=start.tag or search.wanted.tag, **{_CONTINUES: continued})
    return start


def require_all(job: EvaluationJob, outcome: EvalOutcome) -> None:
    """Raise EvalError unless an evaluation computed all that was to be."""
    require_success(outcome)
    if why := _limited(job, outcome):
        raise EvalError(why)


def is_unusable(current: Attempt, reason: str) -> None:
    """Say that nothing an attempt computed may be used, whatever comes of it."""
    current.begin(**{_UNUSABLE: reason})


def require_one_order(job: EvaluationJob, current: Attempt, start: Start, log: Path) -> None:
    """Raise JobError where inspect-ai took samples that it numbered itself for others; the next try begins anew.

    Raises EvalError where a log cannot be read.
    """
    earlier = start.earlier
    if earlier and reused_samples(earlier.partial.log, log) and repeats_itself(log, job.rows()):
        is_unusable(current, _REORDERED)
        raise JobError(f"the log of job {earlier.job_id} could not be continued: {_REORDERED}", Failure.INTERRUPTED)


@contextmanager
def beginning(current: Attempt, start: Start, search: Search) -> Iterator[None]:
    """Have a script that fails before there is a log tried again, where the log that it goes on from is why.

    Raises JobError.
    """
    try:
        yield
    except JobError as error:
        if error.failure is not Failure.ERROR or search.leaves_any():
            raise
        torn = start.earlier is not None and not can_be_read(start.earlier.partial.log)
        current.begin(**{_LEFT_NOTHING: True, _TORN: torn})
        if not torn:
            raise
        raise JobError(str(error), Failure.INTERRUPTED) from error


def tell_reused(current: Attempt, start: Start, facts: dict[str, Any]) -> None:
    """Tell where inspect-ai took over fewer samples than there were: it does not know those of shuffled data again."""
    found = facts.get("continued", {}).get("reused_samples")
    if start.earlier and found is not None and found < start.earlier.done:
        details = f"inspect-ai computed samples of job {start.earlier.job_id} again"
        current.tell(Action.EVAL_RETRY, details, f"{found} of {start.earlier.done} samples were reused")


@contextmanager
def fitting(job: EvaluationJob, current: Attempt, start: Start) -> Iterator[None]:
    """Make a failure final, where memory does not suffice meanwhile and nothing smaller is left. Raises JobError."""
    try:
        yield
    except JobError as error:
        if error.failure is not Failure.OUT_OF_MEMORY:
            raise
        if not can_be_told(_script(job)):
            raise JobError(f"{error}\nIts script has no plain `inspect eval` to be told of less: {_LARGER}.") from error
        if start.used and start.used <= 1:
            raise _too_large(current, _SMALLEST, str(error)) from error
        raise


def _too_large(current: Attempt, what: str, why: str) -> JobError:
    # The next one begins anew: it may have a larger GPU.
    current.begin(**{_CONNECTIONS: None})
    return JobError(f"out of memory {what}: {_LARGER}\n{why}")


def _fitting(current: Attempt, asked: int | None, before: list[history.Attempt], search: Search) -> int | None:
    """Connections that did not run out of memory yet, told where they are fewer than before. Raises JobError."""
    last = next((one for one in before if _CONNECTIONS in one.begun), None)
    known = last.begun[_CONNECTIONS] if last else None
    if last and asked is None and last.failure is Failure.OUT_OF_MEMORY:
        known = known or _told_connections(search, last)
        if known is None:
            raise _too_large(current, "and its script's --max-connections cannot be read", last.error)
    if last is None or not isinstance(known, int):
        return asked
    if last.failure is not Failure.OUT_OF_MEMORY or (asked and asked < known):
        wanted = last.begun.get(_ASKED)
        was_lowered = wanted is None or known < wanted
        return min(asked or known, known) if was_lowered else asked
    if known <= 1:
        # Whoever starts again gave it more memory.
        return asked
    current.tell(Action.OOM_RETRY, f"{_CONNECTIONS} {known} → {known // 2}", "tried again")
    return known // 2


def _told_connections(search: Search, one: history.Attempt) -> int | None:
    """Connections that an attempt was run with, as its log says; None where none does."""
    with suppress(OSError):
        return next(filter(None, map(told_max_connections, reversed(search.left_by(one)))), None)
    return None


def _earlier(job: EvaluationJob, current: Attempt, search: Search, before: list[history.Attempt]) -> Earlier | None:
    """The most that an earlier attempt left; where it cannot be used, the action log is told why."""
    found: list[Earlier] = []
    refused: list[tuple[str, str]] = []
    in_vain = _continued_in_vain(before)
    reordered = any(one.begun.get(_UNUSABLE) == _REORDERED for one in before)
    for one in before:
        try:
            if one.folder.name in in_vain:
                raise EvalError("an attempt could not go on from its log")
            found += _left(job, search, one, reordered)
        except (EvalError, OSError) as error:
            refused.append((one.job_id, str(error).partition("\n")[0]))
    best = max(found, key=lambda earlier: earlier.done, default=None)
    if best is None:
        for job_id, reason in refused[:1]:
            _tell_fresh(current, job_id, reason)
        return None
    outcome = best.partial.outcome
    rest = outcome.total_samples - best.done
    result = f"{best.done} of {outcome.total_samples} samples reused, {rest or 'none'} to do"
    if best.is_whole:
        current.tell(Action.EVAL_RETRY, f"Taking the complete log of job {best.job_id}", result)
        return best
    if not can_be_told(_script(job)):
        _tell_fresh(current, best.job_id, "its script has no plain `inspect eval` to be told of it")
        return None
    current.tell(Action.EVAL_RETRY, f"Continuing attempt of job {best.job_id} (inspect eval-retry)", result)
    return best


def _left(job: EvaluationJob, search: Search, one: history.Attempt, reordered: bool) -> list[Earlier]:
    """What an attempt left, if it is worth anything. Raises EvalError where it must not be used, OSError."""
    logs = search.left_by(one)
    if not logs:
        return []
    if unusable := one.begun.get(_UNUSABLE) or (reordered and _REORDERED):
        raise EvalError(str(unusable))
    # The log names them, and they are read from there: what is of the same content today may be changed tomorrow.
    if one.begun.get(_READS) != _reads(job):
        raise EvalError("its task, data or model lay elsewhere")
    partial = read_partial(search.wanted, logs)
    if why := _limited(job, partial.outcome):
        raise EvalError(why)
    if repeats_itself(partial.log, job.rows()):
        raise EvalError(_REORDERED)
    return (
        [Earlier(one.job_id, partial, one.failure is Failure.INTERRUPTED)] if partial.outcome.completed_samples else []
    )


def _continued_in_vain(before: list[history.Attempt]) -> set[Any]:
    """Folders of attempts whose log others could not even begin to go on from, all newest first.

    One may have failed for another reason, unless the log is torn; so did it where a fresh one right after it failed.
    """
    failed: Counter[Any] = Counter()
    fresh_failed = False
    for one in before:
        nothing, continued = bool(one.begun.get(_LEFT_NOTHING)), one.begun.get(_CONTINUES)
        if nothing and continued and not fresh_failed:
            failed[continued] += _IN_VAIN if one.begun.get(_TORN) else 1
        fresh_failed = nothing and not continued
    return {folder for folder, times in failed.items() if times >= _IN_VAIN}


def _reads(job: EvaluationJob) -> list[str | None]:
    # The base model has the tokenizer.
    return [job.task, job.data, job.base, *job.models]


def _limited(job: EvaluationJob, outcome: EvalOutcome) -> str | None:
    if outcome.limited and Path(job.script).name not in job.config:
        return "only a part of the data set was evaluated: is INSPECT_EVAL_LIMIT set in a .env file?"
    return None


def _tell_fresh(current: Attempt, job_id: str, reason: str) -> None:
    current.tell(Action.EVAL_RETRY, f"Attempt of job {job_id} cannot be continued: {reason}", "started fresh")


def _script(job: EvaluationJob) -> str:
    return Path(job.script).read_text(encoding="utf-8", errors="replace")
