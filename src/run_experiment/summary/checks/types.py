"""Keys, types and ranges of a summary's values: pydantic finds the faults, this module puts them in plain words."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from run_experiment.common.suggestions import closest, did_you_mean
from run_experiment.common.yaml_lines import KeyPath, Source, shown
from run_experiment.experiment.compute import MEMORY_PATTERN, OPTION_PATTERN, TIME_PATTERN, SlurmOverrides
from run_experiment.experiment.schema import ITEM, ExperimentSummary, sections
from run_experiment.experiment.section import NAME_PATTERN, Section
from run_experiment.summary.draft import Finding, without
from run_experiment.summary.other_tools import right_place, way_out, way_out_of_value

# Of a key that other tools may have put: how alike it must be to count as misspelt.
MISSPELT = 0.75

_SECTIONS: dict[KeyPath, type[Section]] = dict(sections())
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
}
# Other words for a value, which spelling would take for another one.
_SYNONYMS = {"base": "control", "baseline": "control", "gpu": "cuda"}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_PATTERNS = {
    f"^{NAME_PATTERN}$": "a name of letters, digits, ., _ and -, beginning with a letter or digit, at most 128 long",
    f"^{TIME_PATTERN}$": "a time with hours, minutes and seconds, like 02:00:00 or 1-12:00:00",
    f"^{MEMORY_PATTERN}$": "an amount of memory like 80G",
    f"^{OPTION_PATTERN}$": "one word as #SBATCH lines take it, without spaces, quotes and #",
    f"^({OPTION_PATTERN})?$": "one word as #SBATCH lines take it, without spaces, quotes and #, or true for a flag",
}


def check_types(source: Source, strict: bool) -> tuple[ExperimentSummary | None, list[Finding]]:
    """The summary (None if there are errors) and what is wrong with keys, types and ranges.

    Unless `strict`, unknown keys are ignored and are warnings.
    """
    if not isinstance(source.data, dict):
        return None, [Finding((), _not_a_mapping(source.data))]
    try:
        return ExperimentSummary.model_validate(source.data), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A list whose only item is faulty is not empty to the user.
    real = [item for item in errors if not (item["type"] == "too_short" and item["input"])]
    findings = [_finding(dict(item), source, strict) for item in real]
    if not all(finding.warning for finding in findings):
        return None, findings
    known = without(source.data, [finding.path for finding in findings])
    return ExperimentSummary.model_validate(known), findings


def _not_a_mapping(data: Any) -> str:
    if data is None:
        return "the file is empty"
    return f"expected sections (experiment:, models:, runs:, evaluation:), found {shown(data)}"


def _finding(error: dict[str, Any], source: Source, strict: bool) -> Finding:
    path = _written_path(source.data, error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown_key(path, strict)
    explained = _explained(error, path, source.texts.get(path))
    key = str(path[-1]) if path else ""
    # What to do about a key of another place does not help with one that is right here.
    misplaced = error["type"] == "literal_error" or not _is_known(path)
    instead = way_out_of_value(key, error["input"]) or (way_out(key) if misplaced else "")
    # What to do instead says more than the nearest value that is allowed.
    return Finding(path, explained.partition("; did you mean ")[0] + instead if instead else explained)


def _written_path(data: Any, location: KeyPath) -> KeyPath:
    """A location as the file has it: a single value that stands for a list has no index."""
    path: list[str | int] = []
    for step in location:
        if isinstance(step, int) and not isinstance(data, list):
            continue
        path.append(step)
        if isinstance(data, dict):
            data = data.get(step)
        else:
            data = data[step] if isinstance(data, list) and isinstance(step, int) and step < len(data) else None
    return tuple(path)


def _section_of(path: KeyPath) -> type[Section]:
    """Model of the section that has a key."""
    place = _place(path)
    return _SECTIONS.get(place) or _SECTIONS[(*place, ITEM)]


def _is_known(path: KeyPath) -> bool:
    """Whether a path is that of a key that its section has."""
    place = _place(path)
    section = _SECTIONS.get(place) or _SECTIONS.get((*place, ITEM))
    return section is not None and str(path[-1]) in section.all_keys()


def _place(path: KeyPath) -> KeyPath:
    """Where the section of a key is, with no index of a list."""
    return tuple(ITEM if isinstance(step, int) else step for step in path[:-1])


def _unknown_key(path: KeyPath, strict: bool) -> Finding:
    section, key = _section_of(path), str(path[-1])
    twice = next((keys for field in section.model_fields if key in (keys := section.keys(field))), None)
    if twice:
        return Finding(path, f"{' and '.join(twice)} are the same key; keep one")
    if section.shared or not strict:
        match = closest(key, section.all_keys(), MISSPELT)
        if match is None or not strict:
            hint = way_out(key) or (f"; did you mean {match}?" if match else "")
            return Finding(path, f"unknown key, ignored{hint}", warning=True)
        return Finding(path, f"unknown key; did you mean {match}?")
    return Finding(path, f"unknown key{_instead(key, section)}")


def _instead(key: str, section: type[Section]) -> str:
    """What to write instead of an unknown key."""
    place = right_place(key, section)
    return way_out(key) or (f"; did you mean {place}?" if place else did_you_mean(key, section.all_keys()))


def _explained(error: dict[str, Any], path: KeyPath, text: str | None) -> str:
    """A validation error in plain words; `text` is what was written for a value that is not text."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is required, but missing"
    if kind == "string_type" and value is False and _section_of(path) is SlurmOverrides:
        return "is false; leave the key out: an option of sbatch that takes no value is there, or it is not"
    if kind == "string_type":
        return _not_text(value, text, _pattern_of(path))
    if kind == "literal_error":
        choices = [part.strip(" '") for part in context["expected"].replace(" or ", ", ").split(",")]
        choices = [{"True": "true", "False": "false"}.get(choice, choice) for choice in choices]
        hint = _SYNONYMS.get(str(value).lower()) or (closest(str(value), choices) if isinstance(value, str) else None)
        return f"expected {_either(choices)}, found {_found(value, text)}" + (f"; did you mean {hint}?" if hint else "")
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        limit = context[bound]
        return f"expected {words} {limit if isinstance(limit, int) else f'{limit:g}'}, found {_found(value, text)}"
    if isinstance(value, list) and kind in ("float_type", "int_type", "bool_type"):
        return f"expected {_EXPECTED[kind]}, found a list; a run has one value: give each run its own in its parameters"
    expected = _PATTERNS.get(context.get("pattern", "")) or _EXPECTED.get(kind)
    return f"expected {expected}, found {_found(value, text)}" if expected else str(error["msg"])


def _pattern_of(path: KeyPath) -> str | None:
    """Pattern that a key's text has to match; None without one, and for the items of a list."""
    if isinstance(path[-1], int):
        return None
    section, key = _section_of(path), str(path[-1])
    field = next((name for name in section.model_fields if key in section.keys(name)), None)
    schema = section.model_json_schema()["properties"].get(section.keys(field)[0], {}) if field else {}
    return next((one["pattern"] for one in (schema, *schema.get("anyOf", [])) if "pattern" in one), None)


def _not_text(value: Any, text: str | None, pattern: str | None) -> str:
    # What would be refused in quotes, too.
    if text and pattern and not re.search(pattern, text):
        return f"expected {_PATTERNS[pattern]}, found {text}"
    if text and value is None:
        return f'YAML reads {text} as nothing; leave the key out, or quote it if the text is meant: "{text}"'
    if text:
        reading = "a number" if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)
        return f'YAML reads {text} as {reading}; quote it: "{text}"'
    return f"expected text, found {shown(value)}"


def _found(value: Any, text: str | None) -> str:
    if isinstance(value, bool) and text and text.lower() not in ("true", "false"):
        return f"{text} (YAML reads it as {shown(value)})"
    return shown(value)


def _either(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
