"""Errors in a user's input: where they are and how to fix them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Problem:
    """One problem in a file: its line (from 1; 0 if unknown), its dotted path, and what to do about it."""

    line: int
    path: str
    message: str

    def render(self, file: str) -> str:
        """One line `file:LINE: path: message`."""
        place = f"{file}:{self.line}" if self.line else file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InputError(Exception):
    """A file was rejected, with all of its problems."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems)
        super().__init__("\n".join(problem.render(file) for problem in self.problems))


class UnreadableError(InputError):
    """A file that the summary names, or one derived from it, cannot be read now; a retry may succeed."""

    def __init__(self, file: str, error: Exception) -> None:
        super().__init__(file, [Problem(0, "", f"a file that it names cannot be read: {error}")])


class CommandError(Exception):
    """A command cannot do what was asked; the message says why, and what to do."""


class CheckpointError(Exception):
    """A checkpoint is missing or incomplete; the message names the folder or file, and the tensor."""


class VerificationError(CheckpointError):
    """A checkpoint failed verification; `config` is what its manifest would have had."""

    def __init__(self, error: CheckpointError, config: Mapping[str, Any]) -> None:
        super().__init__(str(error))
        self.config = dict(config)
