"""An experiment to which everything happens comes to its end: each target is made once, whatever happens meanwhile.

`make soak` has a long form, of about 6 minutes, and draws a new seed; the short one takes about 2. Both have early
evaluation, shared jobs and job arrays; the form `alone` is the long one with a job for each target.
What happens and when is drawn from the seed, which is printed; a failure says how to have the same happen again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from cluster_runs import jobs, run, settled, unnoted
from log_checks import all_problems, wrong_on_page
from own_cluster import OwnCluster, own_cluster
from page_reading import data_of
from sleeping_experiment import Work, make_sleeping, render_evaluations
from soak import FAULTS, AllMadeError, Soak, schedule

from run_experiment.actionlog.reader import read_action_logs


@dataclass(frozen=True)
class Form:
    """How much is made, with at most so many jobs in the queue, and what happens meanwhile.

    `together`: job arrays, whose elements have so many evaluations; None: each target has a job of its own.
    """

    runs: int
    training: tuple[int, int]
    evaluation: int
    queued: int
    faults: tuple[str, ...]
    together: int | None

    @property
    def arguments(self) -> list[str]:
        """Arguments of the command."""
        return ["--slurm-attached-max-queued", str(self.queued), *(ARRAYS if self.together else ())]

    @property
    def settings(self) -> list[str]:
        """Settings of the experiment."""
        return [f"evaluations_per_job={self.together or 1}"]


ARRAYS = ["--slurm-attached-array-jobs", "all"]
MANY = (*FAULTS, *["kill"] * 19, "interrupt", "leave")
FORMS = {
    "short": Form(4, (6, 12), 5, 4, (*FAULTS, "kill"), 2),
    "long": Form(12, (20, 50), 18, 8, MANY, 3),
    "alone": Form(12, (20, 50), 18, 8, MANY, None),
}


# Of the short form, unless another one is asked for: a node dies while jobs run, and most else happens after that.
SEED = "7"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[OwnCluster]:
    """A cluster whose daemons' logs are kept beside the experiment."""
    with own_cluster() as cluster:
        try:
            yield cluster
        finally:
            shutil.copytree(cluster.folder / "log", tmp_path / "cluster", dirs_exist_ok=True)


def test_whatever_happens_each_target_is_made_once(tmp_path: Path, cluster: OwnCluster) -> None:
    name = os.environ.get("RUN_EXPERIMENT_SOAK") or "short"
    wanted = os.environ.get("RUN_EXPERIMENT_SOAK_SEED") or SEED
    seed = secrets.randbelow(10**6) if wanted == "random" else int(wanted)
    try:
        everything_happens(tmp_path, cluster, FORMS[name], seed)
    except BaseException as error:
        error.add_note(f"The same again: make soak FORM={name} SEED={seed}; its folder is {tmp_path}")
        raise


def everything_happens(tmp_path: Path, cluster: OwnCluster, form: Form, seed: int) -> None:
    """Play what a seed draws, and compare the logs with SLURM's accounting."""
    random, begun = Random(seed), time.monotonic()
    work = Work([random.randint(*form.training) for _ in range(form.runs)], form.evaluation)
    experiment = make_sleeping(tmp_path, work)
    settings = [*form.settings, render_evaluations(experiment, work)]
    soak = Soak(experiment, work, form.arguments, settings, cluster, random)
    soak.fail_once()
    say(begun, f"SEED={seed}; {soak.fails_once} fails once")
    try:
        play(soak, form, begun)
    finally:
        soak.end()
    found = settled(soak.experiment.path, len(work.records))
    say(begun, f"made in {len(soak.starts)} starts with {len(found)} jobs")
    assert soak.records().keys() == work.records.keys()
    problems = all_problems(found, read_action_logs(soak.experiment.path), soak.records())
    problems += wrong_on_page(found, data_of(soak.experiment)["jobs"], soak.records())
    problems += unnoted(soak.experiment.path)
    assert not problems, "\n".join(problems)
    again = run(soak.experiment.path, config=soak.settings)
    assert "Nothing to be done" in again.output
    assert jobs(soak.experiment.path) == found


def play(soak: Soak, form: Form, begun: float) -> None:
    """Start the command, have everything happen to it, and start it until all is made."""
    soak.start()
    targets = len(soak.work.records)
    for made, fault in schedule(soak.random, form.faults, targets):
        soak.until(lambda made=made: len(soak.records()) >= made)
        say(begun, f"{fault}, {len(soak.records())} of {targets} targets are made")
        try:
            FAULTS[fault](soak)
        except AllMadeError:
            say(begun, f"nothing is left for {fault} to happen to")
    soak.finish()


def say(begun: float, text: str) -> None:
    print(f"{time.monotonic() - begun:6.1f} s: {text}", flush=True)
