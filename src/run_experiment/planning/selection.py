"""Choosing by hand: which trainings and evaluations `only=` and `redo=` stand for.

Patterns are those of a shell, over the names of the action logs, matched from `/` to `/`: `r8` is a training,
`r8/shout/epoch1` an evaluation, `r*` all trainings whose name begins with r, `r8/*/*` all evaluations of r8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from run_experiment.common import paths
from run_experiment.common.errors import InputError, Problem
from run_experiment.common.suggestions import closest
from run_experiment.common.text import shortened
from run_experiment.experiment.model import Experiment
from run_experiment.experiment.settings import Settings
from run_experiment.planning.target import Kind, Target


@dataclass(frozen=True)
class Choice:
    """Records of the trainings and evaluations that are chosen: `only` these (None: all), and `redo` these.

    `patterns` are those of `only`.
    """

    only: frozenset[str] | None = None
    redo: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def why_not(self, target: Target) -> str:
        """Why a target is not chosen; empty if it is. The checkpoints of a training are chosen with it."""
        if self.only is None or target.path in self.only:
            return ""
        run, _ = paths.target_of(target.path)
        with_training = target.kind is Kind.VERIFICATION and paths.finetune_record(run) in self.only
        return "" if with_training else _limit(self.patterns)


def choose(settings: Settings, experiment: Experiment) -> Choice:
    """What the patterns of the settings stand for. Raises InputError for a pattern that stands for nothing."""
    known = {run.name: paths.finetune_record(run.name) for run in experiment.fine_tuned}
    known |= {item.subject: paths.eval_record(item.run.name, item.cell) for item in experiment.evaluations}
    untrained = {run.name for run in experiment.runs} - {run.name for run in experiment.fine_tuned}
    only = _matching("only", settings.only, known, untrained)
    redo = _matching("redo", settings.redo, known, untrained)
    if settings.only:
        # Nothing to be made again is more likely a slip than meant.
        _matching("redo", settings.redo, only, (), f"of what {_limit(settings.only)} asks for")
        redo = {name: path for name, path in redo.items() if name in only}
    return Choice(frozenset(only.values()) if settings.only else None, frozenset(redo.values()), settings.only)


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern stands for a subject; `*` and `?` stand for no `/`."""
    parts, names = pattern.split("/"), subject.split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def _limit(patterns: Iterable[str]) -> str:
    return f"only={','.join(patterns)}"


def _matching(
    setting: str, patterns: Iterable[str], known: Mapping[str, str], untrained: Collection[str], of: str = ""
) -> dict[str, str]:
    """What of the known is meant, by its name. Raises InputError."""
    found: dict[str, str] = {}
    problems = []
    for pattern in patterns:
        meant = {name: path for name, path in known.items() if matches(pattern, name)}
        found |= meant
        if not meant:
            problems.append(Problem(0, setting, f"{pattern} {_why_nothing(pattern, known, untrained, of)}"))
    if problems:
        raise InputError("--config", problems)
    return found


def _why_nothing(pattern: str, known: Iterable[str], untrained: Collection[str], of: str) -> str:
    """Message on a pattern that matches nothing."""
    names = list(known)
    if run := next((run for run in untrained if matches(pattern, run)), None):
        return f"is not trained here; the evaluations of {run} are {run}/*/*"
    nearest = closest(pattern, names)
    hint = f"; did you mean {nearest}?" if nearest else "."
    if pattern.isdecimal():
        # Snakemake makes 10 of 010.
        hint += " A name that looks like a number goes in brackets, [010]."
    alike = [name for name in names if name.count("/") == pattern.count("/")] or names
    valid = f"There are {shortened(alike)}" if alike else "There is nothing to choose from"
    return f"matches nothing {of or 'that is trained or evaluated here'}{hint} {valid}"
