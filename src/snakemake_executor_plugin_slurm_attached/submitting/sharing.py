"""What sbatch is given for a job, and which jobs may be one: evaluations that ask for the same nodes and base model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_experiment.jobscripts.sbatch_lines import as_lines, read_options, without
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.submissions import output_of
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_ARGUMENT = "--time="


@dataclass(frozen=True)
class Share:
    """What of a job goes into one of at most `most`, all with an equal `key`.

    `program` is the beginning of their commands, `rest` is what the command of this one has more. `minutes` are its
    time limit; None if it asks for none.
    """

    most: int
    key: tuple[str, ...]
    call: Call
    program: str
    rest: str
    minutes: int | None


def share_of(job: Any, facts: Mapping[str, Any], call: Call) -> Share | None:
    """What lets a job share one with others; None if it may not: `facts` are those of its job file.

    A script that is not as it was rendered may do more than to evaluate, or need more time for it.
    """
    most, program = int(getattr(job.params, "together", 1)), str(getattr(job.params, "script", ""))
    is_rendered = facts.get("files") and Path(str(facts["script"])).name not in facts["config"]
    if most <= 1 or not is_rendered or not job.shellcmd.startswith(f"{program} "):
        return None
    site = [argument for argument in call.arguments if not argument.startswith(_ARGUMENT)]
    options = read_options(call.lines)
    times = [option.value for option in options if option.name == "time"]
    times += [argument.removeprefix(_ARGUMENT) for argument in call.arguments if argument.startswith(_ARGUMENT)]
    minutes = minutes_of(times[-1]) if times else None
    if times and minutes is None:
        return None
    plain = Call(tuple(site), as_lines(without(options, ["time"])))
    key = (str(facts.get("base")), *plain.arguments, plain.lines)
    return Share(most, key, plain, program, job.shellcmd.removeprefix(program), minutes)


def minutes_of(time: str) -> int | None:
    """Minutes of a time limit as sbatch reads it, rounded up; None if it is none, as UNLIMITED."""
    found = _TIME.fullmatch(time)
    if found is None:
        return None
    parts = list(map(int, found["parts"].split(":")))
    if found["days"]:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, minutes, seconds = [0, *parts, 0] if len(parts) == 1 else [0, *parts] if len(parts) == 2 else parts
    total = int(found["days"] or 0) * 1440 + hours * 60 + minutes
    return total + (seconds > 0)


def one_call(shares: Sequence[Share]) -> tuple[Call, str]:
    """How jobs are submitted as one, which has the time of all, and its command."""
    first = shares[0]
    minutes = [share.minutes for share in shares if share.minutes is not None]
    time = [f"{_ARGUMENT}{sum(minutes)}"] if len(minutes) == len(shares) else []
    return Call((*first.call.arguments, *time), first.call.lines), first.program + "".join(one.rest for one in shares)


def sbatch_arguments(folder: Path, submission: Submission, call: Call) -> list[str]:
    """Arguments of sbatch for a job of the experiment in a folder."""
    named = ["--job-name", submission.name, "--output", str(output_of(folder, submission)), "--export=ALL"]
    return [*named, "--comment", submission.comment, *call.arguments, "--chdir", str(folder)]


def sbatch_script(call: Call, command: str) -> str:
    """The script that sbatch is given."""
    return f"#!/bin/bash\n{call.lines}{command}\n"


def in_folder(folder: Path, command: str) -> str:
    """A rule's own command, in the experiment's folder: no second Snakemake holds the allocation."""
    strict = shlex.join(["bash", "-euo", "pipefail", "-c", command])
    return f"cd {shlex.quote(str(folder))} && exec {strict}"
