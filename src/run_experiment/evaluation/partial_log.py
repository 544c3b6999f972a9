"""The log of an evaluation that was cut off, in the folder where `inspect eval-set` continues it.

Needs inspect-ai if there is such a log.
"""

from __future__ import annotations

import glob
import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome, require_success
from run_experiment.evaluation.find_log import job_of, spec_of
from run_experiment.inputs.data_files import DataError, Row, rows_of

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample, EvalSampleSummary

# Seconds to wait until a killed process is gone.
_PATIENCE = 5.0


@dataclass(frozen=True)
class PartialLog:
    """A log to continue: what it came to, the job that wrote it, and the uuids of its samples without an error."""

    log: Path
    outcome: EvalOutcome
    job_id: str
    completed: frozenset[str]

    @property
    def is_success(self) -> bool:
        """Whether nothing is missing: its job was killed before it could say so."""
        try:
            require_success(self.outcome)
        except EvalError:
            return False
        return True


def keep_best(folder: Path) -> tuple[PartialLog | None, str]:
    """Leave only the log with the most samples in a folder for eval-set; returns it and why another was given up.

    eval-set stops at a log that it cannot read, and continues the newest one.
    """
    found, why = [], ""
    for log in sorted(folder.glob("*.eval"), key=lambda path: path.stat().st_mtime_ns):
        try:
            found.append(_read(log))
        except EvalError as error:
            why = str(error).partition("\n")[0]
            log.replace(log.with_suffix(".unreadable"))
    # The newest of several.
    best = max(reversed(found), key=lambda one: len(one.completed), default=None)
    for one in found:
        if one is not best:
            one.log.unlink()
    return best, why


def reused_samples(earlier: PartialLog, log: Path) -> int:
    """How many samples of a log were taken from an earlier one. Raises EvalError if it cannot be read."""
    return len(earlier.completed & _completed(log))


def _read(log: Path) -> PartialLog:
    """Read all of a log. Raises EvalError."""
    from inspect_ai.log import read_eval_log_samples

    _recover(log)
    try:
        for _ in read_eval_log_samples(str(log), all_samples_required=False):
            pass
    # A torn file fails in the reader's zip, zlib, JSON or pydantic layer, each with an exception of its own.
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error
    spec = spec_of(log)
    return PartialLog(log, read_outcome(log), (spec and job_of(spec)) or "unknown", frozenset(_completed(log)))


def _recover(log: Path) -> None:
    """Add the samples that a killed process had finished but not written to its log yet.

    They lie in the user's home folder, which may be another one on another machine. eval-set would do so too, but does
    not wait until the process is gone. Samples that were being computed are always lost.
    """
    from inspect_ai.log import RecoveryNotAvailable, recover_eval_log

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            recover_eval_log(str(log), overwrite=True)
            return
        except RecoveryNotAvailable:
            if time.monotonic() > end or not _has_buffer(log):
                return
            time.sleep(0.1)
        # A torn log or buffer fails in a layer of its own; then the log is used as it is.
        except Exception:
            return


def _has_buffer(log: Path) -> bool:
    """Whether inspect-ai still keeps samples that it does not give out yet: their process is still ending."""
    from platformdirs import user_data_path

    return any((user_data_path("inspect_ai") / "samplebuffer").glob(f"*/{glob.escape(log.name)}.*.db"))


def _completed(log: Path) -> set[str]:
    from run_experiment.evaluation.log_file import read_summaries

    return {sample.uuid for sample in read_summaries(log) if sample.uuid and not sample.error}


def repeats_itself(log: Path, data: str | None, split: str | None) -> bool:
    """Whether a log whose samples are numbered by position has some of them more often than its data have rows.

    That happens if the data came in another order when the log was continued: eval-set does not notice. With no split
    the rows of all splits of the data count. Raises EvalError if the log cannot be read.
    """
    from inspect_ai.log import read_eval_log_sample_summaries, read_eval_log_samples

    from run_experiment.evaluation.log_file import read_header

    ids = read_header(log).eval.dataset.sample_ids or []
    # So inspect-ai numbers samples without an id.
    if ids != list(range(1, len(ids) + 1)):
        return False
    rows: list[Row] = []
    # Data may be of a format that only the task reads.
    with suppress(DataError):
        rows = rows_of(Path(data), split) if data else []
    in_data = Counter(json.dumps(row, sort_keys=True) for row in rows).values()
    try:
        # Summaries are read fast, and have long texts cut short.
        for samples in (read_eval_log_sample_summaries(str(log)), read_eval_log_samples(str(log), False)):
            in_log = Counter(map(_question, samples))
            epochs = len({epoch for epoch, _ in in_log})
            if max(in_log.values(), default=1) == 1 or _no_more(in_log.values(), [*in_data] * epochs):
                return False
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error
    return True


def _no_more(found: Iterable[int], allowed: Iterable[int]) -> bool:
    """Whether so many things of each kind may be of so many of each kind; there may be fewer."""
    most = (sorted(counts, reverse=True) for counts in (found, allowed))
    return all(one <= other for one, other in zip_longest(*most, fillvalue=0))


def _question(sample: EvalSample | EvalSampleSummary) -> tuple[int, str]:
    """Epoch and question of a sample, without the ids that messages get anew in every process."""
    asked = sample.input
    text = asked if isinstance(asked, str) else [message.model_dump_json(exclude={"id"}) for message in asked]
    return sample.epoch, json.dumps([text, sample.choices, sample.target])
