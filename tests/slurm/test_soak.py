"""An experiment to which everything happens comes to its end: each target is made once, whatever happens meanwhile.

RUN_EXPERIMENT_SOAK=long, as `make soak` sets it, takes about 8 minutes. What happens and when is drawn from a seed,
which is printed; RUN_EXPERIMENT_SOAK_SEED=N draws it again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from cluster_runs import jobs, run, settled
from log_checks import all_problems
from own_cluster import OwnCluster, own_cluster
from sleeping_experiment import Work, make_sleeping
from soak import FAULTS, Soak, schedule

from run_experiment.actionlog.reader import read_action_logs


@dataclass(frozen=True)
class Form:
    """How much is made, with at most so many jobs in the queue, and what happens meanwhile."""

    runs: int
    training: tuple[int, int]
    evaluation: int
    queued: int
    faults: tuple[str, ...]


FORMS = {
    "short": Form(4, (6, 12), 5, 4, tuple(FAULTS)),
    "long": Form(12, (20, 50), 18, 8, (*FAULTS, "kill", "interrupt", "leave")),
}


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as cluster:
        yield cluster


def test_whatever_happens_each_target_is_made_once(tmp_path: Path, cluster: OwnCluster) -> None:
    form = FORMS[os.environ.get("RUN_EXPERIMENT_SOAK", "short")]
    seed = int(os.environ.get("RUN_EXPERIMENT_SOAK_SEED") or secrets.randbelow(10**6))
    random, begun = Random(seed), time.monotonic()
    work = Work([random.randint(*form.training) for _ in range(form.runs)], form.evaluation)
    soak = Soak(make_sleeping(tmp_path, work), work, form.queued, cluster, random)
    soak.fail_once()
    say(begun, f"RUN_EXPERIMENT_SOAK_SEED={seed}; {soak.fails_once} fails once")
    try:
        play(soak, form, begun)
    finally:
        soak.end()
    found = settled(soak.experiment.path, len(work.records))
    say(begun, f"made in {len(soak.starts)} starts with {len(found)} jobs")
    assert soak.records().keys() == work.records.keys()
    problems = all_problems(found, read_action_logs(soak.experiment.path), soak.records())
    assert not problems, "\n".join(problems)
    again = run(soak.experiment.path)
    assert "Nothing to be done" in again.output
    assert jobs(soak.experiment.path) == found


def play(soak: Soak, form: Form, begun: float) -> None:
    """Start the command, have everything happen to it, and start it until all is made."""
    soak.start()
    targets = len(soak.work.records)
    for made, fault in schedule(soak.random, form.faults, targets):
        soak.until(lambda made=made: len(soak.records()) >= made)
        say(begun, f"{fault}, {len(soak.records())} of {targets} targets are made")
        FAULTS[fault](soak)
    soak.finish()


def say(begun: float, text: str) -> None:
    print(f"{time.monotonic() - begun:6.1f} s: {text}", flush=True)
