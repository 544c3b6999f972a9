"""Scripts that were written for another site: what this one lacks is skipped, and said; what it has is used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from run_experiment.jobs.script_process import run_script
from run_experiment.jobscripts.edits import Rendered
from run_experiment.jobscripts.script_facts import script_facts

SITE = ["module purge", "ml cuda", "conda activate theirs", "source activate theirs", ". activate theirs"]
MODULE = "BASH_FUNC_module%%"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without modules and conda."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("LMOD_CMD", "MODULESHOME", "CONDA_EXE", "BASH_ENV", MODULE, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)


def run(text: str, first: str = "#!/bin/bash", folder: Path = Path()) -> tuple[int, list[str]]:
    """Exit status and output of a script."""
    Path("job.slurm").write_text(f"{first}\n{text}\n")
    with Path("log").open("wb") as log:
        is_rendered = script_facts(Path("job.slurm"), folder).is_rendered
        status = run_script(Path("job.slurm"), log, {}, folder, is_rendered=is_rendered)
    return status, Path("log").read_text().splitlines()


def program(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    Path(path).chmod(0o755)


@pytest.mark.parametrize("line", SITE)
def test_what_a_site_lacks_is_skipped_and_said(line: str) -> None:
    status, output = run(f"set -euo pipefail\n{line}\necho trained")
    assert (status, output[-1]) == (0, "trained")
    (said,) = output[:-1]
    assert said.startswith("skipped, no ")
    assert said.endswith(line.replace(". activate", "source activate"))


@pytest.mark.parametrize("line", SITE)
def test_a_rendered_script_skips_nothing(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Our own environment, or pyenv, has such a file too.
    program("pyenv/bin/activate", "echo of pyenv\n")
    monkeypatch.setenv("PATH", f"{Path('pyenv/bin').absolute()}:/usr/bin:/bin")
    for head, commands in ((f"{line} || exit\n", ""), ("", f"{line}\n")):
        text = Rendered(head, f"set -euo pipefail\n{commands}echo trained\n").text
        status, output = run(text)
        words = line.replace(". ", "source ").split()
        said = "activate: no conda on this machine" if words[0] == "source" else f"{words[0]}: command not found"
        assert (status, len(output)) == (127, 1)
        assert output[0].endswith(said)


def test_a_rendered_script_that_was_edited_skips_nothing_either() -> None:
    text = Rendered("", "set -euo pipefail\necho trained\n").text.replace("echo", "module load cuda\necho")
    assert run(text)[0] == 127


def test_commands_that_compute_are_not_skipped() -> None:
    status, output = run("set -e\nconda run -n theirs python train.py\necho trained")
    assert (status, output) == (127, ["conda: command not found"])


@pytest.mark.parametrize("line", SITE[:3])
def test_a_program_that_is_there_is_run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program(f"bin/{line.split()[0]}", "#!/bin/sh\necho $1 failed; exit 3\n")
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:/usr/bin:/bin")
    assert run(f"set -e\n{line}\necho trained") == (3, [f"{line.split()[1]} failed"])


def test_a_function_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODULE, "() { echo real $*; return 4; }")
    assert run("set -e\nmodule load cuda\necho trained") == (4, ["real load cuda"])


def test_bash_s_own_start_file_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("start.sh").write_text("module() { echo started $*; return 5; }\n")
    monkeypatch.setenv("BASH_ENV", str(Path("start.sh").absolute()))
    assert run("set -e\nmodule load cuda") == (5, ["started load cuda"])


def test_a_missing_start_file_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASH_ENV", "/nowhere/start.sh")
    status, output = run("set -e\nmodule load cuda\necho trained")
    assert (status, output[-1]) == (0, "trained")


@pytest.mark.parametrize(("sign", "line"), [("LMOD_CMD", "module load cuda"), ("CONDA_EXE", "conda activate x")])
def test_a_site_that_has_it_is_not_taken_for_one_without(sign: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sign, "/opt/it")
    status, output = run(f"set -e\n{line}\necho trained")
    assert status == 127
    assert "skipped" not in output[0]


def test_the_site_s_activate_is_found_before_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    program("pyenv/bin/activate", "echo of pyenv\nfalse\n")
    program("conda/bin/activate", "echo activated $1\n")
    program("conda/bin/conda", "#!/bin/sh\n")
    folders = [str(Path(name).absolute()) for name in ("pyenv/bin", "conda/bin")]
    monkeypatch.setenv("PATH", ":".join([*folders, "/usr/bin:/bin"]))
    assert run("set -eu\nsource activate theirs") == (0, ["activated theirs"])


def test_tools_are_those_beside_python_and_the_folder_is_given() -> None:
    Path("run").mkdir()
    _, output = run("command -v python\npwd\necho $SLURM_SUBMIT_DIR", folder=Path("run"))
    assert output == [str(Path(sys.executable).parent / "python"), *2 * [str(Path("run").absolute())]]


def test_an_interpreter_that_a_node_does_not_have_is_named() -> None:
    status, output = run("echo trained", first="#!/opt/shells/zsh -f")
    assert (status, output) == (127, ["its first line names /opt/shells/zsh, which this machine does not have"])


def test_login_shells_find_our_tools_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path().absolute()))
    Path(".bash_profile").write_text("echo logged in\nexport PATH=/usr/bin:/bin\n")
    status, output = run('command -v inspect\necho "$0" $#\nexit 3', first="#!/bin/bash -l")
    assert status == 3
    assert output == ["logged in", str(Path(sys.executable).parent / "inspect"), f"{Path('job.slurm').absolute()} 0"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "64"}, "4"),
        ({"SLURM_CPUS_ON_NODE": "8"}, "8"),
        ({"SLURM_CPUS_PER_TASK": "4", "OMP_NUM_THREADS": "2"}, "2"),
        ({}, "none"),
    ],
)
def test_threads_are_those_of_the_allocation(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert run("echo ${OMP_NUM_THREADS:-none}") == (0, [expected])


def test_a_script_is_run_with_what_its_first_line_names() -> None:
    assert run("import sys; print('python', len(sys.argv))", f"#!{sys.executable}") == (0, ["python 1"])
    assert run("import os, sys; print(sys.flags.isolated)", "#!/usr/bin/env -S python3 -I") == (0, ["1"])
    # As the kernel calls it: one argument, then the script.
    program("shell/odd", '#!/bin/sh\nprintf "%s\\n" "$#" "$1" "${2##*/}"\n')
    assert run("", f"#! {Path('shell/odd').absolute()} -a b") == (0, ["2", "-a b", "job.slurm"])


@pytest.mark.parametrize(
    ("first", "options"),
    [
        *(("#!/bin/bash -eu", "ehuB"), ("#!/usr/bin/env bash", "hB"), ("#!/usr/bin/env -S bash -e", "ehB")),
        *(("#!/bin/sh", "hB"), ("#!/bin/bash -el", "ehB"), ("", "hB")),
    ],
)
def test_options_of_bash_in_the_first_line_hold(first: str, options: str) -> None:
    status, output = run("echo $-; module load cuda", first)
    assert status == 0
    assert set(output[0]) - set("c") == set(options)
    assert output[1] == "skipped, no environment modules on this machine: module load cuda"


def test_other_shells_skip_what_a_site_lacks_too() -> None:
    """They know no functions of bash."""
    assert run("module load cuda\necho $SLURM_SUBMIT_DIR", "#!/bin/dash") == (
        0,
        ["skipped, no environment modules on this machine: module load cuda", str(Path().absolute())],
    )


def test_signals_of_slurm_reach_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `#SBATCH --signal=B:USR1@60`: the script saves its state and ends as it wants to."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    Path("sends").write_text(f"until [ -e waits ]; do sleep 0.05; done; kill -$1 {os.getpid()}\n")
    for name in ("USR1", "USR2", "HUP"):
        Path("waits").unlink(missing_ok=True)
        with subprocess.Popen(["bash", "sends", name]):
            found = run(f"trap 'echo saved; exit 3' {name}\ntouch waits\nwhile :; do sleep 0.05; done")
        assert found == (3, ["saved"])


def test_signals_of_slurm_that_come_before_the_script_is_known_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM may send one at the very moment at which the script starts: it is kept for it."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    class Started(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            # Its trap is set.
            Path("waits").read_text()
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(subprocess, "Popen", Started)
    os.mkfifo("waits")
    script = "trap 'echo saved; exit 3' USR1\necho > waits\nfor _ in {1..200}; do sleep 0.05; done\necho not told"
    assert run(script) == (3, ["saved"])


@pytest.mark.parametrize("home", ["/proc/nohome", ""])
def test_where_home_cannot_be_written_to_programs_have_another_data_folder(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert run('echo "${XDG_DATA_HOME-none}"') == (0, ["none"])
    monkeypatch.setenv("HOME", home)
    assert run('mkdir "${XDG_DATA_HOME:?}/inspect_ai" && echo made') == (0, ["made"])


def test_nothing_is_left_behind() -> None:
    _, output = run("echo ${PATH%%:*}")
    assert not Path(output[0]).exists()
    assert subprocess.run(["bash", "-c", "type -t module"], check=False).returncode == 1
