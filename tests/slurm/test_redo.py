"""On a real cluster: what is chosen is submitted and nothing else; what is asked for again is made once more."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

from cluster_runs import AT_ONCE, Run, hold, jobs, names, run, running, sleeping, until
from snakemake_cli import planned

TRAINING, EVALUATION = "tiny.r8", "tiny.r8.shout.e0"


def test_what_is_named_is_submitted_and_a_job_that_makes_it_is_followed(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=1)
    go = hold(experiment)
    go.touch()
    chosen = ["only=r8,r8/*/*"]
    result = run(experiment.path, *AT_ONCE, config=chosen)
    assert result.process.returncode == 0, result.output
    assert names(experiment.path) == Counter([TRAINING, EVALUATION])
    old = experiment.record("r8/finetune.json")

    go.unlink()
    redo = [*chosen, "redo=r8"]
    counts = planned(experiment.path, "--config", *redo, profile="slurm")
    assert (counts["run_finetune"], counts["run_evaluation"]) == (1, 1)
    interrupted = Run(experiment.path, *AT_ONCE, config=redo)
    again = running_again(experiment.path)
    interrupted.interrupt(signal.SIGINT)
    assert interrupted.wait() == 128 + signal.SIGINT
    assert "Not made again yet: r8. To continue, run the same command without redo=;" in interrupted.output
    result = Run(experiment.path, *AT_ONCE, config=redo)
    result.until(f"{TRAINING}: following SLURM job {again}")
    go.touch()
    assert result.wait() == 0, result.output
    assert names(experiment.path) == Counter({TRAINING: 2, EVALUATION: 2})
    new = experiment.record("r8/finetune.json")
    assert new["started"] > old["started"]
    assert new["job_id"] == again
    assert "restored_by" not in new
    assert "Nothing to be done" in run(experiment.path, config=chosen).output


def running_again(folder: Path) -> str:
    """Id of the second training's job, once it runs."""
    until(lambda: [job.state for job in jobs(folder) if job.name == TRAINING][1:] == ["RUNNING"])
    return running(folder, TRAINING)[TRAINING]
