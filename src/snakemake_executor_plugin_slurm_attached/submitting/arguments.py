"""What a job is submitted with: the `#SBATCH` lines of its script, and overrides, which sbatch takes as arguments.

Overrides are resources of a profile's `set-resources` or of `--set-resources`, and this executor's own settings.
`default-resources` count only if a script asks for nothing of the kind.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from snakemake.resources import Resources
from snakemake_executor_plugin_slurm import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from run_experiment.common.errors import Problem
from run_experiment.jobscripts.sbatch_lines import (
    GPUS,
    LEFT_OUT,
    ONE_CLUSTER,
    Option,
    Word,
    as_lines,
    family,
    parse,
    read_options,
    refusal,
    without,
)
from snakemake_executor_plugin_slurm_attached.submitting.gpu_options import GPU_RESOURCES, Values, gpu_options

# The option for a resource; sizes are in MB and times in minutes, which is what sbatch takes bare numbers for.
_OPTIONS = {
    "slurm_account": "account",
    "slurm_partition": "partition",
    "qos": "qos",
    "constraint": "constraint",
    "runtime": "time",
    "mem_mb": "mem",
    "mem_mb_per_cpu": "mem-per-cpu",
    "nodes": "nodes",
    "tasks": "ntasks",
    "tasks_per_node": "ntasks-per-node",
    "tasks_per_gpu": "ntasks-per-gpu",
    "cpus_per_task": "cpus-per-task",
    "cpus_per_gpu": "cpus-per-gpu",
}
# Resources that the stock executor takes for `--clusters`.
_CLUSTERS = {"clusters", "cluster", "slurm_cluster"}
_SNAKEMAKE_DEFAULTS = Resources.default("full")


@dataclass(frozen=True)
class Overrides:
    """Resources by name: those that win over a job's script, and those for what the script does not ask for."""

    wins: Values
    defaults: Values


@dataclass(frozen=True)
class Call:
    """Arguments of sbatch, and the `#SBATCH` lines of the script that it is given."""

    arguments: tuple[str, ...]
    lines: str


def overrides(job: JobExecutorInterface, settings: Any) -> Overrides:
    """The overrides of a job; `settings` is Snakemake's `ResourceSettings`."""
    wins = settings.overwrite_resources.get(job.rule.name, {})
    defaults = settings.default_resources or {}
    return Overrides(_values(job, wins), _values(job, [name for name in defaults if _is_set(name, defaults[name])]))


def _is_set(name: str, default: Any) -> bool:
    """Whether a user set a default: Snakemake has some of its own, which nobody asked for."""
    own = _SNAKEMAKE_DEFAULTS.get(name)
    return own is None or default.raw != own.raw


def _values(job: JobExecutorInterface, names: Iterable[str]) -> Values:
    """Values of resources, without those that are unset (-1 for CPUs)."""
    found = {name: job.resources.get(name) for name in map(_in_mb, names)}
    return {name: value for name, value in found.items() if isinstance(value, int | str) and value not in ("", -1)}


def _in_mb(name: str) -> str:
    return "mem_mb" if name in ("mem", "mem_mib") else name


def sbatch_call(script: list[Option], given: Overrides, settings: ExecutorSettings) -> Call:
    """How a job of a script with these options is submitted. Raises WorkflowError."""
    asked = {name for option in script for name in family(option.name)}
    defaults = {name: value for name, value in given.defaults.items() if not asked & _family_of(name)}
    values = {**defaults, **given.wins}
    if named := sorted(_CLUSTERS & values.keys()):
        raise WorkflowError(f"resource {named[0]}: {ONE_CLUSTER}")
    options = [Option(option, str(values[name]), "", 0) for name, option in _OPTIONS.items() if name in values]
    options += gpu_options(script, values) + _of_settings(settings)
    extra = [option for option in _extra(values) if "slurm_extra" in given.wins or option.name not in asked]
    words = [word for option in extra for word in shlex.split(option.written)]
    names = {option.name for option in [*options, *extra]}
    return Call((*map(_argument, options), *words), as_lines(without(script, names)))


def call_for(job: JobExecutorInterface, script: str, workflow: Any) -> Call:
    """How a job is submitted whose script has this text; `workflow` is Snakemake's, which has the overrides.

    Raises SbatchError, WorkflowError.
    """
    given = overrides(job, workflow.resource_settings)
    return sbatch_call(read_options(script), given, workflow.executor_settings)


def _family_of(resource: str) -> frozenset[str]:
    return GPUS if resource in GPU_RESOURCES else family(_OPTIONS.get(resource, ""))


def _argument(option: Option) -> str:
    return f"--{option.name}={option.value}" if option.value else f"--{option.name}"


def _of_settings(settings: ExecutorSettings) -> list[Option]:
    """What this executor's settings ask for."""
    requeue = "requeue" if settings.requeue else "no-requeue" if settings.no_requeue else ""
    asked = {"qos": settings.qos, "reservation": settings.reservation, "exclude": settings.exclude_failed_nodes}
    found = [Option(name, value, "", 0) for name, value in asked.items() if value]
    return [*found, Option(requeue, "", "", 0)] if requeue else found


def _extra(values: Values) -> list[Option]:
    """The options of `slurm_extra`. Raises WorkflowError for those that a job must not have."""
    problems: list[Problem] = []
    try:
        words = shlex.split(str(values.get("slurm_extra", "")))
    except ValueError as error:
        raise WorkflowError(f"slurm_extra: {error}") from error
    options = parse([Word(word, shlex.quote(word)) for word in words], problems)
    wrong = [problem.message for problem in problems]
    wrong += [f"{option}: {refusal(option) or 'the executor sets it'}" for option in options if _is_ours(option)]
    if wrong:
        raise WorkflowError(f"slurm_extra: {'; '.join(wrong)}")
    return options


def _is_ours(option: Option) -> bool:
    return bool(refusal(option)) or option.name in LEFT_OUT
