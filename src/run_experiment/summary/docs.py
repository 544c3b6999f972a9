"""The reference page and the JSON schema of `experiment_summary.yaml`, generated from its models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.experiment.compute import MEMORY_PATTERN, OPTION_PATTERN, TIME_PATTERN
from run_experiment.experiment.schema import ITEM, ExperimentSummary, Parameters, sections
from run_experiment.experiment.section import NAME_PATTERN, Section

PAGE = Path("docs/experiment_summary.md")
SCHEMA = Path("config/experiment_summary.schema.json")

KEPT = "Kept for"

EXAMPLE = """\
experiment:
  name: capitalization
  question: Does a higher LoRA rank help the model to capitalize words?

controls:
  epochs: 2
  batch_size: 8
  lr: 3e-4
  prompt: "Capitalize the given word: {input}"

variables:
  lora_rank: [4, 16]

models:
  base:
    - name: smollm2
      path: models/smollm2

data:
  training:
    path: data/words.json

runs:
  - name: rank4
    parameters: {lora_rank: 4}
  - name: rank16
    parameters: {lora_rank: 16}
  - name: base
    type: control

evaluation:
  tasks:
    - name: capitalization
      script: capitalization.py
  matrix:
    - {run: rank4, tasks: [capitalization]}
    - {run: rank16, tasks: [capitalization], epochs: [0, 1]}
    - {run: base, tasks: [capitalization]}
"""

_INTRO = f"""\
# `experiment_summary.yaml`

The one file that a user writes: which models are trained on what and how, and on what they are evaluated.
This page is generated from the models in `src/run_experiment/experiment/`, by `make docs`.

- Paths are relative to the folder of the file and stay below it; what lies elsewhere is written as a full path.
- Text that YAML would read as something else is quoted: `"no"`, `"012"`, `"12:30:00"`, `"{{input}}"`.
  Numbers like `1e-5` need no point.
- A required section or key is marked **required**; the others may be left out.
- All problems of a file are reported at once, before anything is submitted, as `experiment_summary.yaml:LINE: path:
  message`. Unknown keys are errors; in `experiment`, `tools`, `models`, `data`, `output`, `evaluation.tasks` and
  `evaluation.matrix`, where other tools put keys of their own, they are ignored with a warning, unless they look like
  a misspelt known one.

## Example

```yaml
{EXAMPLE}```
"""

_PATTERN_WORDS = {
    f"^{NAME_PATTERN}$": "name (letters, digits, `.`, `_`, `-`)",
    f"^{TIME_PATTERN}$": "time",
    f"^{MEMORY_PATTERN}$": "memory",
    f"^{OPTION_PATTERN}$": "text",
}
_TYPE_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUND_WORDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def schema_json() -> str:
    """JSON schema of the file, as editors use it: old key names and single values for lists are accepted."""
    schema = ExperimentSummary.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for _, section in sections():
        _complete(schema if section is ExperimentSummary else schema["$defs"].get(section.__name__), section)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _complete(schema: dict[str, Any] | None, section: type[Section]) -> None:
    """Add what the models say beyond their fields' types."""
    if schema is None:
        return
    schema["additionalProperties"] = section.shared
    for field in section.model_fields:
        name, *older = section.keys(field)
        schema["properties"] |= {old: {**schema["properties"][name], "deprecated": True} for old in older}


def reference_page() -> str:
    """The reference page for users, Markdown."""
    return _INTRO + "".join(_section_page(path, section) for path, section in _written_sections())


def _written_sections() -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """Sections by their current names, each once."""
    seen: set[type[Section]] = set()
    for path, section in sections():
        if section not in seen:
            seen.add(section)
            yield path, section


def _section_page(path: tuple[str, ...], section: type[Section]) -> str:
    title = f"`{'.'.join(path).replace(f'.{ITEM}', ITEM)}`" if path else "Sections"
    if section is Parameters:
        return f"\n## {title}\n\n{_summary_line(section)} And:\n\n{_table(section, only=_own_fields(section))}"
    return f"\n## {title}\n\n{_summary_line(section)}\n\n{_table(section, only=list(section.model_fields))}"


def _summary_line(section: type[Section]) -> str:
    return (section.__doc__ or "").strip()


def _own_fields(section: type[Section]) -> list[str]:
    inherited = {name for base in section.__bases__ for name in getattr(base, "model_fields", {})}
    return [name for name in section.model_fields if name not in inherited]


def _table(section: type[Section], only: list[str]) -> str:
    schema = section.model_json_schema()
    rows = [_row(section, name, schema) for name in only]
    rows.sort(key=lambda row: KEPT in row)
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _row(section: type[Section], name: str, schema: Mapping[str, Any]) -> str:
    key, *older = section.keys(name)
    field = schema["properties"][key]
    meaning = section.model_fields[name].description or ""
    meaning += "".join(f" Older name: `{old}`." for old in older)
    default = "**required**" if section.model_fields[name].is_required() else _default(field)
    return f"| `{key}` | {_type(field)} | {default} | {meaning} |"


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return ""
    return f"`{json.dumps(value)}`"


def _type(field: Mapping[str, Any]) -> str:
    """A field's type in plain words."""
    if "anyOf" in field:
        options = [option for option in field["anyOf"] if option.get("type") != "null"]
        lists = [option for option in options if option.get("type") == "array"]
        return f"{_type(lists[0])}; or one alone" if lists else " or ".join(map(_type, options))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{choice}`" for choice in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return "section"
    kind = field.get("type")
    if kind == "array":
        items = field.get("items", {})
        return f"list of: {_type(items)}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping to {_type(values)}" if isinstance(values, dict) and values else "mapping"
    if "pattern" in field:
        return _PATTERN_WORDS[field["pattern"]]
    bounds = ", ".join(f"{sign} {field[bound]}" for bound, sign in _BOUND_WORDS.items() if bound in field)
    return " ".join(part for part in (_TYPE_WORDS.get(str(kind), "anything"), bounds) if part)


def main() -> None:
    """Write the page and the schema below the current folder."""
    for path, text in ((PAGE, reference_page()), (SCHEMA, schema_json())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
