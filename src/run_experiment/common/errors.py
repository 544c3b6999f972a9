"""What is wrong with a user's input, said so that the user can mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of a file: where it is (line from 1, 0 if unknown; dotted path) and what to do."""

    line: int
    path: str
    message: str

    def render(self, file: str) -> str:
        """One line `file:LINE: path: message`."""
        place = f"{file}:{self.line}" if self.line else file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InputError(Exception):
    """A file was rejected; holds all of its problems."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems)
        super().__init__("\n".join(problem.render(file) for problem in self.problems))


class UnreadableError(InputError):
    """What a summary names, or what was made of it, cannot be read; a moment later it may be there."""

    def __init__(self, file: str, error: Exception) -> None:
        super().__init__(file, [Problem(0, "", f"what it names cannot be read: {error}")])


class CheckpointError(Exception):
    """A checkpoint is missing or not whole; the message names the folder or file, and the tensor."""
