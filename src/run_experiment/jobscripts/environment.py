"""What a job script is run with: the command, and an environment in which lines of other sites do no harm.

Only scripts of other tools have such lines: those of a rendered script are of this site, and have to work.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from run_experiment.jobscripts.edits import parse

# Commands that set up the environment of a site, and what they do on a site that has none of them.
_SKIPPED = {
    "module": 'echo "skipped, no environment modules on this machine: module $*" >&2',
    "ml": 'echo "skipped, no environment modules on this machine: ml $*" >&2',
    "conda": """case ${1-} in
activate | deactivate) echo "skipped, no conda on this machine: conda $*" >&2 ;;
*) echo "conda: command not found" >&2; return 127 ;;
esac""",
}
# Variables that say that a site has them, though its functions were not handed on.
_SIGNS = {
    "module": ("LMOD_CMD", "MODULESHOME"),
    "ml": ("LMOD_CMD", "MODULESHOME"),
    "conda": ("CONDA_EXE",),
}
# A file `activate` to be found first: that of our own environment, or of pyenv, must not stand for conda's.
_ACTIVATE = """_found=$(IFS=:; for _folder in $PATH; do
if [ -f "$_folder/activate" ] && [ -e "$_folder/conda" ]; then echo "$_folder/activate"; break; fi
done)
if [ -n "$_found" ]; then . "$_found" "$@"; return; fi
"""
_ACTIVATE_SKIPPED = 'echo "skipped, no conda on this machine: source activate $*" >&2\n'
_ACTIVATE_FAILED = 'echo "activate: no conda on this machine" >&2; return 127\n'
_LOGIN = re.compile(r"#!\s*\S*(?:/bash|/env\s+(?:-S\s+)?bash)\s+(?:-\w*l\w*|--login)\b")


def script_command(script: Path, path: str) -> list[str]:
    """Command that runs a script (absolute); one that wants a login shell gets what that sets up, then this PATH."""
    with script.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not _LOGIN.match(first):
        return ["bash", str(script)]
    return ["bash", "-l", "-c", 'PATH="$PATH:$1"; shift; . "$0"', str(script), path]


def may_activate(script: Path) -> bool:
    """Whether a script may run another Python than that beside ours; a missing one does not.

    It does not where its commands are as rendered, and nothing above them makes an environment.
    """
    try:
        existing = parse(_text(script))
    except OSError:
        return False
    lines = [line.strip() for line in existing.parts.head.splitlines()]
    return existing.own_commands or any(line and not line.startswith("#") for line in lines)


def _text(script: Path) -> str:
    return script.read_text(encoding="utf-8", errors="replace")


def script_environment(inherited: Mapping[str, str], folder: Path, own: Path, script: Path) -> dict[str, str]:
    """Environment of a script that runs in `folder`; `own` is an empty folder that is there as long as it runs.

    Raises OSError where the script cannot be read.
    """
    # INSPECT_EVAL_LIMIT and its like would change every evaluation behind the summary's back.
    kept = {name: value for name, value in inherited.items() if not name.startswith("INSPECT_EVAL_")}
    beside = Path(sys.executable).parent
    # Edited since or not.
    rendered = parse(_text(script)).rendered is not None
    (own / "activate").write_text(_ACTIVATE + (_ACTIVATE_FAILED if rendered else _ACTIVATE_SKIPPED), encoding="utf-8")
    kept["PATH"] = os.pathsep.join([str(own), str(beside), kept.get("PATH", os.defpath)])
    # As if it was submitted there.
    kept["SLURM_SUBMIT_DIR"] = str(folder.absolute())
    # Without it every library takes all cores of a node.
    if cpus := kept.get("SLURM_CPUS_PER_TASK") or kept.get("SLURM_CPUS_ON_NODE"):
        kept.setdefault("OMP_NUM_THREADS", cpus)
    return kept if rendered else {**_skipping(kept), **kept}


def _skipping(environment: Mapping[str, str]) -> dict[str, str]:
    """Functions, as bash exports them, for commands of sites that have none of them.

    One that is exported already, defined later, or found as a program when it is called, is used instead.
    """
    return {
        f"BASH_FUNC_{name}%%": f'() {{ if type -P {name} >/dev/null; then command {name} "$@"; return; fi\n{body}\n}}'
        for name, body in _SKIPPED.items()
        if not any(sign in environment for sign in _SIGNS[name])
    }
