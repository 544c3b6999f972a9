"""The sbatch options that a job script may bring, with the form of their values; read from here, passed on by `sbatch`.

| in a job script | what becomes of it |
|---|---|
| account, partition, qos, constraint, clusters, time | the Snakemake resource of that meaning |
| mem, mem-per-cpu, cpus-per-task, nodes, ntasks | likewise |
| mem-per-gpu, cpus-per-gpu | `mem_mb` and `cpus_per_task`: the same amounts, as the number of GPUs is known |
| gres, gpus, gpus-per-node, gpus-per-task | `gpu`, `gpu_model`, `gres`; what these cannot say goes to `slurm_extra` |
| ntasks-per-node | `tasks`; on several nodes also to `slurm_extra` |
| mail-user, reservation, exclude, signal, … (`EXTRA`) | `slurm_extra`: they have no resource |
| job-name, comment, output, error, open-mode, input | dropped: by these the submitter finds the job and its log |
| parsable, quiet, verbose, wait, kill-on-invalid-dep, get-user-env | dropped: they are about one call of sbatch |
| export=ALL, export=NONE | dropped: the job always has the submitter's environment, as its Python comes from it |
| export=NAME…, export-file, chdir | refused: an `export` or `cd` line in the script says the same |
| array, wrap, dependency, hold, test-only | refused: one script is one job, and Snakemake says when it starts |
| uid, gid, container, bb, bbf, … and what is unknown | refused: they would be lost in silence otherwise |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Use(Enum):
    """What becomes of an option."""

    RESOURCE = "a Snakemake resource"
    EXTRA = "passed on in slurm_extra"
    DROPPED = "the submitter's"
    REFUSED = "refused"


class Takes(Enum):
    """Whether an option has a value, as getopt has it."""

    NOTHING = 0
    VALUE = 1
    # Only as `--key=value`.
    MAYBE = 2


@dataclass(frozen=True)
class Option:
    """One option: what becomes of it, the form of its values, and for refused ones what to do instead."""

    use: Use
    takes: Takes = Takes.VALUE
    form: str = r".*"
    instead: str = ""

    def accepts(self, value: str) -> bool:
        """Whether a value has the option's form. `-J` and `--` are what the SLURM executor looks for in slurm_extra."""
        if self.use is Use.EXTRA and ("-J" in value or "--" in value):
            return False
        return re.fullmatch(self.form, value, re.ASCII) is not None


# None of these forms lets in a blank, a quote, a backslash, or what a shell would expand outside of quotes,
# but for the `*`, `&`, `|` and brackets of constraints and node lists, and none begins with a dash.
NAME = r"\w[\w.@+-]*"
NAMES = rf"{NAME}(,{NAME})*"
NUMBER = r"\d{1,9}"
SIZE = r"\d{1,12}[KkMmGgTt]?[Bb]?"
TIME = r"\d{1,9}(:\d{1,2}){0,2}|\d{1,9}-\d{1,2}(:\d{1,2}){0,2}|UNLIMITED|INFINITE"
MOMENT = r"\w[\w:+./-]*"
WORDS = r"\w[\w.,:@+=/-]*"
NODE_LIST = r"\w[\w.,\[\]-]*"
FEATURES = r"[\w(\[][\w.:,&|*()\[\]+-]*"
GPUS = r"\w[\w.-]*(:\d{1,4})?"
_GENERIC = r"(gpu(:\w[\w.-]*)?(:\d{1,4})?|(?!gpu[:,]|gpu$)[A-Za-z_]\w*(:\w[\w.-]*)?(:\d{1,9}[KMGT]?)?)"
GRES = rf"{_GENERIC}(,{_GENERIC})*"


def _resource(form: str) -> Option:
    return Option(Use.RESOURCE, form=form)


def _extra(form: str) -> Option:
    return Option(Use.EXTRA, form=form)


def _flag(use: Use) -> Option:
    return Option(use, Takes.NOTHING)


def _refused(instead: str, takes: Takes = Takes.VALUE) -> Option:
    return Option(Use.REFUSED, takes, instead=instead)


_DROPPED = Option(Use.DROPPED)
_ONE_JOB = "one script is one job"
_SNAKEMAKE_STARTS = "Snakemake says when a job starts"
_AS_SUBMITTER = "jobs run as who submits them"
_IN_SCRIPT = "start it in the script's commands"

OPTIONS: dict[str, Option] = {
    "account": _resource(NAME),
    "clusters": _resource(NAMES),
    "constraint": _resource(FEATURES),
    "cpus-per-gpu": _resource(NUMBER),
    "cpus-per-task": _resource(NUMBER),
    "gpus": _resource(GPUS),
    "gpus-per-node": _resource(GPUS),
    "gpus-per-task": _resource(GPUS),
    "gres": _resource(GRES),
    "mem": _resource(SIZE),
    "mem-per-cpu": _resource(SIZE),
    "mem-per-gpu": _resource(SIZE),
    "nodes": _resource(rf"{NUMBER}(-{NUMBER})?"),
    "ntasks": _resource(NUMBER),
    "ntasks-per-node": _resource(NUMBER),
    "partition": _resource(NAMES),
    "qos": _resource(NAMES),
    "time": _resource(TIME),
    "acctg-freq": _extra(WORDS),
    "begin": _extra(MOMENT),
    "contiguous": _flag(Use.EXTRA),
    "core-spec": _extra(NUMBER),
    "cores-per-socket": _extra(NUMBER),
    "cpu-freq": _extra(WORDS),
    "deadline": _extra(MOMENT),
    "delay-boot": _extra(NUMBER),
    "distribution": _extra(r"[\w*][\w:,*=]*"),
    "exclude": _extra(NODE_LIST),
    "exclusive": Option(Use.EXTRA, Takes.MAYBE, r"(user|mcs|topo)?"),
    "extra-node-info": _extra(r"[\d*]+(:[\d*]+){0,2}"),
    "gpu-bind": _extra(WORDS),
    "gpu-freq": _extra(WORDS),
    "gres-flags": _extra(WORDS),
    "hint": _extra(NAME),
    "licenses": _extra(WORDS),
    "mail-type": _extra(NAMES),
    "mail-user": _extra(NAMES),
    "mem-bind": _extra(WORDS),
    "mincpus": _extra(NUMBER),
    "nice": Option(Use.EXTRA, Takes.MAYBE, r"(-?\d{1,10})?"),
    "no-kill": Option(Use.EXTRA, Takes.MAYBE, r"(off)?"),
    "no-requeue": _flag(Use.EXTRA),
    "nodelist": _extra(NODE_LIST),
    "ntasks-per-core": _extra(NUMBER),
    "ntasks-per-socket": _extra(NUMBER),
    "overcommit": _flag(Use.EXTRA),
    "oversubscribe": _flag(Use.EXTRA),
    "prefer": _extra(FEATURES),
    "priority": _extra(NUMBER),
    "profile": _extra(NAMES),
    "propagate": Option(Use.EXTRA, Takes.MAYBE, rf"({NAMES})?"),
    "reboot": _flag(Use.EXTRA),
    "requeue": _flag(Use.EXTRA),
    "reservation": _extra(NAMES),
    "signal": _extra(r"([RB]{1,2}:)?\w+(@\d{1,5})?"),
    "sockets-per-node": _extra(NUMBER),
    "spread-job": _flag(Use.EXTRA),
    "switches": _extra(r"\d{1,9}(@[\d:-]+)?"),
    "thread-spec": _extra(NUMBER),
    "threads-per-core": _extra(NUMBER),
    "time-min": _extra(TIME),
    "tmp": _extra(SIZE),
    "use-min-nodes": _flag(Use.EXTRA),
    "wait-all-nodes": _extra(r"[01]"),
    "wckey": _extra(NAME),
    "comment": _DROPPED,
    "error": _DROPPED,
    "export": Option(Use.DROPPED, form=r"(?i:ALL|NONE)", instead="write `export NAME=value` in the script's commands"),
    "get-user-env": Option(Use.DROPPED, Takes.MAYBE),
    "input": _DROPPED,
    "job-name": _DROPPED,
    "kill-on-invalid-dep": _DROPPED,
    "open-mode": _DROPPED,
    "output": _DROPPED,
    "parsable": _flag(Use.DROPPED),
    "quiet": _flag(Use.DROPPED),
    "verbose": _flag(Use.DROPPED),
    "wait": _flag(Use.DROPPED),
    "array": _refused(_ONE_JOB),
    "bb": _refused(_IN_SCRIPT),
    "bbf": _refused(_IN_SCRIPT),
    "chdir": _refused("write `cd` in the script's commands"),
    "container": _refused(_IN_SCRIPT),
    "dependency": _refused(_SNAKEMAKE_STARTS),
    "export-file": _refused("write `export NAME=value` in the script's commands"),
    "gid": _refused(_AS_SUBMITTER),
    "gpus-per-socket": _refused("use --gpus-per-node"),
    "hold": _refused(_SNAKEMAKE_STARTS, Takes.NOTHING),
    "nodefile": _refused("use --nodelist"),
    "ntasks-per-gpu": _refused("use --ntasks"),
    "test-only": _refused("the job would never run", Takes.NOTHING),
    "uid": _refused(_AS_SUBMITTER),
    "wrap": _refused(_ONE_JOB),
}

# Other spellings of an option.
ALIASES = {"cluster": "clusters", "tasks": "ntasks", "share": "oversubscribe", "workdir": "chdir"}

SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "B": "extra-node-info",
    "C": "constraint",
    "c": "cpus-per-task",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "m": "distribution",
    "M": "clusters",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "O": "overcommit",
    "p": "partition",
    "q": "qos",
    "Q": "quiet",
    "s": "oversubscribe",
    "S": "core-spec",
    "t": "time",
    "v": "verbose",
    "w": "nodelist",
    "W": "wait",
    "x": "exclude",
}
