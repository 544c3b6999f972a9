"""`run-experiment status` beside an experiment on a real cluster: what it says of jobs, and what it asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster_runs import AT_ONCE, Run, client, hold, running, settled, sleeping, until

from run_experiment.slurm.ledger import PATH, Ledger

CLIENTS = ("sacct", "squeue", "scontrol", "sinfo", "sacctmgr", "sstat", "scancel", "sbatch")


def counting(folder: Path) -> dict[str, str]:
    """SLURM's clients, each of which leaves a line in `calls` first; returns the environment that has them."""
    folder.mkdir()
    for name in CLIENTS:
        path = folder / name
        path.write_text(f'#!/bin/bash\necho {name} >> {folder}/calls\nexec {shutil.which(name)} "$@"\n')
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def look(folder: Path, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What the command says, by subject."""
    code = f"import sys; from run_experiment.cli import main; sys.exit(main(['status', {str(folder)!r}, '--json']))"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    items = {item["subject"]: item for run in said["runs"] for item in (run["training"], *run["evaluations"])}
    return {"": said, **items}


def test_states_while_jobs_wait_and_run_and_after_their_ends(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=1)
    go = hold(experiment, "r4/finetune.slurm")
    experiment.edit("r8/finetune.slurm", "#SBATCH --gres", "#SBATCH --qos=brief\n#SBATCH --gres")
    environment = counting(tmp_path / "shims")
    started = Run(experiment.path, *AT_ONCE)
    try:
        ids = running(experiment.path, "tiny.r4")
        until(lambda: "r8/finetune.json" in Ledger(experiment.path / PATH).open())
        found = look(experiment.path, environment)
        # The queue only for why a job waits.
        assert (tmp_path / "shims/calls").read_text().split() == ["sacct", "squeue"]
        assert found[""]["asked"] == "sacct"
        assert (found[""]["followed"], found[""]["owner"]["pid"]) == (True, started.process.pid)
        waiting = Ledger(experiment.path / PATH).open()["r8/finetune.json"].job_id
        assert [found["r4"][key] for key in ("state", "job_id", "slurm_state")] == [
            "running",
            ids["tiny.r4"],
            "RUNNING",
        ]
        assert [found["r8"][key] for key in ("state", "job_id", "certain")] == ["pending", waiting, True]
        assert found["r4/shout/epoch0"]["reason"] == f"its run is being trained as job {ids['tiny.r4']}"
        limit = "QOSMaxWallDurationPerJobLimit): it asks for more than a job may have"
        client("scontrol", "suspend", ids["tiny.r4"])
        started.until(f"tiny.r8: SLURM job {waiting} waits ({limit}")
        started.until(f"tiny.r4: SLURM job {ids['tiny.r4']} RUNNING → SUSPENDED")
        until(lambda: "until somebody resumes it" in (experiment.path / "run-torchtune.log").read_text())
        client("scontrol", "uhold", waiting)
        held = f"JobHeldUser): it is held: release it with `scontrol release {waiting}`"
        started.until(f"tiny.r8: SLURM job {waiting} waits ({held}")
        until(lambda: f"Waits ({held}" in (experiment.path / "run-torchtune.log").read_text())
        stuck = look(experiment.path, environment)
        assert (stuck["r8"]["is_stuck"], stuck["r8"]["reason"]) == (True, held.replace("):", ":"))
        suspended = "SUSPENDED: until somebody resumes it"
        assert (stuck["r4"]["is_stuck"], stuck["r4"]["reason"]) == (True, suspended)
        client("scontrol", "resume", ids["tiny.r4"])
        client("scontrol", "release", waiting)
        client("scontrol", "update", f"jobid={waiting}", "timelimit=1")
        go.touch()
        assert started.wait(180) == 0, started.output
    finally:
        started.kill()
    made = {job.name: job.job_id for job in settled(experiment.path, 5)}
    (tmp_path / "shims/calls").unlink()
    done = look(experiment.path, environment)
    assert (done[""]["complete"], done[""]["followed"]) == (True, False)
    assert done[""]["counts"]["done"] == done[""]["total"] == 7
    assert (done["r4"]["job_id"], done["r4/shout/epoch0"]["job_id"]) == (made["tiny.r4"], made["tiny.r4.shout.e0"])
    assert done["r8"]["job_id"] == waiting
    # Nothing is in flight, so nothing is asked.
    assert not (tmp_path / "shims/calls").exists()
