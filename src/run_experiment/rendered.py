"""Rendered files that users may edit: a marker tells what was touched, and what was touched is kept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

# Above this line a job script holds facts of the site, from it on what is computed.
COMMANDS_BEGIN = "set -euo pipefail"

_MARKER = re.compile(r"^# Rendered by run-experiment \(head (\w*), commands (\w*)\)\. .*\n", re.MULTILINE)
_NOTE = "Edit it as you like: what you change is kept."


@dataclass(frozen=True)
class Rendered:
    """A file's text in two parts: the head (site facts) and the commands (what determines the result)."""

    head: str
    commands: str

    @property
    def text(self) -> str:
        """The whole file, with its marker below a `#!` line or at the top."""
        marker = f"# Rendered by run-experiment (head {_hash(self.head)}, commands {_hash(self.commands)}). {_NOTE}\n"
        first, newline, rest = self.head.partition("\n")
        if first.startswith("#!"):
            return f"{first}{newline}{marker}{rest}{self.commands}"
        return f"{marker}{self.head}{self.commands}"


@dataclass(frozen=True)
class Existing:
    """A file as it lies there, and which of its parts are somebody's own: all, where another tool wrote it."""

    parts: Rendered
    own_head: bool
    own_commands: bool

    @property
    def commands_hash(self) -> str | None:
        """SHA-256 of the commands where they are somebody's own; None where they are as rendered."""
        return _significant_hash(self.parts.commands) if self.own_commands else None

    def updated(self, new: Rendered) -> str | None:
        """Its text with the untouched parts rendered anew; None where that changes nothing."""
        if self.own_commands:
            return None
        parts = Rendered(self.parts.head if self.own_head else new.head, new.commands)
        if parts == self.parts:
            return None
        # The marker keeps what was rendered, so that an edited head stays known as edited.
        return parts.text.replace(f"head {_hash(parts.head)}", f"head {_hash(new.head)}", 1)


def parse(text: str) -> Existing:
    """Tell a file's parts, and which of them were edited."""
    marker = _MARKER.search(text)
    bare = _MARKER.sub("", text, count=1)
    parts = _split(bare)
    if not marker:
        return Existing(parts, own_head=True, own_commands=True)
    head, commands = marker.groups()
    return Existing(parts, own_head=head != _hash(parts.head), own_commands=commands != _hash(parts.commands))


def _split(text: str) -> Rendered:
    at = re.search(rf"^{re.escape(COMMANDS_BEGIN)}$", text, re.MULTILINE)
    return Rendered(text[: at.start()], text[at.start() :]) if at else Rendered("", text)


def _significant_hash(commands: str) -> str:
    """SHA-256 of what can change a result: not comments, nor lines that load modules or an environment."""
    site = re.compile(r"\s*(#|module\s|ml\s|conda\s|source\s|$)")
    lines = [line.rstrip() for line in commands.splitlines() if not site.match(line)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
