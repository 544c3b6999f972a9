"""The stand-in for vLLM on PATH, and what it recorded."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "vllm_stand_in"
VERSION, CONTEXT = "0.33.0", 400


@dataclass(frozen=True)
class StandIn:
    """A stand-in that records in a file."""

    records: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which it is found, and records."""
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        return {"PATH": path, "VLLM_STAND_IN_RECORDS": str(self.records)}

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        """The starts or the requests that it recorded."""
        lines = self.records.read_text().splitlines() if self.records.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]

    @property
    def options(self) -> dict[str, str]:
        """Options with a value of its only start."""
        [start] = self.recorded("start")
        words = start["arguments"]
        return {word: value for word, value in pairwise(words) if word.startswith("--")}

    def alive(self) -> list[int]:
        """Its processes that have not ended."""
        return [number for start in self.recorded("start") for number in start["processes"] if _is_alive(number)]


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
