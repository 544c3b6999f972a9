"""Prompts and system prompts of a summary: templates that can be filled, and that all readers read alike."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator

from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.summary.draft import Draft, Finding

Written = tuple[KeyPath, str]


def check_prompts(draft: Draft) -> Iterator[Finding]:
    """What is wrong with the prompts and system prompts of a summary."""
    for path, prompt in _written(draft, "prompt"):
        if problem := template_problem(prompt, required=("input",)):
            yield Finding(path, problem)
    for path, prompt in _written(draft, "system_prompt"):
        if _is_changed_by_system_message(prompt):
            message = "has braces: training takes them as they are, inspect-ai's system_message as those of a template"
            yield Finding(path, f"{message}; use ChatMessageSystem in the task", warning=True)


def _written(draft: Draft, key: str) -> list[Written]:
    """The prompts of one kind that a summary has, with their places."""
    places: list[tuple[KeyPath, str | None]] = [
        (("controls", key), getattr(draft.controls, key)),
        (("evaluation", key), getattr(draft.evaluation, key, None)),
        *(((*path, "parameters", key), getattr(run.parameters, key)) for path, run in draft.runs.items()),
        *(((*path, key), getattr(task, key)) for path, task in draft.tasks.items()),
    ]
    return [(path, prompt) for path, prompt in places if prompt is not None]


def template_problem(template: str, required: tuple[str, ...]) -> str | None:
    """What keeps a text from being a template of just the required fields."""
    try:
        fields = [parts[1:] for parts in string.Formatter().parse(template) if parts[1] is not None]
    except ValueError as error:
        return f"is not a valid template ({error}); write {{{{ and }}}} for braces"
    for name, spec, conversion in fields:
        if name not in required or spec or conversion:
            return f"has {{{shown(name)[1:-1]}}} beside {_braced(required)}; write {{{{ and }}}} for braces"
    missing = [name for name in required if name not in {field[0] for field in fields}]
    return f"must contain {_braced(missing)}" if missing else None


def _braced(names: Iterable[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in names)


def _is_changed_by_system_message(text: str) -> bool:
    """Whether inspect-ai's solver makes another text of it; it keeps `{name}` if it has no value of that name."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return True
    kept = "".join(literal + ("" if name is None else f"{{{name}}}") for literal, name, _, _ in parts)
    return kept != text or any(name is not None and (name == "" or name.isdigit()) for _, name, _, _ in parts)
