"""The command and the environment that a job script is run with.

Lines of other sites (modules, conda) are skipped, but only in scripts of other tools: in a rendered script they are
settings of this site and have to work.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Commands that set up a site's environment, and what they do on a site without them.
_SKIPPED = {
    "module": 'echo "skipped, no environment modules on this machine: module $*" >&2',
    "ml": 'echo "skipped, no environment modules on this machine: ml $*" >&2',
    "conda": """case ${1-} in
activate | deactivate) echo "skipped, no conda on this machine: conda $*" >&2 ;;
*) echo "conda: command not found" >&2; return 127 ;;
esac""",
}
# Variables that show that a site has these commands, even if its functions were not exported.
_SIGNS = {
    "module": ("LMOD_CMD", "MODULESHOME"),
    "ml": ("LMOD_CMD", "MODULESHOME"),
    "conda": ("CONDA_EXE",),
}
# A file `activate` that is found first, so that one of a virtual environment or pyenv is not taken for conda's.
_ACTIVATE = """_found=$(IFS=:; for _folder in $PATH; do
if [ -f "$_folder/activate" ] && [ -e "$_folder/conda" ]; then echo "$_folder/activate"; break; fi
done)
if [ -n "$_found" ]; then . "$_found" "$@"; return; fi
"""
_ACTIVATE_SKIPPED = 'echo "skipped, no conda on this machine: source activate $*" >&2\n'
_ACTIVATE_FAILED = 'echo "activate: no conda on this machine" >&2; return 127\n'
# inspect-ai's options; and, in its view, the terminal of an editor whose `.env` file counts more than the environment.
_OF_EVALUATIONS = ("INSPECT_EVAL_", "VSCODE_", "TERM_PROGRAM")
# accelerate's options, such as the number format; and what torchrun tells its processes of each other.
_OF_TRAININGS = ("ACCELERATE_", "PET_", "TORCHELASTIC_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_")
_NOT_INHERITED = _OF_EVALUATIONS + _OF_TRAININGS
_LOGIN = re.compile(r"-\w*l\w*|--login")


def script_command(script: Path, path: str) -> list[str]:
    """Command that runs a script (absolute) with what its first line names, bash if it names nothing or `sh`.

    A login shell keeps what it sets up, and gets `path` appended to PATH.
    """
    program, argument = _first_line(script)
    if not _is_bash(program, argument):
        # As the kernel does: one argument, whatever it holds.
        return [program, *([argument] if argument else []), str(script)]
    options = [word for word in argument.split() if word.startswith("-") and word != "-S"]
    if not any(_LOGIN.fullmatch(option) for option in options):
        return ["bash", *options, str(script)]
    return ["bash", *options, "-c", 'PATH="$PATH:$1"; shift; . "$0"', str(script), path]


def is_run_by_bash(script: Path) -> bool:
    """Whether bash runs a script: its first line names bash, `sh` or nothing. Raises OSError."""
    return _is_bash(*_first_line(script))


def _first_line(script: Path) -> tuple[str, str]:
    """The program that a script's first line names, and the rest of that line."""
    with script.open(encoding="utf-8", errors="replace") as file:
        program, _, argument = file.readline().removeprefix("\ufeff").removeprefix("#!").strip().partition(" ")
    return program, argument.strip()


def _is_bash(program: str, argument: str) -> bool:
    """Whether a first line, `#!` left out, names bash or `sh`, or nothing."""
    if not program.startswith("/"):
        return True
    words = [program, *argument.split()]
    if Path(program).name == "env":
        words = [word for word in words[1:] if word != "-S"]
    return bool(words) and Path(words[0]).name in ("bash", "sh")


def script_environment(
    inherited: Mapping[str, str],
    folder: Path,
    own: Path,
    script: Path,
    *,
    is_rendered: bool,
    programs: Sequence[Path] = (),
) -> dict[str, str]:
    """Environment of a script that runs in `folder`; `own` is an empty folder that exists while it runs.

    A script that `is_rendered` may be edited since. What is in the folders `programs` is found before other programs.
    Raises OSError if the script cannot be read.
    """
    # INSPECT_EVAL_LIMIT and the like would change results without a trace in the summary.
    kept = {name: value for name, value in inherited.items() if not name.startswith(_NOT_INHERITED)}
    beside = Path(sys.executable).parent
    otherwise = _ACTIVATE_FAILED if is_rendered else _ACTIVATE_SKIPPED
    (own / "activate").write_text(_ACTIVATE + otherwise, encoding="utf-8")
    kept["PATH"] = os.pathsep.join([str(own), *map(str, programs), str(beside), kept.get("PATH", os.defpath)])
    # As if it was submitted there.
    kept["SLURM_SUBMIT_DIR"] = str(folder.absolute())
    if not _has_data_home(kept):
        kept["XDG_DATA_HOME"] = str(own)
    # Without it every library takes all cores of a node.
    if cpus := kept.get("SLURM_CPUS_PER_TASK") or kept.get("SLURM_CPUS_ON_NODE"):
        kept.setdefault("OMP_NUM_THREADS", cpus)
    if is_rendered:
        return kept
    if not is_run_by_bash(script):
        kept["PATH"] = os.pathsep.join([kept["PATH"], str(_programs(own, kept))])
    return {**_skipping(kept), **kept}


def _has_data_home(environment: Mapping[str, str]) -> bool:
    """Whether programs can write to the user's data folder; inspect-ai fails if it cannot write its traces there.

    On the nodes of some sites HOME is read-only, or there is none.
    """
    home = Path(environment.get("XDG_DATA_HOME") or Path(environment.get("HOME") or os.devnull, ".local/share"))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(home, os.W_OK)


def _programs(own: Path, environment: Mapping[str, str]) -> Path:
    """Folder of programs in place of commands that this site does not have: other shells know no functions of bash."""
    folder = own / "missing"
    folder.mkdir()
    for name, body in _missing(environment).items():
        program = folder / name
        program.write_text(f'#!/usr/bin/env bash\nskip() {{\n{body}\n}}\nskip "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


def _missing(environment: Mapping[str, str]) -> dict[str, str]:
    """Commands that this site does not have, and what they do instead."""
    return {name: body for name, body in _SKIPPED.items() if not any(sign in environment for sign in _SIGNS[name])}


def _skipping(environment: Mapping[str, str]) -> dict[str, str]:
    """Exported bash functions in place of commands that this site does not have.

    A function exported before or defined later takes precedence, as does a program on the PATH.
    """
    return {
        f"BASH_FUNC_{name}%%": f'() {{ if type -P {name} >/dev/null; then command {name} "$@"; return; fi\n{body}\n}}'
        for name, body in _missing(environment).items()
    }
