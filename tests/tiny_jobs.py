"""Jobs of an experiment in the working directory whose scripts train and evaluate nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from run_experiment.common.json_files import config_hash
from run_experiment.jobs import evaluate as evaluate_module
from run_experiment.jobs import finetune as finetune_module
from run_experiment.jobs.specs import EvaluationJob, FinetuneJob
from run_experiment.jobscripts.edits import Rendered, parse

# Trains nothing, but says which training the checkpoints are of.
TRAIN = """
echo training in $PWD
mkdir -p r4/artifacts/epoch_0 r4/artifacts/epoch_1
echo "$$" | tee r4/artifacts/epoch_0/adapter r4/artifacts/epoch_1/adapter
"""
LOG, LOCK = Path("logs/r4.log"), Path("r4/.finetune.lock")
RECORD = Path("r4/finetune.json")
EVAL_RECORD = Path("r4/eval/cap_epoch0.json")
EVAL_LOG = Path("r4/eval/logs/cap_epoch0.eval")

AnyJob = TypeVar("AnyJob", FinetuneJob, EvaluationJob)


def as_it_lies(job: AnyJob) -> AnyJob:
    """The job as it would be planned with the files that are there now."""
    there = [path for path in job.files if Path(path).exists()]
    return replace(job, files={path: parse(Path(path).read_text()).fingerprint for path in there})


def finetune(job: FinetuneJob, local_id: str, log: Path) -> None:
    finetune_module.finetune(as_it_lies(job), local_id, log)


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    evaluate_module.evaluate(as_it_lies(job), local_id, log)


def write_script(path: str, text: str) -> None:
    """A job script as it was rendered when the job was planned."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(Rendered("#!/bin/bash\n", f"set -euo pipefail\n{text}\n").text)


def read(path: Path | str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def weights(folder: str) -> str:
    return Path(folder, "epoch_0/adapter").read_text()


def folder_of(job: FinetuneJob) -> str:
    """Folder of a training's configuration."""
    return f"r4/trainings/{config_hash(job.config)[:12]}"


def manifest_of(sha256: str) -> dict[str, Any]:
    return {"config": {}, "files": {"adapter": {"size": 1, "sha256": sha256}}}


def leaving(logs: Path, *names: str, then: str = "") -> None:
    """A job script that leaves these logs, the last one newest, and exits with status 0 as inspect does."""
    lines = [f"cp {logs}/{name}.eval $INSPECT_LOG_DIR/{i}_{name}.eval; sleep 0.02" for i, name in enumerate(names)]
    write_script("r4/eval/cap_epoch0.slurm", "\n".join(["echo evaluating", *lines, then]))
