"""The Snakemake resources that ask SLURM for what the `#SBATCH` lines of a job script ask for.

The forms of values are an allow-list (`sbatch_options`), because the SLURM executor pastes `slurm_extra` into a shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from run_experiment.jobscripts.sbatch_directives import Directive, Directives, SbatchError, bad, read_directives
from run_experiment.jobscripts.sbatch_options import OPTIONS, Use

__all__ = ["Directive", "Directives", "SbatchError", "read_directives", "snakemake_resources"]

_MINUTES_PER_DAY = 24 * 60
# In MB, which is what SLURM takes a bare number for.
_UNITS_MB = {"M": 1, "G": 2**10, "T": 2**20}
# What the executor takes for a GPU's type; SLURM has types with dashes too.
_MODEL = re.compile(r"[A-Za-z0-9_.]+")
_GRES = re.compile(r"[A-Za-z0-9_]+(:[A-Za-z0-9_.]+)?(:\d+[TGM]?)?")
# The executor looks for `--mem=` in slurm_extra, but has no way to ask for all of a node's memory itself.
_WHOLE_NODE_MEMORY = "'--mem'=0"
# Has the executor say nothing about CPUs, so that the cluster's default holds as it does for the script.
_CPUS_NOT_ASKED = -1


@dataclass(frozen=True)
class Gpus:
    """The GPUs that a job asks for: by which option, how many there, of which type ("" for any), and in all."""

    by: str
    count: int
    model: str
    total: int


def snakemake_resources(directives: Directives) -> dict[str, int | str]:
    """Resources of a rule, in the SLURM executor's terms: `runtime` in minutes, `mem_mb`, `gpu` (0 if none), ….

    `gpu` is 0 too where only `slurm_extra` can say which GPUs. Raises SbatchError.
    """
    gpus = _gpus(directives)
    gpu_resources, gpu_extra = _gpu_resources(gpus, directives)
    memory, memory_extra = _memory(gpus, directives)
    found: dict[str, int | str | None] = {
        "slurm_account": directives.value("account"),
        "slurm_partition": directives.value("partition"),
        "clusters": directives.value("clusters"),
        "qos": directives.value("qos"),
        "constraint": directives.value("constraint"),
        "runtime": _runtime(directives),
        "nodes": _nodes(directives),
        "cpus_per_task": _cpus(gpus, directives) or _CPUS_NOT_ASKED,
        # For a job with `gpu` the executor takes `tasks` for tasks per GPU; one task is what it has without.
        "tasks": _tasks(directives) if _tasks(directives) > 1 else None,
        "gres": _other_gres(directives),
        **memory,
        **gpu_resources,
        "slurm_extra": " ".join([*_extras(directives), *gpu_extra, *memory_extra]) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _runtime(directives: Directives) -> int | None:
    """Minutes, rounded up: minutes[:seconds], hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    directive = directives.get("time")
    if directive is None:
        return None
    days, dash, rest = directive.value.rpartition("-")
    if not re.fullmatch(r"[\d:]+", rest):
        raise bad(directive, "name a time limit")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    total = int(days or 0) * _MINUTES_PER_DAY + hours * 60 + minutes + _divide_up(seconds, 60)
    if total == 0:
        raise bad(directive, "name a time limit: 0 is none")
    return total


def _nodes(directives: Directives) -> int | None:
    directive = directives.get("nodes")
    if directive is None:
        # GPUs asked for by node are on one node unless nodes or tasks say otherwise; `gpu` alone would not say that.
        gpus = _gpu_request(directives)
        return 1 if gpus and gpus[0] != "gpus" and _tasks(directives) == 1 else None
    least, _, most = directive.value.partition("-")
    if most and most != least:
        raise bad(directive, "name one number of nodes")
    if int(least) < 1:
        raise bad(directive, "must be at least 1")
    return int(least)


def _tasks(directives: Directives) -> int:
    per_node = directives.number("ntasks-per-node")
    node_count = int((directives.value("nodes") or "1").partition("-")[0])
    return directives.number("ntasks") or (per_node or 1) * node_count


def _cpus(gpus: Gpus | None, directives: Directives) -> int | None:
    directive = directives.get("cpus-per-gpu")
    if directive is None:
        return directives.number("cpus-per-task")
    if gpus is None or directives.get("cpus-per-task"):
        raise bad(directive, "goes with GPUs, and without --cpus-per-task")
    return _divide_up(int(directive.value) * gpus.total, _tasks(directives))


def _memory(gpus: Gpus | None, directives: Directives) -> tuple[dict[str, int | str | None], list[str]]:
    """Memory as resources in MB, and what of it must go to slurm_extra."""
    given = [found for option in ("mem", "mem-per-cpu", "mem-per-gpu") if (found := directives.get(option))]
    if not given:
        return {}, []
    if len(given) > 1:
        raise bad(given[1], f"does not go with --{given[0].option}")
    option, amount = given[0].option, _megabytes(given[0].value)
    if amount == 0 and option != "mem":
        raise bad(given[0], "must be more than 0")
    if option == "mem-per-gpu":
        if gpus is None:
            raise bad(given[0], "goes with GPUs")
        return {"mem_mb": _divide_up(amount * gpus.total, _nodes(directives) or 1)}, []
    name = {"mem": "mem_mb", "mem-per-cpu": "mem_mb_per_cpu"}[option]
    return {name: amount}, [] if amount else [_WHOLE_NODE_MEMORY]


def _divide_up(amount: int, among: int) -> int:
    """Quotient, rounded up."""
    return -(-amount // among)


def _megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w?)\w?", size.upper().removesuffix("B")).groups()  # type: ignore[union-attr]
    return _divide_up(int(number), 2**10) if unit == "K" else int(number) * _UNITS_MB[unit or "M"]


def _gpu_request(directives: Directives) -> tuple[str, str] | None:
    """The option that asks for GPUs, and `type:number` as it says it; only one may."""
    asked = [(name, value) for name in ("gpus-per-node", "gpus-per-task", "gpus") if (value := directives.value(name))]
    asked += [("gpus-per-node", entry.partition(":")[2]) for entry in _gres(directives) if _is_gpu(entry)]
    asked = list(dict.fromkeys(asked))
    if len(asked) > 1:
        raise SbatchError.at(0, f"ask for GPUs by one option, not by {' and '.join(name for name, _ in asked)}")
    return asked[0] if asked else None


def _gpus(directives: Directives) -> Gpus | None:
    """The GPUs that a script asks for; None if none."""
    request = _gpu_request(directives)
    if request is None:
        return None
    option, value = request
    model, _, number = value.rpartition(":") if re.search(r"(^|:)\d+$", value) else (value, ":", "1")
    shares = {"gpus": 1, "gpus-per-node": _nodes(directives) or 1, "gpus-per-task": _tasks(directives)}[option]
    return Gpus(option, int(number), model, int(number) * shares) if int(number) else None


def _gpu_resources(gpus: Gpus | None, directives: Directives) -> tuple[dict[str, int | str | None], list[str]]:
    """The resources `gpu` and `gpu_model`, where they say it all, else what says it in slurm_extra."""
    if gpus is None:
        return {"gpu": 0}, []
    one_task = _tasks(directives) == 1
    if one_task and (gpus.by == "gpus" or _nodes(directives) == 1) and (not gpus.model or _MODEL.fullmatch(gpus.model)):
        return {"gpu": gpus.total, "gpu_model": gpus.model or None}, []
    by = gpus.by
    if by == "gpus":
        # In slurm_extra the executor forbids --gpus; on one node the number per node is the same.
        if _nodes(directives) != 1:
            raise SbatchError.at(0, "use --gpus-per-node instead of --gpus, or say --nodes=1")
        by = "gpus-per-node"
    asked = f"{gpus.model}:{gpus.count}".removeprefix(":")
    return {"gpu": 0}, [_argument(by, asked)]


def _gres(directives: Directives) -> list[str]:
    return [entry for entry in (directives.value("gres") or "none").split(",") if entry != "none"]


def _is_gpu(entry: str) -> bool:
    return entry.partition(":")[0] == "gpu"


def _other_gres(directives: Directives) -> str | None:
    """Generic resources besides GPUs; the executor passes on one."""
    directive = directives.get("gres")
    others = [entry for entry in _gres(directives) if not _is_gpu(entry)]
    if directive is None or not others:
        return None
    if len(others) > 1 or not _GRES.fullmatch(others[0]):
        raise bad(directive, "the SLURM executor passes on one of the form name[:type][:number]")
    return others[0]


def _extras(directives: Directives) -> list[str]:
    """The options without a resource, quoted for a shell."""
    tasks_per_node = directives.get("ntasks-per-node") if (_nodes(directives) or 1) > 1 else None
    passed = [found for found in directives.by_option.values() if OPTIONS[found.option].use is Use.EXTRA]
    return [_argument(found.option, found.value) for found in [*passed, *([tasks_per_node] if tasks_per_node else [])]]


def _argument(option: str, value: str) -> str:
    """An argument for a shell. Always quoted: the executor would take a value that ends in `-n` for that option."""
    quoted = "'" + value.replace("'", "'\"'\"'") + "'"
    return f"--{option}={quoted}" if value else f"--{option}"
