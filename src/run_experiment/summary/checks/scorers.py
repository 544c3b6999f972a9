"""Scorers of a summary that a task cannot be given: they would be dropped, and others used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from run_experiment.common.text import shortened
from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.schema import Scorer
from run_experiment.inputs.task_signature import TaskSignature
from run_experiment.summary.draft import Draft, Finding


def check_scorers(draft: Draft, path: KeyPath, signature: TaskSignature, script: Path) -> Iterator[Finding]:
    """Warn of the scorers that evaluations on a task do without, unless its script names them itself."""
    lost = _lost(list(draft.evaluation.scorers), signature, script.read_text(encoding="utf-8", errors="replace"))
    if lost:
        parameter = "only one scorer by its name" if signature.takes("scorer") else "neither scorer nor scorers"
        names = shortened([scorer.name + (" with its params" if scorer.params else "") for scorer in lost])
        message = f"task {signature.function} takes {parameter}, so its evaluations run without {names}"
        yield Finding((*path, "script"), message, warning=True)


def _lost(scorers: list[Scorer], signature: TaskSignature, source: str) -> list[Scorer]:
    if signature.takes("scorers"):
        return []
    given = scorers[:1] if signature.takes("scorer") else []
    return [one for one in scorers if one.params or not (one in given or one.name in source)]
