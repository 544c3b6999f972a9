"""Rendered files that users may edit: a marker with hashes shows which parts were edited, and those are kept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

# Above this line a job script has settings of the site; from it on, the commands.
COMMANDS_BEGIN = "set -euo pipefail"

_MARKER = re.compile(r"^# Rendered by run-experiment \(head (\w*), commands (\w*)\)\. .*\n", re.MULTILINE)
_NOTE = "Edit it as you like: what you change is kept."
# Comments, and lines that do nothing but load modules or an environment.
_SITE_LINE = re.compile(r"\s*(#.*|(module|ml|source|\.|conda\s+(de)?activate)(\s[^;&|]*)?)?")


@dataclass(frozen=True)
class Rendered:
    """A file's text in two parts: the head (settings of the site) and the commands (which determine the result).

    `formerly` is what earlier versions of this package rendered as the same commands; edits of those stay in use.
    """

    head: str
    commands: str
    formerly: tuple[str, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The whole file, with its marker below a `#!` line or at the top."""
        return self.marked(_hash(self.head), self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Short hash of the commands."""
        return _hash(self.commands)

    def marked(self, head: str, commands: str) -> str:
        """The whole file with the marker of what was rendered, given by hashes: other parts are known as edited."""
        marker = f"# Rendered by run-experiment (head {head}, commands {commands}). {_NOTE}\n"
        first, newline, rest = self.head.partition("\n")
        if first.startswith("#!"):
            return f"{first}{newline}{marker}{rest}{self.commands}"
        return f"{marker}{self.head}{self.commands}"


@dataclass(frozen=True)
class Existing:
    """A file on disk, and which of its parts were edited; all, if another tool wrote it."""

    parts: Rendered
    own_head: bool
    own_commands: bool
    # Short hash of the commands as last rendered; None if the file was not rendered.
    rendered: str | None = None

    @property
    def commands_hash(self) -> str | None:
        """SHA-256 of edited commands; None if they are as rendered."""
        return _significant_hash(self.parts.commands) if self.own_commands else None

    @property
    def fingerprint(self) -> str:
        """Short hash of the commands; if they were edited, only of what can change a result."""
        return (self.commands_hash or "")[:12] or self.parts.fingerprint

    def contradicts(self, new: Rendered) -> bool:
        """Whether the commands were edited and would be rendered differently today."""
        return self.own_commands and self.rendered not in (None, new.fingerprint, *map(_hash, new.formerly))

    def updated(self, new: Rendered) -> str | None:
        """The text with unedited parts rendered again; None if that changes nothing."""
        parts = Rendered(
            self.parts.head if self.own_head else new.head,
            self.parts.commands if self.own_commands else new.commands,
        )
        if parts == self.parts:
            return None
        # Edited commands keep the hash of what they were made from.
        return parts.marked(_hash(new.head), (self.own_commands and self.rendered) or new.fingerprint)


def parse(text: str) -> Existing:
    """Split a file into its parts and find out which of them were edited."""
    marker = _MARKER.search(text)
    if not marker:
        return Existing(Rendered("", text), own_head=True, own_commands=True)
    parts = _split(_MARKER.sub("", text, count=1))
    head, commands = marker.groups()
    return Existing(parts, head != _hash(parts.head), commands != _hash(parts.commands), rendered=commands)


def _split(text: str) -> Rendered:
    at = re.search(rf"^{re.escape(COMMANDS_BEGIN)}$", text, re.MULTILINE)
    return Rendered(text[: at.start()], text[at.start() :]) if at else Rendered("", text)


def _significant_hash(commands: str) -> str:
    """SHA-256 of what can change a result: not comments, nor lines that load modules or an environment."""
    lines = [line.rstrip() for line in commands.splitlines() if not _SITE_LINE.fullmatch(line.rstrip())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
