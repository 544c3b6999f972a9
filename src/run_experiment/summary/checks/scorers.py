"""Scorers of a summary that a task cannot be given: they would be dropped, and others used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from run_experiment.common.text import shortened
from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.evaluation_section import Scorer
from run_experiment.inputs.task_signature import CONFIG_ARGUMENT, TaskSignature, parse_script
from run_experiment.summary.draft import Draft, Finding


def check_scorers(draft: Draft, path: KeyPath, signature: TaskSignature, script: Path) -> Iterator[Finding]:
    """Warn of the scorers that evaluations on a task do without: neither given to it nor used by its own code."""
    lost = _lost(list(draft.evaluation.scorers), signature, script)
    if lost:
        parameter = "only one scorer by its name" if signature.takes("scorer") else "neither scorer nor scorers"
        names = shortened([scorer.name + (" with its params" if scorer.params else "") for scorer in lost])
        message = f"task {signature.function} takes {parameter}, so its evaluations run without {names}"
        yield Finding((*path, "script"), message, warning=True)


def _lost(scorers: list[Scorer], signature: TaskSignature, script: Path) -> list[Scorer]:
    if signature.takes("scorers") or signature.is_given(CONFIG_ARGUMENT):
        return []
    given = scorers[:1] if signature.takes("scorer") else []
    own = _called(script)
    return [one for one in scorers if one.params or not (one in given or one.name in own)]


def _called(script: Path) -> set[str]:
    """Names of the functions that a script calls."""
    functions = [node.func for node in ast.walk(parse_script(script)) if isinstance(node, ast.Call)]
    names = {node.id for node in functions if isinstance(node, ast.Name)}
    return names | {node.attr for node in functions if isinstance(node, ast.Attribute)}
