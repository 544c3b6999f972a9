"""An evaluation that was cut off and goes on: with what is there of it, by `inspect eval-retry` in its own script.

Needs inspect-ai where logs are read.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.evaluation.eval_log import EvalError, EvalOutcome, read_outcome
from run_experiment.evaluation.find_log import (
    Wanted,
    commands,
    expanded_commands,
    option_values,
    spec_of,
    tags_of,
    the_log,
)
from run_experiment.inputs.data_files import Row

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample, EvalSampleSummary

_FUNCTION = "BASH_FUNC_inspect%%"
# The variable by which inspect-ai takes the option; a job's script has none but its own.
_CONNECTIONS = "INSPECT_EVAL_MAX_CONNECTIONS"

# What a log does not say, or is said anew, is taken over from the script's own arguments.
_RETRY = """() {{
if [ "${{1-}}" != eval ]; then command inspect "$@"; return; fi
local taken=()
while [ $# -gt 0 ]; do
case $1 in
--log-dir | --env | --max-connections) taken+=("$1" "${{2-}}") ;;
--log-dir=* | --env=* | --max-connections=* | --no-score) taken+=("$1") ;;
esac
shift
done
command inspect eval-retry {log} ${{taken[@]+"${{taken[@]}}"}} --display plain{options}
}}"""
_SMALLER = """() {{
if [ "${{1-}}" != eval ]; then command inspect "$@"; return; fi
command inspect "$@"{options}
}}"""

# Seconds that a killed process has until nobody knows it any more.
_PATIENCE = 5.0


@dataclass(frozen=True)
class PartialLog:
    """A log to go on from: what it came to, and the tag that logs of its evaluation carry; None without one."""

    log: Path
    outcome: EvalOutcome
    tag: str | None


def can_be_told(script: str) -> bool:
    """Whether a job script has exactly one `inspect eval`, called by its bare name: only that can be changed."""
    return sum(map(_is_call, commands(script))) == 1


def asked_max_connections(script: str, default: int, environment: Mapping[str, str]) -> int | None:
    """The number that a job script, run in an environment, gives to its `inspect eval`, a default where it gives none.

    None where it takes running the script to know.
    """
    kept = {name: value for name, value in environment.items() if name != _CONNECTIONS}
    given: list[str] = []
    for words, values in expanded_commands(script, kept):
        if _is_call(words):
            # An option wins.
            given += [values[_CONNECTIONS]] if _CONNECTIONS in values else []
            given += option_values(words, "--max-connections")
    if not given:
        return default
    return int(given[-1]) if given[-1].isdecimal() and int(given[-1]) else None


def told_max_connections(log: Path) -> int | None:
    """The number that an evaluation was run with, as its log says; None where it does not."""
    spec = spec_of(log)
    return spec.model_generate_config.max_connections if spec else None


def _is_call(words: list[str]) -> bool:
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    return words[:2] == ["inspect", "eval"]


def inspect_environment(log: Path | None, max_connections: int | None) -> dict[str, str]:
    """Environment in which a script's `inspect eval` goes on from a log (absolute), with so many connections at once.

    Both may be None: then nothing is changed in that respect. Other commands of inspect-ai are run as they are.
    """
    # A task that makes its samples from a set has them in the same order every time.
    same = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
    if log is None and max_connections is None:
        return same
    options = f" --max-connections {max_connections}" if max_connections else ""
    function = _RETRY if log else _SMALLER
    return {**same, _FUNCTION: function.format(log=shlex.quote(str(log)), options=options)}


def recovered(log: Path, folder: Path) -> Path | None:
    """A log of an evaluation that was killed, now in `folder` with the samples that were not written to it yet.

    None where there are none: it ended by itself, or what inspect-ai keeps meanwhile, in the user's home folder, is not
    there, as on another machine with a home of its own. Samples that were at work are always lost.
    """
    from inspect_ai.log import RecoveryNotAvailable, recover_eval_log

    whole, end = folder / "recovered" / log.name, time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                recover_eval_log(str(log), output=str(whole))
                return whole.replace(folder / log.name)
            except RecoveryNotAvailable:
                if time.monotonic() > end or not _has_buffer(log):
                    return None
                time.sleep(0.1)
    # A torn log or buffer fails in a layer of its own; then there is the log as it is.
    except Exception:
        return None
    finally:
        whole.unlink(missing_ok=True)
        if whole.parent.is_dir():
            whole.parent.rmdir()


def _has_buffer(log: Path) -> bool:
    """Whether there are samples that inspect-ai does not give yet: their process is still ending."""
    from platformdirs import user_data_path

    return any((user_data_path("inspect_ai") / "samplebuffer").glob(f"*/{glob.escape(log.name)}.*.db"))


def read_partial(wanted: Wanted, logs: list[Path]) -> PartialLog:
    """The log to go on from among those of an attempt, oldest first. Raises EvalError where none fits."""
    readable = [log for log in logs if spec_of(log)]
    log = the_log(wanted, readable or logs[-1:])
    outcome, spec = read_outcome(log), spec_of(log)
    return PartialLog(log, outcome, next(iter(tags_of(spec)), None) if spec else None)


def can_be_read(log: Path) -> bool:
    """Whether all of a log can be read, as `inspect eval-retry` does before anything else."""
    from inspect_ai.log import read_eval_log

    try:
        read_eval_log(str(log))
    # A torn file fails in the reader's zip, zlib, JSON or pydantic layer, each with an exception of its own.
    except Exception:
        return False
    return True


def reused_samples(earlier: Path, log: Path) -> int:
    """How many samples of a log were taken over from an earlier one. Raises EvalError where one cannot be read."""
    return len(_completed(earlier) & _completed(log))


def repeats_itself(log: Path, rows: Sequence[Row]) -> bool:
    """Whether a log whose samples are numbered by position has some of them more often than its data have rows.

    It does where the numbers of samples that were taken over are other samples' now. Raises EvalError.
    """
    from inspect_ai.log import read_eval_log_sample_summaries, read_eval_log_samples

    spec = spec_of(log)
    ids = (spec.dataset.sample_ids if spec else None) or []
    # So inspect-ai numbers samples without an id.
    if ids != list(range(1, len(ids) + 1)):
        return False
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


def _completed(log: Path) -> set[str]:
    from inspect_ai.log import read_eval_log_sample_summaries

    try:
        return {sample.uuid for sample in read_eval_log_sample_summaries(str(log)) if sample.uuid and not sample.error}
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error
