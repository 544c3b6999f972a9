"""Experiments in the states that `run-experiment status` tells apart, and SLURM's answers on their jobs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments import ExperimentFolder
from small_experiment import plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import config_hash, write_record
from run_experiment.slurm.ledger import PATH, Ledger, Submission

NOW = datetime.now().astimezone()
TRAIN_R4 = "r4/finetune.json"
# Writes a row of the columns that it is asked for; those that are not given are empty.
SACCT = r"""
for argument; do case $argument in
    --delimiter=*) mark=${argument#--delimiter=};;
    --format=*) IFS=, read -ra columns <<< "${argument#--format=}";;
esac; done
row() {
    local -A values; local pair
    for pair; do values[${pair%%=*}]=${pair#*=}; done
    for column in "${columns[@]}"; do printf "%s$mark" "${values[$column]}"; done
    echo
}
"""
SQUEUE = r"""
for argument; do case $argument in --format=*) format=${argument#--format=};; esac; done
mark=${format%%%*}
row() { printf "$mark%s" "$@"; printf '%s\n' "$mark"; }
"""
FAILURE = "r4/finetune.slurm ended with exit status 1; its log is /somewhere\n    RuntimeError: no\n"


def items(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Trainings by their run, verifications and evaluations by their subjects."""
    return {
        item["subject"]: item
        for run in said["runs"]
        for item in (*run["verifications"], run["training"], *run["evaluations"])
    }


def states(said: dict[str, Any]) -> dict[str, str]:
    return {subject: item["state"] for subject, item in items(said).items()}


def reasons(said: dict[str, Any]) -> dict[str, str]:
    return {item["subject"]: item["reason"] for item in said["missing"]}


def fail(experiment: ExperimentFolder, target: str, job_id: str = "17", **facts: Any) -> None:
    """Leave the record of a failed attempt, as a job does."""
    run, name = paths.target_of(target)
    folder = experiment.path / paths.attempts(run) / job_id
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("RuntimeError: no\n")
    ended = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"target": name, "error": FAILURE, "job_id": job_id, "ended": ended}
    write_record(folder / "attempt.json", {**record, **facts})


def begin(experiment: ExperimentFolder, target: str, folder: str, **facts: Any) -> Path:
    """Leave what a job says when it begins, and what its followers note; returns the folder of the attempt."""
    run, name = paths.target_of(target)
    attempt = experiment.path / paths.attempts(run) / folder
    values = {"job_id": folder.partition(".")[0], "host": socket.gethostname(), "started": NOW.isoformat()}
    values["config_hash"] = config_hash(plan_of(experiment)[target].config)
    write_record(attempt / "begun.json", {"target": name, **values, **facts})
    return attempt


def submission(experiment: ExperimentFolder, target: str, name: str, ago: float = 600) -> Submission:
    made = (NOW - timedelta(seconds=ago)).isoformat(timespec="seconds")
    config = plan_of(experiment)[target].config
    return Submission(target, config_hash(config), name, f"comment of {target}", os.getuid(), made)


def submit(experiment: ExperimentFolder, target: str, name: str, job_id: str, ago: float = 600) -> Submission:
    """Leave the ledger's entries of a submitted job."""
    made = submission(experiment, target, name, ago)
    Ledger(experiment.path / PATH).intend(made)
    Ledger(experiment.path / PATH).accepted(made, job_id)
    return replace(made, job_id=job_id)


def play_squeue(folder: Path, *rows: str) -> None:
    """A squeue that lists jobs, `id state reason name comment` in the shell's words; it counts its calls, too."""
    lines = [f"#!{folder}/bash", f"echo squeue >> {folder}/calls", SQUEUE, *(f"row {row}" for row in rows)]
    (folder / "squeue").write_text("\n".join(lines) + "\n")
    (folder / "squeue").chmod(0o755)


def play_sacct(folder: Path, *rows: tuple[Submission, str], reasons: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A sacct that knows jobs in their states; each call adds a line to the file that is returned.

    `reasons`, by id, are why they wait.
    """
    time, calls = f"{NOW - timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}", folder / "calls"
    lines = [f"#!{folder}/bash", f"echo sacct >> {calls}", SACCT]
    for job, state in rows:
        values = {"JobID": job.job_id, "JobName": job.name, "UID": job.uid, "Comment": job.comment, "State": state}
        values |= {"ExitCode": "0:0", "Submit": time, "Reason": reasons.get(str(job.job_id), "None")}
        values |= {"Start": time, "NodeList": "n1"} if state != "PENDING" else {}
        values |= {"End": time} if state not in ("PENDING", "RUNNING") else {}
        lines.append("row " + " ".join(f"'{name}={value}'" for name, value in values.items()))
    (folder / "sacct").write_text("\n".join(lines) + "\n")
    (folder / "sacct").chmod(0o755)
    return calls


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in paths}
