"""What sbatch is given for a job, and which jobs it is given together.

Evaluations that ask for the same nodes and base model may be one job, and jobs of a rule that ask for the same nodes
and time may be elements of an array.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from run_experiment.jobscripts.sbatch_lines import as_lines, read_options, without
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.submissions import output_of
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_ARGUMENT = "--time="
T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """What of a job goes into one submission with others of an equal `key`: an array of at most so many `elements`,
    each of which is a job of at most `most` targets.

    `script` has the commands of this one alone. `program` is the beginning of its command, `rest` is what it has more.
    `minutes` are its time limit, None if it asks for none, and `plain` is its `call` without that.
    """

    most: int
    elements: int
    key: tuple[str, ...]
    call: Call
    script: str
    plain: Call
    program: str = ""
    rest: str = ""
    minutes: int | None = None


def share_of(job: Any, facts: Mapping[str, Any], call: Call, script: str, elements: int) -> Share | None:
    """What lets a job be submitted with others; None if it may not: `facts` are those of its job file.

    A script that is not as it was rendered may do more than to evaluate, or need more time for it: it shares no job.
    """
    site = [argument for argument in call.arguments if not argument.startswith(_ARGUMENT)]
    options = read_options(call.lines)
    times = [option.value for option in options if option.name == "time"]
    times += [argument.removeprefix(_ARGUMENT) for argument in call.arguments if argument.startswith(_ARGUMENT)]
    minutes = minutes_of(times[-1]) if times else None
    plain = Call(tuple(site), as_lines(without(options, ["time"])))
    most = 1 if times and minutes is None else _most(job, facts)
    if most == elements == 1:
        return None
    key = [str(job.rule.name), *plain.arguments, plain.lines]
    # Elements of an array have the same time, and targets of a job the same base model and backend.
    key += times[-1:] if elements > 1 else []
    if most == 1:
        return Share(1, elements, tuple(key), call, script, plain)
    program = str(job.params.script)
    rest = job.shellcmd.removeprefix(program)
    return Share(most, elements, (*key, *_model_of(facts)), call, script, plain, program, rest, minutes)


def _most(job: Any, facts: Mapping[str, Any]) -> int:
    """How many targets a job may have that makes that of this one."""
    program = str(getattr(job.params, "script", ""))
    is_rendered = facts.get("files") and Path(str(facts["script"])).name not in facts["config"]
    shares = is_rendered and job.shellcmd.startswith(f"{program} ")
    return int(getattr(job.params, "together", 1)) if shares else 1


def _model_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The base model and the backend of an evaluation: two backends would share a GPU's memory."""
    generation = facts["config"].get("generation") or {}
    return str(facts.get("base")), str(generation.get("backend"))


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


def in_jobs(requests: Sequence[T], most: int) -> list[list[T]]:
    """Requests by the job that makes their targets, of which each has at most so many."""
    return [list(requests[start : start + most]) for start in range(0, len(requests), most)]


def one_submission(folder: Path, jobs: Sequence[Sequence[Share]]) -> tuple[Call, str]:
    """How jobs of one or several targets are submitted at once, and the commands of the script."""
    scripts = [_commands(folder, shares) for shares in jobs]
    # The first has as many targets as any.
    call = _call(jobs[0])
    if len(jobs) == 1:
        return call, scripts[0]
    cases = "".join(f"{number}) {script} ;;\n" for number, script in enumerate(scripts, 1))
    array = Call((*call.arguments, f"--array=1-{len(jobs)}"), call.lines)
    return array, f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}esac'


def _call(shares: Sequence[Share]) -> Call:
    """How a job is submitted that makes the targets of all, in the time of all."""
    if len(shares) == 1:
        return shares[0].call
    plain = shares[0].plain
    minutes = [share.minutes for share in shares if share.minutes is not None]
    time = [f"{_ARGUMENT}{sum(minutes)}"] if len(minutes) == len(shares) else []
    return Call((*plain.arguments, *time), plain.lines)


def _commands(folder: Path, shares: Sequence[Share]) -> str:
    if len(shares) == 1:
        return shares[0].script
    return in_folder(folder, shares[0].program + "".join(share.rest for share in shares))


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
