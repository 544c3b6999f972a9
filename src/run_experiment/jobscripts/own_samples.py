"""Whether a job script runs nvidia-smi itself, and where it writes the samples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from run_experiment.jobscripts.commands import expanded_commands

_REDIRECTED = re.compile(r"1?>>?(.*)", re.DOTALL)
_FILE_OPTIONS = ("-f", "--filename")


def samples_itself(script: str) -> bool:
    """True if a script calls nvidia-smi itself, outside of comments."""
    return any("nvidia-smi" in re.sub(r"(^|\s)#.*", "", line) for line in script.splitlines())


def sample_files(script: str, environment: Mapping[str, str]) -> list[Path]:
    """Files that a script has nvidia-smi write to; `environment` is that of the script, with PWD."""
    commands = ((words, values["PWD"]) for words, values in expanded_commands(script, environment) if _samples(words))
    found = [os.path.normpath(os.path.join(where, name)) for words, where in commands for name in _written(words)]
    return [Path(path) for path in dict.fromkeys(found)]


def _samples(words: list[str]) -> bool:
    """Whether a command is nvidia-smi, behind assignments or another program that starts it, too."""
    return any(os.path.basename(word) == "nvidia-smi" for word in words)


def _written(words: list[str]) -> Iterator[str]:
    """Files that a command's words write its output to."""
    for word, following in pairwise([*words[1:], ""]):
        option, equals, value = word.partition("=")
        if option in _FILE_OPTIONS:
            name = value if equals else following
        else:
            redirected = _REDIRECTED.fullmatch(word)
            name = (redirected[1] or following) if redirected else ""
        if name and name != os.devnull:
            yield name
