"""The commands of a shell script, as far as its text says."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_DEFAULT = re.compile(r"\$\{(\w+):?-([^}]*)\}")


def log_folders(script: str, environment: Mapping[str, str]) -> list[Path]:
    """Folders that a script gives to inspect-ai; `environment` is that of the script, with PWD."""
    found: list[str] = []
    for words, values in expanded_commands(script, environment):
        given = _option_values(words, "--log-dir")
        if (own := values.get("INSPECT_LOG_DIR", "")) != environment.get("INSPECT_LOG_DIR"):
            given.append(own)
        found += [os.path.join(values["PWD"], path) for path in given if path]
    return list(dict.fromkeys(Path(os.path.normpath(path)) for path in found))


def _option_values(words: list[str], option: str) -> list[str]:
    """What a command's words give to an option, in order; empty if that cannot be read."""
    pairs = [(*word.partition("="), following) for word, following in zip(words, [*words[1:], ""], strict=True)]
    return [value if equals else following for name, equals, value, following in pairs if name == option]


def expanded_commands(script: str, environment: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Words of each simple command with variables filled in, and the variables' values as far as the text says.

    A word is empty if only running the script could tell.
    """
    values = dict(environment)
    for words in commands(script):
        expanded = [_expanded(word, values) or "" for word in words]
        values |= {match[1]: match[2] for word in expanded if (match := _ASSIGNMENT.fullmatch(word))}
        if expanded[0] == "cd" and len(expanded) > 1:
            values["PWD"] = os.path.join(values.get("PWD", ""), expanded[1])
        yield expanded, values


def commands(script: str) -> Iterator[list[str]]:
    """Words of each simple command of a script, without those that cannot be read."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            for word in lexer:
                if set(word) <= set(";&|"):
                    if words:
                        yield words
                    words = []
                else:
                    words.append(word)
        except ValueError:
            continue
        if words:
            yield words


def _expanded(word: str, values: Mapping[str, str]) -> str | None:
    """A word with its variables filled in; None if only running the script could tell."""
    word = _DEFAULT.sub(lambda match: values.get(match[1]) or match[2], word)
    try:
        return Template(word).substitute(values)
    except (KeyError, ValueError):
        return None
