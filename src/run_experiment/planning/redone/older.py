"""`redos.json`: older versions remembered there what `redo=` had asked for. It is carried over once, then removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.common import paths
from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import Config, config_hash, read_record

PATH = f"{paths.MEMORY}/redos.json"


class OlderRedos:
    """What an experiment's folder remembers; nothing if it cannot be read: then only something is not made again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asked = _read(folder / PATH)

    def ask_for(self, target: str, config: Config) -> bool:
        """Whether a target of this configuration was to be made again, and has not been."""
        own = config_hash({name: value for name, value in config.items() if name != CHECKPOINT})
        return own in self._asked.get(target, {}) and not self.is_made(target, self._folder / target)

    def is_made(self, target: str, record: Path) -> bool:
        """Whether a record of the target, or its copy, is of a job that knew what had been asked for."""
        asked = self._asked.get(target, {}).values()
        told = moment_of((read_record(record) or {}).get("redo"))
        return told is not None and all(told >= moment for moment in asked)

    def forget(self) -> None:
        """Remove the file. Raises OSError."""
        (self._folder / PATH).unlink(missing_ok=True)


def _read(path: Path) -> Mapping[str, Mapping[str, datetime]]:
    """When each target was last asked for, by the hash of its configuration."""
    asked: dict[str, dict[str, datetime]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        for redo in json.loads(path.read_text(encoding="utf-8")):
            moment = datetime.fromisoformat(redo["since"]).astimezone()
            for target, own in redo["targets"].items():
                asked.setdefault(target, {})[own] = moment
    return asked
