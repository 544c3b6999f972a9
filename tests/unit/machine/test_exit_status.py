"""Exit statuses as real shells and processes give them, in words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from run_experiment.machine.exit_status import status_meaning, with_hint


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("not-there-at-all", "a command in it was not found"),
        ("./plain", "a command in it cannot be executed"),
        ("kill -9 $$", "killed; if nobody did, its memory ran out"),
        ("bash -c 'kill -9 $$'; exit $?", "killed; if nobody did, its memory ran out"),
        ("bash -c 'kill -SEGV $$'; exit $?", "segmentation fault"),
        ("kill -BUS $$", "is /dev/shm or the temporary folder full?"),
        ("kill -ILL $$", "built for another kind of CPU"),
        ("kill -TERM $$", "SIGTERM: cancelled, preempted, or near its time limit"),
        ("kill -STKFLT $$", "ended by SIGSTKFLT"),
    ],
)
def test_what_the_shell_says(tmp_path: Path, script: str, words: str) -> None:
    (tmp_path / "plain").write_text("text")
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL, check=False)
    assert words in status_meaning(result.returncode)


@pytest.mark.parametrize("status", [0, 1, 2, 3, 128, 255])
def test_what_is_up_to_the_program(status: int) -> None:
    assert status_meaning(status) == ""


def test_what_batch_systems_count_from_256() -> None:
    assert status_meaning(271) == status_meaning(143) == status_meaning(-15) != ""


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "the disk is full"),
        ("OSError: [Errno 122] Disk quota exceeded", "your quota is used up"),
        ("ModuleNotFoundError: No module named 'peft'", "install it in the environment that jobs run in"),
        ("/job/slurm_script: line 4: module: command not found", "correct `modules` in the settings"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "a newer driver"),
        ("ImportError: libcudart.so.12: cannot open shared object file", "load it in `modules`"),
    ],
)
def test_errors_that_need_something_done_elsewhere(line: str, hint: str) -> None:
    assert with_hint(line).startswith(f"{line} (")
    assert hint in with_hint(line)


def test_errors_that_say_it_themselves() -> None:
    assert with_hint("ValueError: no such split") == "ValueError: no such split"
