"""The `#SBATCH` lines of a job script, as sbatch reads them; what a script may not have is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from run_experiment.common.errors import Problem
from run_experiment.jobscripts.sbatch_options import ALIASES, OPTIONS, SHORT, Option, Takes, Use

_MAGIC = "#SBATCH"
_BLANKS = " \t\v\f\r"


class SbatchError(Exception):
    """`#SBATCH` lines that cannot be used; a problem's line is 0 where it is about several."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problem.render("job script") for problem in problems))

    @classmethod
    def at(cls, line: int, message: str) -> SbatchError:
        """The error of one line."""
        return cls([Problem(line, "", message)])


@dataclass(frozen=True)
class Directive:
    """One option of a script by its full name, its value ("" for none), and its line, from 1."""

    option: str
    value: str
    line: int


@dataclass(frozen=True)
class Directives:
    """The options of a script, each once: the last one wins, as for sbatch."""

    by_option: dict[str, Directive]

    def get(self, option: str) -> Directive | None:
        """The option of that full name, e.g. `cpus-per-task`."""
        return self.by_option.get(option)

    def value(self, option: str) -> str | None:
        """Its value; None if the script does not have it."""
        directive = self.get(option)
        return directive.value if directive else None

    def number(self, option: str) -> int | None:
        """Its value as a number of at least 1; None if the script does not have it. Raises SbatchError."""
        directive = self.get(option)
        if directive is None:
            return None
        if int(directive.value) < 1:
            raise bad(directive, "must be at least 1")
        return int(directive.value)


def read_directives(text: str) -> Directives:
    """The `#SBATCH` options of a job script, as sbatch reads them.

    Raises SbatchError for what is not allowed, all of it at once.
    """
    found: dict[str, Directive] = {}
    problems: list[Problem] = []
    words = iter(_all_words(text, problems))
    for line, word in words:
        try:
            for directive in _directives(word, line, words):
                _check(directive)
                found[directive.option] = directive
        except SbatchError as error:
            problems += error.problems
    if problems:
        raise SbatchError(sorted(problems))
    return Directives(found)


def _all_words(text: str, problems: list[Problem]) -> list[tuple[int, str]]:
    """The words of all lines; lines that have none that can be told apart are added to the problems."""
    words: list[tuple[int, str]] = []
    for number, line in _magic_lines(text):
        try:
            words += _words(line, number)
        except SbatchError as error:
            problems += error.problems
    return words


def _magic_lines(text: str) -> Iterator[tuple[int, str]]:
    """What follows `#SBATCH`, up to the first command."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(_MAGIC):
            yield number, line[len(_MAGIC) :]
        elif line.strip(_BLANKS) and not line.lstrip(_BLANKS).startswith("#"):
            return


def _words(line: str, number: int) -> Iterator[tuple[int, str]]:
    """The words of a line, without their quotes; sbatch reads no further than a comment or an empty word."""
    rest = line.lstrip(_BLANKS)
    while rest and not rest.startswith("#"):
        word, rest = _first_word(rest, number)
        if not word:
            return
        yield number, word
        rest = rest.lstrip(_BLANKS)


def _first_word(line: str, number: int) -> tuple[str, str]:
    """A word and what follows it: backslashes count in both kinds of quotes, but keep no blank outside of them."""
    word, quote, escaped = "", "", False
    for at, char in enumerate(line):
        if not quote and (char in _BLANKS or (char == "#" and not escaped)):
            return word, line[at:]
        if escaped or (char not in ("\\", quote) and (quote or char not in "\"'")):
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        else:
            quote = "" if quote else char
    if quote:
        raise SbatchError.at(number, f"unmatched {quote} in {line}")
    return word, ""


def _directives(word: str, line: int, words: Iterator[tuple[int, str]]) -> Iterator[Directive]:
    """The options that a word holds, as getopt reads it; a value may be the next word."""
    if re.fullmatch(r"--[^=-][^=]*(=.*)?", word, re.DOTALL):
        given, equals, value = word[2:].partition("=")
        name = ALIASES.get(given, given)
        takes = _known(name, word, line).takes
        if equals and takes is Takes.NOTHING:
            raise SbatchError.at(line, f"--{given} takes no value, but has {value!r}")
        yield Directive(name, value if equals else _next_value(takes, word, line, words), line)
        return
    if not re.fullmatch(r"-[^-].*", word, re.DOTALL):
        raise SbatchError.at(line, f"{word!r} is no option of sbatch")
    yield from _short_directives(word[1:], line, words)


def _short_directives(letters: str, line: int, words: Iterator[tuple[int, str]]) -> Iterator[Directive]:
    """Short options: flags may share a word, of which the rest is the value of one that takes a value."""
    while letters:
        letter, letters = letters[0], letters[1:]
        name = SHORT.get(letter, "")
        takes = _known(name, f"-{letter}", line).takes
        if takes is Takes.NOTHING or not letters:
            yield Directive(name, _next_value(takes, f"-{letter}", line, words), line)
        elif takes is Takes.MAYBE:
            yield Directive(name, "", line)
        else:
            yield Directive(name, letters, line)
            return


def _known(name: str, word: str, line: int) -> Option:
    option = OPTIONS.get(name)
    if option is None:
        raise SbatchError.at(line, f"{word!r} is no option that a job script may have: write it in full, or remove it")
    return option


def _next_value(takes: Takes, word: str, line: int, words: Iterator[tuple[int, str]]) -> str:
    if takes is not Takes.VALUE:
        return ""
    for _, value in words:
        return value
    raise SbatchError.at(line, f"{word} has no value")


def _check(directive: Directive) -> None:
    option = OPTIONS[directive.option]
    if option.use is Use.REFUSED:
        raise bad(directive, f"a job script must not have it: {option.instead}")
    if not option.accepts(directive.value):
        raise bad(directive, option.instead or "is not of a form that is passed on: see `man sbatch`")


def bad(directive: Directive, message: str) -> SbatchError:
    """The error for an option, with its value."""
    return SbatchError.at(directive.line, f"--{directive.option}={directive.value!r}: {message}")
