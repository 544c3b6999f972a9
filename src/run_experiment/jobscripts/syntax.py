"""Whether bash can read a job script: errors that end it where they stand, maybe after hours."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from run_experiment.common.errors import Problem
from run_experiment.jobscripts.environment import is_run_by_bash

_LINE = re.compile(r": line (\d+): (.+)")


def syntax_problem(script: Path) -> Problem | None:
    """The first syntax error of a script that bash runs; None if there is none. Raises OSError."""
    if not is_run_by_bash(script):
        return None
    # Without running it, bash does not see a `shopt -s extglob`, and nothing is an error because of the option.
    command = ["bash", "-O", "extglob", "-n", str(script.absolute())]
    read = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    if read.returncode == 0:
        return None
    found = [match for line in read.stderr.splitlines() if (match := _LINE.search(line))]
    errors = [match for match in found if not match[2].startswith("warning: ")]
    number, said = (int(errors[0][1]), errors[0][2]) if errors else (0, read.stderr.strip())
    return Problem(number, "", f"bash cannot run it: {said}")
