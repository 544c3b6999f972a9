"""What runs ask of a cluster that their trainers or evaluations cannot use: several GPUs, several nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from run_experiment.common.paths import finetune_script
from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.compute import Compute
from run_experiment.experiment.schema import RunEntry
from run_experiment.jobscripts.edits import parse
from run_experiment.summary.draft import Draft, Finding
from run_experiment.trainers.known import TRAINERS


def check_devices(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What is wrong with the devices of jobs; runs with scripts of their own in `folder` may use any."""
    for path, run in draft.runs.items():
        if run.type == "fine-tuned" and not _has_own_script(folder / finetune_script(run.name)):
            yield from _of_training(draft, path, run)
    compute = draft.evaluation.compute
    if compute and (compute.nodes or 1) > 1:
        yield Finding(("evaluation", "compute", "nodes"), "an evaluation runs on one node; leave it out")


def _of_training(draft: Draft, path: KeyPath, run: RunEntry) -> Iterator[Finding]:
    compute = (run.slurm_overrides.over(run.compute) if run.slurm_overrides else run.compute) or Compute()
    given, trainer = draft.merged(run), TRAINERS[draft.trainer(run)]
    devices = (compute.nodes or 1) if given.device == "cpu" else compute.devices
    place = (*path, *compute.key("nodes" if (compute.nodes or 1) > 1 else "gpus").split("."))
    if devices > 1 and not trainer.shares:
        others = " or ".join(name for name, one in TRAINERS.items() if one.shares)
        message = f"{trainer.name} trains on one GPU here; trainer: {others} in the run trains on several"
        yield Finding(place, message)
    elif given.batch_size * given.gradient_accumulation_steps % devices:
        samples = given.batch_size * given.gradient_accumulation_steps
        product = f"batch_size {given.batch_size} × gradient_accumulation_steps {given.gradient_accumulation_steps}"
        what = f"{devices} devices cannot share the {samples} samples of a step"
        yield Finding(place, f"{what} ({product}); change one of these")


def _has_own_script(script: Path) -> bool:
    """Whether the user or another tool wrote the commands of a script."""
    try:
        return bool(parse(script.read_text(encoding="utf-8", errors="replace")).own_commands)
    except OSError:
        return False
