"""JSON files, mainly records: a result is fresh if the configuration in its record equals today's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from run_experiment.common.files import refuse_foreign_links, regular
from run_experiment.common.paths import told_apart
from run_experiment.common.text import shortened

Config = Mapping[str, Any]

# What configurations mean that do not name these: they are older than a choice, or of the default.
_UNNAMED = {"trainer": "torchtune", "generation.backend": "hf"}


def config_hash(config: Config) -> str:
    """SHA-256 of a configuration's canonical JSON, in which the order of keys does not matter."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()


def short_hash(config: Config) -> str:
    """The beginning of a configuration's hash, as names of files and folders have it."""
    return config_hash(config)[:12]


def failed_at(config: Config) -> str:
    """Beginning of the last line in the log of a step that failed, with the configuration that it had."""
    return f"Failed ({short_hash(config)}): "


def mapping(value: Any) -> Mapping[str, Any]:
    """A value of a record, as a mapping: empty if it is none, in a record of another version."""
    return value if isinstance(value, Mapping) else {}


def merged(one: Config, other: Config) -> dict[str, Any]:
    """Two nested configurations as one; where both have a value, the other's."""
    both = {name: merged(one[name], value) for name, value in other.items() if _are_mappings(one.get(name), value)}
    return {**one, **other, **both}


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def same_config(one: Config | None, other: Config) -> bool:
    """True if two configurations are equal as JSON, where 1 is not true and NaN equals itself."""
    return one is not None and canonical(one) == canonical(other)


def write_atomically(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old text or the whole new one.

    Raises OSError, ForeignLinkError if a link that another user made leads there.
    """
    refuse_foreign_links(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Half of a surrogate pair, as a name in another encoding has it, is written as JSON escapes it.
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically, as indented JSON."""
    write_atomically(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None if it is missing or incomplete."""
    try:
        record = json.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def describe_change(
    old: Config, new: Config, data: Sequence[Path] = (), script: Path | str | None = None, most: int = 3
) -> str:
    """Describe in one line what differs between two configurations: `lora_rank: 4 → 8`, `the data changed`.

    `data` and `script` are the data files and the task script, of which configurations contain only hashes.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    # As JSON: NaN equals itself.
    names = [name for name in {**before, **after} if canonical(before.get(name)) != canonical(after.get(name))]
    known = {
        "data": shortened(told_apart(data)) or "the data",
        "script": Path(script).name if script else "",
        "split": after.get("data.split"),
    }
    parts = [_change(name, before.get(name), after.get(name), known) for name in names[:most]]
    if len(names) > most:
        parts.append(f"{len(names) - most} more")
    # Adding or removing an empty mapping changes no key that could be named.
    return ", ".join(parts) or "its configuration changed"


def _flat(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _change(name: str, before: Any, after: Any, known: Mapping[str, Any]) -> str:
    if _is_hash(before) or _is_hash(after):
        return f"{_hashed(name.removesuffix('.sha256'), known)} changed"
    if name in _UNNAMED:
        return f"{name.rpartition('.')[2]}: {before or _UNNAMED[name]} → {after or _UNNAMED[name]}"
    return f"{name.rpartition('.')[2]}: {_short(before)} → {_short(after)}"


def _hashed(name: str, known: Mapping[str, Any]) -> str:
    """The thing that a hash in a configuration stands for, in words."""
    section, _, item = name.removeprefix("task.").partition(".")
    item = item or (known["split"] if section == "data" else "") or ""
    said = {
        "model": "the model's weights or tokenizer",
        "data": f"the {item} split of {known['data']}" if item else known["data"],
        "script": f"the task's script {known['script']}".rstrip(),
        "files": f"the file {item} that the task reads",
        "named": f"the file {item} that the trainer's config names",
        "imports": f"the task's imported file {item}",
        "checkpoint": f"the checkpoint's {item}",
    }
    return said.get(section, name)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _short(value: Any, width: int = 40) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (str, list, dict)) else str(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
