"""Remembers what `redo=` asked to be made again, until it is.

After an interruption the same command continues: it does not repeat what it has already made, or resumes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts.files import is_since
from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.common import paths
from run_experiment.common.json_files import Config, config_hash, read_record, write_atomically

PATH = f"{paths.MEMORY}/redos.json"


@dataclass(frozen=True)
class Redo:
    """A command with `redo=`: its patterns, its time (ISO), and the hash of each target's configuration by path."""

    patterns: list[str]
    since: str
    targets: dict[str, str]


class Redos:
    """The unfinished `redo=` commands of an experiment, in a file; `patterns` are those of this command."""

    def __init__(self, folder: Path, patterns: Collection[str] = ()) -> None:
        self._folder = folder
        self._path = folder / PATH
        self._patterns = list(patterns)
        self._open = _read(self._path)
        self._now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._new: dict[str, str] = {}

    def since(self, target: str, config: Config, wanted: bool, asked: bool) -> str:
        """The time (ISO) before which results of a target with this configuration do not count; empty for no limit.

        `wanted`: it has to be made anyway; `asked`: this command asks for it to be made again.
        """
        own = _hash(config)
        noted = [redo for redo in self._open if redo.targets.get(target) == own]
        same = self._same(noted)
        if asked and not same:
            self._new[target] = own
            return self._now
        relevant = (same if asked else noted if wanted else [])[-1:]
        return next((redo.since for redo in relevant if wanted or not self._is_made(target, own, redo.since)), "")

    def made_since(self, target: str, config: Config) -> str:
        """When an earlier start of this command began to make the target again, for messages; empty if none did."""
        own = _hash(config)
        same = self._same(redo for redo in self._open if redo.targets.get(target) == own)
        return _shown(same[-1].since) if same else ""

    def unfinished(self, configs: Mapping[str, Config]) -> list[str]:
        """A message on each unfinished command; `configs` as in `forget_made`."""
        notes = []
        for redo in self._open:
            today, rest = self._today(redo, configs), self._rest(redo, configs)
            if rest:
                done = f"{len(today) - len(rest)} of {len(today)} made again"
                who = "this" if self._same([redo]) else "the same"
                asked = f"redo={','.join(redo.patterns)} of {_shown(redo.since)}"
                notes.append(f"{asked} is not finished: {done}; {who} command continues it")
        return notes

    def begin(self, targets: Collection[str]) -> None:
        """Record which of these targets this command is about to make again. Raises OSError."""
        new = {target: own for target, own in self._new.items() if target in targets}
        if new:
            self._write([*self._open, Redo(self._patterns, self._now, new)])

    def forget_made(self, configs: Mapping[str, Config]) -> list[Redo]:
        """Forget what one command asked for once all of it is made, or is of a configuration that is no more.

        `configs` are today's by target; returns what is forgotten. Raises OSError.
        """
        made = [redo for redo in self._open if not self._rest(redo, configs)]
        if made:
            self._write([redo for redo in self._open if redo not in made])
        return made

    def _same(self, redos: Iterable[Redo]) -> list[Redo]:
        """Those that earlier tries of this command noted."""
        return [redo for redo in redos if redo.patterns == self._patterns]

    def _today(self, redo: Redo, configs: Mapping[str, Config]) -> dict[str, str]:
        """Targets that are of today's configuration, with its hash."""
        return {target: own for target, own in redo.targets.items() if own == _hash(configs.get(target, {}))}

    def _rest(self, redo: Redo, configs: Mapping[str, Config]) -> list[str]:
        """Targets that are still to be made again."""
        today = self._today(redo, configs)
        return [target for target, own in today.items() if not self._is_made(target, own, redo.since)]

    def _is_made(self, target: str, own: str, since: str) -> bool:
        """Whether a record has this configuration and its job was asked to repeat it, for clocks of nodes differ."""
        record = read_record(self._folder / target) or {}
        config = record.get("config")
        if not isinstance(config, dict) or _hash(config) != own:
            return False
        return is_since(record.get("redo"), since)

    def _write(self, redos: list[Redo]) -> None:
        write_atomically(self._path, json.dumps([asdict(redo) for redo in redos], indent=2) + "\n")
        self._open = redos


def _hash(config: Config) -> str:
    """Hash of what is known of a configuration when it is planned."""
    return config_hash({name: value for name, value in config.items() if name != CHECKPOINT})


def _shown(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def _read(path: Path) -> list[Redo]:
    """What is noted; nothing where it cannot be read, for then only something is made once more."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return [_redo(values) for values in json.loads(path.read_text(encoding="utf-8"))]
    return []


def _redo(values: Mapping[str, Any]) -> Redo:
    datetime.fromisoformat(values["since"])
    return Redo(list(values["patterns"]), values["since"], dict(values["targets"]))
