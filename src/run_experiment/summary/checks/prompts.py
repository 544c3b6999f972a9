"""Prompts and system prompts of a summary: templates that can be filled, and that all readers read alike."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator

from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.summary.draft import Draft, Finding

# Typographic quotes, of several languages.
_OPENING, _CLOSING = "\u201c\u201e\u2018\u201a", "\u201d\u201c\u2019\u2018"
# Words of Python and other languages for what YAML writes as null.
_NOTHING = ("None", "none", "nil", "N/A", "n/a")

Written = tuple[KeyPath, str]


def check_prompts(draft: Draft) -> Iterator[Finding]:
    """What is wrong with the prompts and system prompts of a summary."""
    for path, prompt in _written(draft, "prompt"):
        if problem := template_problem(prompt, required=("input",)):
            yield Finding(path, problem)
        elif prompt[0] in _OPENING and prompt[-1] in _CLOSING:
            yield Finding(path, "begins and ends with typographic quotes, which the model would read", warning=True)
    for key in ("system_prompt", "assistant_prefix"):
        for path, prompt in _written(draft, key):
            if prompt in _NOTHING:
                message = f"is the text {prompt}, which the model would read"
                yield Finding(path, f'{message}; leave the key out, or write ""')
    for path, prompt in _written(draft, "system_prompt"):
        if _is_changed_by_system_message(prompt):
            message = "has braces: training takes them as they are, inspect-ai's system_message as those of a template"
            yield Finding(path, f"{message}; use ChatMessageSystem in the task", warning=True)


def _written(draft: Draft, key: str) -> list[Written]:
    """The prompts of one kind that a summary has, with their places."""
    places: list[tuple[KeyPath, str | None]] = [
        (("controls", key), getattr(draft.controls, key, None)),
        (("evaluation", key), getattr(draft.evaluation, key, None)),
        *(((*path, "parameters", key), getattr(run.parameters, key, None)) for path, run in draft.runs.items()),
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
            field = f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
            return f"has {{{shown(field)[1:-1]}}} beside {_braced(required)}; write {{{{ and }}}} for braces"
    missing = [name for name in required if name not in {field[0] for field in fields}]
    if doubled := [f"{{{{{name}}}}}" for name in missing if f"{{{{{name}}}}}" in template]:
        return f"has {doubled[0]}, which means plain braces; write {_braced(missing)}"
    return f"must contain {_braced(missing)}; it is {shown(template)}" if missing else None


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
