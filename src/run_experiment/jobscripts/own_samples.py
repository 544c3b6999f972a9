"""Where a job script that runs nvidia-smi itself writes the samples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from run_experiment.evaluation.find_log import expanded_commands
from run_experiment.machine.gpu_samples import samples_itself

_REDIRECTED = re.compile(r"1?>>?(.*)", re.DOTALL)
_FILE_OPTIONS = ("-f", "--filename")


def sample_files(script: Path, folder: Path, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Files (absolute) that a script, run in `folder`, has nvidia-smi write to, as far as its text says."""
    try:
        text = script.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if not samples_itself(text):
        return []
    place = {**environment, "PWD": str(folder.absolute())}
    commands = ((words, values["PWD"]) for words, values in expanded_commands(text, place) if _samples(words))
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
