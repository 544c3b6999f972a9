"""Who may work on an experiment.

File systems without locks are made at the edge: `flock` fails as it does there. Other processes are real ones.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from run_experiment.common.experiment_lock import OWNER, ClaimError, Sighting, claim, observe

HOLD = """
import sys
from pathlib import Path
from run_experiment.common.experiment_lock import claim, observe
folder = Path(sys.argv[1])
held = claim(folder, observe(folder))
print(flush=True)
sys.stdin.read()
held.release()
"""
# As above, on a file system without locks.
HOLD_UNLOCKED = f"import fcntl\ndef refuse(*_): raise OSError({errno.ENOLCK}, '')\nfcntl.flock = refuse\n{HOLD}"

without_locks = pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the file system one that knows no locks, and says so with an error number."""

    def forget(code: int) -> None:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)

    return forget


@contextmanager
def at_work(folder: Path, program: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on an experiment until its input ends."""
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "\n"
        yield process


def owner(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / OWNER).read_text())
    assert isinstance(found, dict)
    return found


def change_owner(folder: Path, **changes: object) -> None:
    (folder / OWNER).write_text(json.dumps({**owner(folder), **changes}))


def test_second_claim_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    first = claim(tmp_path, observe(tmp_path))
    seen = observe(tmp_path)
    assert seen.at_work
    with pytest.raises(ClaimError, match=rf"already being worked on by process {os.getpid()} on .* \(user .+, since"):
        claim(tmp_path, seen)
    first.release()
    claim(tmp_path, observe(tmp_path)).release()


def test_owner_is_named_whole(tmp_path: Path) -> None:
    first = claim(tmp_path, observe(tmp_path))
    found = owner(tmp_path)
    assert found["pid"] == os.getpid()
    assert found["ended"] is None
    assert all(found[key] for key in ("host", "user", "boot_id", "start_ticks", "started"))
    first.release()
    assert owner(tmp_path) == {**found, "ended": owner(tmp_path)["ended"]}
    assert owner(tmp_path)["ended"] is not None


@pytest.mark.parametrize("killed", [False, True])
def test_plan_that_was_made_while_another_worked_is_outdated(tmp_path: Path, killed: bool) -> None:
    with at_work(tmp_path) as other:
        seen = observe(tmp_path)
        if killed:
            other.kill()
    with pytest.raises(ClaimError, match=r"While this run was being planned, process .*\. Start again"):
        claim(tmp_path, seen)
    claim(tmp_path, observe(tmp_path)).release()


@pytest.mark.parametrize("before", [0, 1])
def test_plan_is_outdated_if_another_worked_since(tmp_path: Path, before: int) -> None:
    for _ in range(before):
        claim(tmp_path, observe(tmp_path)).release()
    seen = observe(tmp_path)
    with at_work(tmp_path) as other:
        other.kill()
    with pytest.raises(ClaimError, match=rf"process {other.pid} on .*Start again"):
        claim(tmp_path, seen)


def test_refused_claim_holds_nothing(tmp_path: Path) -> None:
    seen = observe(tmp_path)
    claim(tmp_path, seen).release()
    with pytest.raises(ClaimError):
        claim(tmp_path, seen)
    assert not observe(tmp_path).at_work


def test_killed_owner_is_in_nobodys_way(tmp_path: Path) -> None:
    with at_work(tmp_path) as other:
        assert observe(tmp_path).at_work
        other.kill()
    claim(tmp_path, observe(tmp_path)).release()


def test_children_do_not_hold_the_claim(tmp_path: Path) -> None:
    first = claim(tmp_path, observe(tmp_path))
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    first.release()
    assert not observe(tmp_path).at_work
    child.kill()
    child.wait()


def test_who_only_looks_prevents_no_claim(tmp_path: Path) -> None:
    claim(tmp_path, observe(tmp_path)).release()
    seen = observe(tmp_path)
    look = "import fcntl, sys, time\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_SH)\nprint(flush=True)\n"
    with at_work(tmp_path / OWNER, f"{look}time.sleep(0.2)"):
        claim(tmp_path, seen).release()


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "\0\0"])
def test_unreadable_owner_is_no_obstacle_unless_it_lives(tmp_path: Path, text: str) -> None:
    claim(tmp_path, observe(tmp_path)).release()
    (tmp_path / OWNER).write_text(text)
    first = claim(tmp_path, observe(tmp_path))
    (tmp_path / OWNER).write_text(text)
    with pytest.raises(ClaimError, match="is already being worked on by another process"):
        claim(tmp_path, observe(tmp_path))
    first.release()


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / ".snakemake").write_text("")
    with pytest.raises(ClaimError, match="cannot be written"):
        claim(tmp_path, Sighting(b"", at_work=False))


@without_locks
def test_without_locks_a_living_owner_is_respected(tmp_path: Path, no_locks: Callable[[int], None], code: int) -> None:
    no_locks(code)
    with at_work(tmp_path, HOLD_UNLOCKED) as other:
        seen = observe(tmp_path)
        assert seen.at_work
        with pytest.raises(ClaimError, match=f"is already being worked on by process {other.pid}"):
            claim(tmp_path, seen)
    claim(tmp_path, observe(tmp_path)).release()


def test_without_locks_a_killed_owner_is_known_as_dead(tmp_path: Path, no_locks: Callable[[int], None]) -> None:
    no_locks(errno.ENOLCK)
    with at_work(tmp_path, HOLD_UNLOCKED) as other:
        other.kill()
        # It has not been waited for yet: the system still lists it.
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert not observe(tmp_path).at_work
    claim(tmp_path, observe(tmp_path)).release()


@pytest.mark.parametrize("changes", [{"boot_id": "an earlier boot"}, {"start_ticks": 1}])
def test_without_locks_another_process_of_that_number_is_told_apart(
    tmp_path: Path, no_locks: Callable[[int], None], changes: dict[str, object]
) -> None:
    no_locks(errno.ENOSYS)
    claim(tmp_path, observe(tmp_path))
    assert observe(tmp_path).at_work
    change_owner(tmp_path, **changes)
    assert not observe(tmp_path).at_work
    claim(tmp_path, observe(tmp_path)).release()
    # This process lives, but has noted its end.
    assert not observe(tmp_path).at_work


def test_without_locks_an_owner_elsewhere_is_respected_until_its_file_is_removed(
    tmp_path: Path, no_locks: Callable[[int], None]
) -> None:
    no_locks(errno.ENOLCK)
    claim(tmp_path, observe(tmp_path))
    change_owner(tmp_path, host="elsewhere")
    with pytest.raises(ClaimError, match=f"If elsewhere is down, remove {tmp_path / OWNER} and start again"):
        claim(tmp_path, observe(tmp_path))
    (tmp_path / OWNER).unlink()
    claim(tmp_path, observe(tmp_path)).release()


def test_without_locks_an_owner_that_ended_elsewhere_is_no_obstacle(
    tmp_path: Path, no_locks: Callable[[int], None]
) -> None:
    no_locks(errno.ENOLCK)
    claim(tmp_path, observe(tmp_path)).release()
    change_owner(tmp_path, host="elsewhere")
    claim(tmp_path, observe(tmp_path)).release()
