"""The `#SBATCH` lines of a job script, read as sbatch reads them; options that would break a job are refused.

A job is submitted with the words of these lines as they are written, so sbatch judges every option not named here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from run_experiment.common.errors import Problem

_MAGIC = "#SBATCH"
_BLANKS = " \t\v\f\r"

_ONE_JOB = "one script is one job"
_SNAKEMAKE_STARTS = "Snakemake says when a job starts"
_AS_SUBMITTER = "jobs run as the user who submits them"
_NO_JOB = "no job would be submitted"
# All that is asked of SLURM about a job is asked of one cluster.
ONE_CLUSTER = "jobs run on one cluster: start snakemake where it is the default, or set SLURM_CLUSTERS to its name"
_EXPORT = "write `export NAME=value` in the script's commands"

# Options that no job may have, and why.
REFUSED = {
    "array": _ONE_JOB,
    "chdir": "write `cd` in the script's commands",
    "clusters": ONE_CLUSTER,
    "container": "start it in the script's commands",
    "dependency": _SNAKEMAKE_STARTS,
    "export-file": _EXPORT,
    "gid": _AS_SUBMITTER,
    "help": _NO_JOB,
    "hold": _SNAKEMAKE_STARTS,
    "test-only": _NO_JOB,
    "uid": _AS_SUBMITTER,
    "usage": _NO_JOB,
    "version": _NO_JOB,
    "wrap": _ONE_JOB,
}
# Options that are left out: the executor finds a job and its log by some of these, and calls sbatch with the others.
LEFT_OUT = {
    "comment",
    "error",
    "export",
    "get-user-env",
    "input",
    "job-name",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "verbose",
    "wait",
}
# Options that sbatch refuses together, or adds up: an override of one replaces all of its family.
GPUS = frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"})
_FAMILIES = (
    GPUS,
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"cpus-per-gpu", "cpus-per-task"}),
    frozenset({"ntasks", "ntasks-per-gpu", "ntasks-per-node"}),
)
_SINGLE = {"account", "constraint", "nodes", "partition", "qos", "time"}
# In the order in which abbreviations are looked up; sbatch itself refuses those that fit several options.
_NAMES = [*sorted(REFUSED), *sorted(LEFT_OUT | _SINGLE | frozenset().union(*_FAMILIES))]
_ALIASES = {"tasks": "ntasks", "tasks-per-node": "ntasks-per-node", "workdir": "chdir"}
_SHORT = {
    "A": "account",
    "a": "array",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "G": "gpus",
    "H": "hold",
    "h": "help",
    "i": "input",
    "J": "job-name",
    "M": "clusters",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "t": "time",
    "V": "version",
    "v": "verbose",
    "W": "wait",
}
# What parts the jobs of a heterogeneous job.
_HETEROGENEOUS = frozenset({"hetjob", "packjob", ":"})
# Short options without a value, which may share a word with others.
_FLAGS = re.compile(r"-([HhIOQRsVvW]*)(.*)", re.DOTALL)


class SbatchError(Exception):
    """`#SBATCH` lines that cannot be used, with every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problem.render("job script") for problem in problems))


@dataclass(frozen=True)
class Word:
    """A word of a line, from 1: its text, and how it is written, quotes included."""

    text: str
    written: str
    line: int = 0


@dataclass(frozen=True)
class Option:
    """One option: its full name if it is known here, its value ("" for none), its words as written, its line."""

    name: str
    value: str
    written: str
    line: int

    def __str__(self) -> str:
        """The option as messages name it."""
        return f"--{self.name}" + (f"={self.value!r}" if self.value else "")


def read_options(text: str) -> list[Option]:
    """The options of a job script that go with its job, in order. Raises SbatchError."""
    problems: list[Problem] = []
    options = parse(_all_words(text, problems), problems)
    problems += [Problem(option.line, "", f"{option}: {why}") for option in options if (why := refusal(option))]
    if problems:
        raise SbatchError(sorted(problems))
    return [option for option in options if option.name not in LEFT_OUT]


def environment_problems() -> list[str]:
    """What in this environment would have sbatch submit jobs that are not found again."""
    return [f"SBATCH_CLUSTERS is set in the environment: {ONE_CLUSTER}"] if os.environ.get("SBATCH_CLUSTERS") else []


def unread_lines(text: str) -> list[Problem]:
    """`#SBATCH` lines of a job script below its first command: sbatch passes over them in silence."""
    lines = list(enumerate(text.split("\n"), start=1))
    first = next((number for number, line in lines if _is_command(line)), len(lines))
    why = "is below the first command, where sbatch reads no such lines: move it up"
    return [Problem(at, "", f"`{line.strip()}` {why}") for at, line in lines[first:] if line.startswith(_MAGIC)]


def refusal(option: Option) -> str:
    """Why no job may have an option; empty if it may."""
    why = REFUSED.get(option.name, "")
    if option.name == "export" and option.value.upper() not in ("ALL", "NONE"):
        why = _EXPORT
    return f"not allowed: {why}" if why else ""


def as_lines(options: Iterable[Option]) -> str:
    """`#SBATCH` lines with the options' words as written."""
    return "".join(f"{_MAGIC} {option.written}\n" for option in options)


def family(name: str) -> frozenset[str]:
    """The options that an override of this one replaces, itself among them."""
    return next((names for names in _FAMILIES if name in names), frozenset({name}))


def without(options: Iterable[Option], overridden: Collection[str]) -> list[Option]:
    """The options that are left beside overrides of these names."""
    gone = {name for given in overridden for name in family(given)}
    return [option for option in options if option.name not in gone]


def parse(words: Iterable[Word], problems: list[Problem]) -> list[Option]:
    """The options that words hold, as getopt reads them; words that belong to none are added to the problems."""
    found: list[Option] = []
    for word in words:
        if re.match(r"--?[^=-]", word.text):
            found += _long(word) if word.text.startswith("--") else _short(word, problems)
        elif found and not found[-1].value and "=" not in found[-1].written:
            found[-1] = replace(found[-1], value=word.text, written=f"{found[-1].written} {word.written}")
        else:
            problems.append(Problem(word.line, "", f"{word.text!r} is {_why_no_option(word.text)}"))
    return found


def _why_no_option(text: str) -> str:
    if text in _HETEROGENEOUS:
        return f"not allowed: {_ONE_JOB}"
    # As text processors and web pages have them.
    if re.match("[\u2010-\u2015\u2212]", text):
        return "not an option of sbatch; it begins with a typographic dash: write -"
    return f"not an option of sbatch{'; it has a no-break space: write a plain one' * (chr(0xA0) in text)}"


def _long(word: Word) -> list[Option]:
    name, _, value = word.text[2:].partition("=")
    return [Option(_full(name), value, word.written, word.line)]


def _full(name: str) -> str:
    """The full name of an option: sbatch takes abbreviations, too."""
    if name in _NAMES or name in _ALIASES:
        return _ALIASES.get(name, name)
    return next((known for known in _NAMES if known.startswith(name)), name)


def _short(word: Word, problems: list[Problem]) -> list[Option]:
    """Short options: flags may share a word, and the rest of it is the value of the first one that is none."""
    flags, rest = _FLAGS.fullmatch(word.text).groups()  # type: ignore[union-attr]
    if not word.written.startswith(f"-{flags}{rest[:1]}"):
        problems.append(Problem(word.line, "", f"write {word.written} without quotes around the option's letter"))
        return []
    found = [Option(_SHORT.get(flag, flag), "", f"-{flag}", word.line) for flag in flags]
    if rest:
        written = f"-{word.written[1 + len(flags) :]}"
        found.append(Option(_SHORT.get(rest[0], rest[0]), rest[1:], written, word.line))
    return found


def _all_words(text: str, problems: list[Problem]) -> Iterator[Word]:
    """The words of all lines; quotes without an end are added to the problems."""
    for number, line in _magic_lines(text):
        rest = line.lstrip(_BLANKS)
        # sbatch reads no further than a comment or an empty word.
        while rest and not rest.startswith("#"):
            word, quote, left = _first_word(rest)
            if quote:
                problems.append(Problem(number, "", f"unmatched {quote} in {rest}"))
            if quote or not word:
                break
            yield Word(word, rest[: len(rest) - len(left)], number)
            rest = left.lstrip(_BLANKS)


def _magic_lines(text: str) -> Iterator[tuple[int, str]]:
    """What follows `#SBATCH`, up to the first command."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(_MAGIC):
            yield number, line[len(_MAGIC) :]
        elif _is_command(line):
            return


def _is_command(line: str) -> bool:
    return line.strip(_BLANKS) != "" and not line.lstrip(_BLANKS).startswith("#")


def _first_word(line: str) -> tuple[str, str, str]:
    """A word, the quote that has no end, and what follows the word.

    Backslashes count in both kinds of quotes, but keep no blank outside of them.
    """
    word, quote, escaped = "", "", False
    for at, char in enumerate(line):
        if not quote and (char in _BLANKS or (char == "#" and not escaped)):
            return word, "", line[at:]
        if escaped or (char not in ("\\", quote) and (quote or char not in "\"'")):
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        else:
            quote = "" if quote else char
    return word, quote, ""
