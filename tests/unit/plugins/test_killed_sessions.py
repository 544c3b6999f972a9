"""A session may be killed at each of its writes: the next ones account for every job all the same, each once."""

from __future__ import annotations

import json
import os
import random
import signal
from itertools import cycle
from pathlib import Path

import pytest
from session_logs import BASE, EVAL4, EVAL8, R4, R8
from simulated_cluster import LIVES, SHARED_LIVES, SimulatedCluster
from simulated_sessions import Experiment, Session, SimulatedExecutor, simulated

from run_experiment.actionlog.entry import Log
from run_experiment.slurm import clients
from run_experiment.slurm.events import Detached, Event, Reattached
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.interrupts import Interrupts
from snakemake_executor_plugin_slurm_attached.submissions import planned_submission

# Steps of the cluster until the next session begins: none, some, or as many as its jobs take to their ends.
PAUSES = (0, 3, None)
# More than a session of these jobs has.
MOST_WRITES = 80


# Of each session that is killed: the write that it does not come to make, and the steps until the next one begins.
Kills = list[tuple[int, int | None]]


def killed(
    folder: Path,
    targets: tuple[str, ...],
    lives: list[str],
    kills: Kills,
    logs_late: bool = False,
    together: tuple[int, int] | None = None,
) -> bool:
    """Kill sessions, then run others until all is made; returns whether the last of them came to its write at all."""
    cluster = SimulatedCluster(folder, *lives)
    experiment = Experiment(folder, cluster, targets, logs_late, together)
    was_killed = False
    with simulated(experiment):
        for write, pause in kills:
            experiment.session(killed_at=write)
            was_killed = experiment.writes == write
            cluster.until_over() if pause is None else [cluster.sleep(1) for _ in range(pause)]
        while not experiment.session():
            assert len(cluster.jobs) < 20
        cluster.until_over()
        logs = [(folder / log.file).read_text() for log in Log]
        experiment.session()
        assert [(folder / log.file).read_text() for log in Log] == logs
    assert experiment.problems() == [], f"killed at writes {kills}"
    return was_killed


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.mark.parametrize("life", LIVES)
def test_a_job_is_accounted_for_whenever_its_session_is_killed(tmp_path: Path, life: str) -> None:
    writes = next(write for write in range(MOST_WRITES) if is_last(tmp_path, life, write))
    assert writes > 10


def is_last(parent: Path, life: str, write: int) -> bool:
    return not killed(folder(parent, write), (R4,), [life], [(write, PAUSES[write % len(PAUSES)])])


@pytest.mark.parametrize("life", LIVES)
def test_a_job_that_was_accepted_and_never_noted_is_found_at_its_end(tmp_path: Path, life: str) -> None:
    """Six writes are those of the logs' beginning, the intention and the submission."""
    assert killed(tmp_path, (R4,), [life], [(6, None)])
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[:2]] == ["intended", "accepted"]


def test_what_was_never_accepted_is_not_looked_for_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    facts = {"target": R4, "config_hash": "ab" * 32, "name": "x.r4"}
    with simulated(Experiment(tmp_path, SimulatedCluster(tmp_path), (R4,))):
        ledger.intend(planned_submission(tmp_path, facts))
        assert earlier_jobs(tmp_path, ledger, lambda event: None, clients.queue) == {}
    assert ledger.open() == {}


@pytest.mark.parametrize("logs_late", [False, True])
def test_two_jobs_of_which_one_waits_for_the_other(tmp_path: Path, logs_late: bool) -> None:
    lives = ["succeeds", "leaves its record as it leaves the queue"]
    for write in range(4, MOST_WRITES):
        kills = [(write, PAUSES[write % len(PAUSES)])]
        if not killed(folder(tmp_path, write), (R4, EVAL4), lives, kills, logs_late):
            return
    raise AssertionError("a session has more writes")


@pytest.mark.parametrize("pause", PAUSES)
def test_each_target_of_shared_jobs_and_arrays_is_accounted_for(tmp_path: Path, pause: int | None) -> None:
    """A job of two, and one of one, in an array or each by itself."""
    for write, life in zip(range(4, MOST_WRITES), cycle(SHARED_LIVES), strict=False):
        targets, together = (EVAL4, EVAL8, BASE), (2, 1 + write % 2)
        if not killed(folder(tmp_path, write), targets, [life], [(write, pause)], write % 3 == 0, together):
            return
    raise AssertionError("a session has more writes")


@pytest.mark.parametrize("life", SHARED_LIVES)
def test_targets_of_an_array_that_was_accepted_and_never_noted_are_found_at_its_end(tmp_path: Path, life: str) -> None:
    """Eight writes are those of the logs' beginning, the intentions and the submission."""
    assert killed(tmp_path, (EVAL4, EVAL8, BASE), [life], [(8, None)], together=(2, 2))
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[:4]] == [*["intended"] * 3, "accepted"]


HISTORIES: dict[str, tuple[tuple[str, ...], list[str], Kills, bool]] = {
    "the last end is logged before that of the job which it replaced": (
        (R4, EVAL4),
        ["is killed", "succeeds", "is killed", "loses its node", "is queued again"],
        [(21, None), (19, None)],
        True,
    ),
    "the log has a first start, the ledger does not, and the record is of the second": (
        (R4, EVAL4),
        ["loses its node when all is done", "is queued again", "loses its node when all is done", "is killed"],
        [(23, 5), (43, None)],
        True,
    ),
    "the log has an end by the record, the ledger only the first start": (
        (R4, R8),
        ["is cancelled", "is queued again", "loses its node when all is done", "is cancelled", "is killed"],
        [(22, 3), (9, 3)],
        False,
    ),
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_two_sessions_are_killed(tmp_path: Path, history: tuple[tuple[str, ...], list[str], Kills, bool]) -> None:
    targets, lives, kills, logs_late = history
    killed(tmp_path, targets, lives, kills, logs_late)


@pytest.mark.parametrize("seed", range(20))
def test_sessions_of_any_history(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    targets = drawn.choice([(R4,), (R4, R8), (R4, EVAL4), (R4, R8, EVAL4)])
    lives = drawn.choices(list(LIVES), k=drawn.randint(0, 6))
    kills = [(drawn.randrange(3, 45), drawn.choice([0, 1, 3, 5, None])) for _ in range(drawn.randint(1, 3))]
    killed(tmp_path, targets, lives, kills, logs_late=drawn.random() < 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_sessions_of_any_history_with_shared_jobs_and_arrays(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    targets = drawn.choice([(R4, R8), (R4, R8, EVAL4, EVAL8), (EVAL4, EVAL8, BASE), (R4, EVAL4, EVAL8, BASE)])
    lives = drawn.choices([*LIVES, *SHARED_LIVES], k=drawn.randint(0, 6))
    kills = [(drawn.randrange(3, 60), drawn.choice([0, 1, 3, 5, None])) for _ in range(drawn.randint(1, 3))]
    together = (drawn.randint(1, 3), drawn.randint(1, 3))
    killed(tmp_path, targets, lives, kills, drawn.random() < 0.5, together)


def folder(parent: Path, write: int) -> Path:
    path = parent / str(write)
    path.mkdir()
    return path


def test_a_signal_while_a_job_is_found_again_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be neither among those that keep running nor among those that are cancelled."""
    experiment = Experiment(tmp_path, SimulatedCluster(tmp_path, "succeeds"), (R4,))
    interrupts, seen = Interrupts(), list[Event]()
    monkeypatch.setattr(interrupts, "install", lambda: None)
    with simulated(experiment):
        experiment.session(interrupted_at=1)
        session = Session(experiment)
        executor = SimulatedExecutor(session)
        executor._interrupts = interrupts

        def observe(event: Event) -> None:
            seen.append(event)
            if isinstance(event, Reattached):
                interrupts._stop(signal.SIGINT, None)

        monkeypatch.setattr(session, "observe", observe)
        with pytest.raises(SystemExit):
            executor.run_jobs(list(session.jobs.values()))
        with pytest.raises(SystemExit):
            executor.cancel()
    (detached,) = [event for event in seen if isinstance(event, Detached)]
    assert [submission.target for submission in detached.submissions] == [R4]
