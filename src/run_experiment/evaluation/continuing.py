"""An evaluation that was cut off and goes on: with what is there of it, by `inspect eval-retry` in its own script.

Needs inspect-ai where logs are read.
"""

from __future__ import annotations

import glob
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from run_experiment.evaluation.binding import Wanted, commands, spec_of, tags_of, the_log
from run_experiment.evaluation.log import EvalError, EvalOutcome, read_outcome

_FUNCTION = "BASH_FUNC_inspect%%"

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
    return len(_calls(script)) == 1


def own_max_connections(script: str) -> int | None:
    """The number that a job script gives to its `inspect eval`; None where it gives none that can be read."""
    for words in _calls(script):
        for word, following in zip(words, [*words[1:], ""], strict=True):
            option, equals, value = word.partition("=")
            number = value if equals else following
            if option == "--max-connections" and number.isdecimal() and int(number):
                return int(number)
    return None


def _calls(script: str) -> list[list[str]]:
    return [words for words in map(_without_assignments, commands(script)) if words[:2] == ["inspect", "eval"]]


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    return words


def inspect_environment(log: Path | None, max_connections: int | None) -> dict[str, str]:
    """Environment in which a script's `inspect eval` goes on from a log (absolute), with so many connections at once.

    Both may be None: then nothing is changed in that respect. Other commands of inspect-ai are run as they are.
    """
    if log is None and max_connections is None:
        return {}
    options = f" --max-connections {max_connections}" if max_connections else ""
    function = _RETRY if log else _SMALLER
    return {_FUNCTION: function.format(log=shlex.quote(str(log)), options=options)}


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


def reused_samples(earlier: Path, log: Path) -> int:
    """How many samples of a log were taken over from an earlier one. Raises EvalError where one cannot be read."""
    return len(_completed(earlier) & _completed(log))


def _completed(log: Path) -> set[str]:
    from inspect_ai.log import read_eval_log_sample_summaries

    try:
        return {sample.uuid for sample in read_eval_log_sample_summaries(str(log)) if sample.uuid and not sample.error}
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error
