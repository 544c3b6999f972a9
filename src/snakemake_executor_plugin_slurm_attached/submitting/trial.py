"""Asks SLURM whether it takes what jobs will be submitted with, before any of them is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from run_experiment.common.errors import InputError, Problem
from run_experiment.jobscripts.sbatch_lines import Option, SbatchError, as_lines, read_options
from run_experiment.slurm import clients
from run_experiment.slurm.errors import PassingError, SlurmError
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call, call_for

# What SLURM's complaints call options otherwise than by their names.
_CALLED = {"constraint": "feature", "mem": "memory", "nodes": "node count"}


@dataclass(frozen=True)
class Planned:
    """A job that is to be submitted, with the path and text of its script."""

    job: JobExecutorInterface
    path: str
    text: str


def refusals(jobs: Iterable[Planned], workflow: Any) -> list[InputError]:
    """The scripts that cannot be submitted, each distinct call tried once; none if SLURM cannot say now.

    `workflow` is Snakemake's, which has the overrides. Raises WorkflowError.
    """
    tried: dict[Call, str] = {}
    refused = []
    for planned in jobs:
        try:
            problems = _problems(planned, workflow, tried)
        except SbatchError as error:
            problems = error.problems
        except PassingError:
            break
        if problems:
            refused.append(InputError(planned.path, problems))
    return refused


def _problems(planned: Planned, workflow: Any, tried: dict[Call, str]) -> list[Problem]:
    """What is wrong with one script. Raises SbatchError, PassingError, WorkflowError."""
    call = call_for(planned.job, planned.text, workflow)
    if call not in tried:
        tried[call] = _complaint(call)
    return [_problem(tried[call], read_options(planned.text), call)] if tried[call] else []


def _complaint(call: Call) -> str:
    """What SLURM says against a call; empty if nothing. Raises PassingError."""
    try:
        clients.try_submission(call.arguments, f"#!/bin/bash\n{call.lines}")
    except PassingError:
        raise
    except SlurmError as error:
        return str(error)
    return ""


def _problem(complaint: str, options: list[Option], call: Call) -> Problem:
    """The complaint at the line whose option it names, if that one is not overridden."""
    lines = [line for line in complaint.splitlines() if "--help" not in line]
    submitted = [option for option in options if as_lines([option]) in call.lines]
    named = (option.line for option in submitted if _is_named(option, complaint))
    beside = f" (submitted with {shlex.join(call.arguments)})" if call.arguments else ""
    return Problem(next(named, 0), "", f"SLURM refuses it: {' '.join(lines)}{beside}")


def _is_named(option: Option, complaint: str) -> bool:
    names = "|".join(map(re.escape, filter(None, [option.name, _CALLED.get(option.name)])))
    return option.written in complaint or bool(re.search(rf"\b({names})\b", complaint, re.IGNORECASE))
