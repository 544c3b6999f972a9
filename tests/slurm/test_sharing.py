"""On a real cluster: evaluations that wait together are one job, each with its own record and entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_runs import AT_ONCE, Run, client, hold, jobs, settled, sleeping, until
from experiments import ExperimentFolder, make_experiment
from log_checks import all_problems

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.paths import eval_record, finetune_record
from run_experiment.slurm.job_ids import slurm_id, submitted_id

RUNS = ("first", "second", "third")
# The first of the job makes its record; the others wait for a file that a test makes, and the second fails then.
TASK = '''"""A task of words."""

import asyncio
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import Generate, Solver, TaskState, solver


@solver
def answering() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if list(Path().glob("*/eval/*.json")):
            while not Path("go").exists():
                await asyncio.sleep(0.2)
            if not Path("failed").exists():
                Path("failed").touch()
                raise RuntimeError("cannot shout")
        return await generate(state)

    return solve


@task
def shout(data_path: str, prompt: str = "{input}") -> Task:
    return Task(dataset=[Sample(input="a word", target="A WORD")], solver=answering(), scorer=match())
'''


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    """A model that is evaluated three times on the same data."""
    made = make_experiment(tmp_path / "experiment")
    values = made.read()
    del values["variables"]
    values["runs"] = [{"name": name, "type": "control", "model": "tiny", "parameters": {}} for name in RUNS]
    values["evaluation"] |= {
        "compute": {"mem": "3G", "time": "00:10:00"},
        "matrix": [{"run": name, "tasks": ["shout"]} for name in RUNS],
    }
    made.write(values)
    (made.path / "shout.py").write_text(TASK)
    return made


def test_evaluations_that_wait_together_are_one_job(experiment: ExperimentFolder) -> None:
    """The main process is killed meanwhile, and the next one goes on with each of them."""
    together = ["evaluations_per_job=3"]
    records = [experiment.path / eval_record(name, "shout_base") for name in RUNS]
    first = Run(experiment.path, *AT_ONCE, config=together)
    until(lambda: any(record.exists() for record in records))
    first.kill()
    second = Run(experiment.path, *AT_ONCE, config=together)
    second.until("again (RUNNING)")
    (experiment.path / "go").touch()
    assert second.wait() == 1
    assert "cannot shout" in second.output
    assert sum(record.exists() for record in records) == 2
    (job_id,) = {slurm_id(job.job_id) for job in settled(experiment.path, 3)}
    table = read_action_logs(experiment.path)
    table = table[table["job_id"].notna()]
    assert set(table["job_id"]) == {f"{job_id}+{place}" for place in (1, 2, 3)}
    assert table.groupby("subject")["job_id"].nunique().to_dict() == {f"{name}/shout/base": 1 for name in RUNS}
    for place, end in ((1, "COMPLETED"), (2, "FAILED"), (3, "COMPLETED")):
        entries = table[table["job_id"] == f"{job_id}+{place}"]
        changes = entries[entries["action"] == "STATE_CHANGE"]
        assert changes["details"].tolist() == ["PENDING → RUNNING", f"RUNNING → {end}"]
        assert [(entries["action"] == one).sum() for one in ("SUBMIT_EVAL", "COMPUTE_METRICS")] == [1, 1]


def test_elements_of_an_array_are_jobs_of_their_own(tmp_path: Path) -> None:
    """One runs while the other waits as the main process is killed; the one that waits is cancelled, and made later."""
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    for run in ("r4", "r8"):
        experiment.edit(f"{run}/finetune.slurm", "#SBATCH --gres=gpu:1", "#SBATCH --nodelist=n1 --gres=gpu:4")
    arrays = ["--slurm-attached-array-jobs", "run_finetune"]
    first = Run(experiment.path, *AT_ONCE, *arrays, config=["only=r4,r8"])
    until(lambda: [job.state for job in jobs(experiment.path)] == ["RUNNING", "PENDING"])
    first.kill()
    runs, waits = (job.job_id for job in jobs(experiment.path))
    assert [runs, waits] == [f"{submitted_id(runs)}_{number}" for number in (1, 2)]
    second = Run(experiment.path, *AT_ONCE, *arrays, config=["only=r4,r8"])
    second.until(f"following SLURM job {runs} again (RUNNING)")
    second.until(f"following SLURM job {waits} again (PENDING)")
    client("scancel", waits)
    go.touch()
    assert second.wait() == 1
    assert Run(experiment.path, *AT_ONCE, *arrays, config=["only=r4,r8"]).wait() == 0
    found = settled(experiment.path, 3)
    assert [one.state for one in found] == ["COMPLETED", "CANCELLED", "COMPLETED"]
    assert [one.job_id for one in found[:2]] == [runs, waits]
    records = {run: experiment.record(finetune_record(run)) for run in ("r4", "r8")}
    assert not all_problems(found, read_action_logs(experiment.path), records)
