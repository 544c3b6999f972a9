"""Trainings without a model that publish each epoch as our recipe does, when a test lets them."""

from __future__ import annotations

from pathlib import Path

from cluster_runs import sleeping
from experiments import ExperimentFolder

_TRAIN = '''"""Write a whole epoch once its file is there; continue after the last one as our recipe does."""

import json
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from run_experiment.checkpoints.lora_shapes import expected_shapes
from run_experiment.common.clock import now, stamp

run, epochs, go = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
output = Path(f"{run}/artifacts")
config = yaml.safe_load(Path(run, "finetune.yaml").read_text())
adapter = {"peft_type": "LORA", "r": config["model"]["lora_rank"], "lora_alpha": 8, "target_modules": ["q_proj"]}
model = Path(config["checkpointer"]["checkpoint_dir"])
shapes = expected_shapes(adapter, json.loads((model / "config.json").read_text()))
changes = Path(os.environ.get("RUN_EXPERIMENT_CHANGES", os.devnull)).read_text()
state = json.loads(changes)["checkpointer"]["recipe_checkpoint"] if changes else "epoch_-1/"
for epoch in range(int(state.partition("/")[0].rpartition("_")[2]) + 1, epochs):
    while not (go / f"{run}.{epoch}").exists():
        time.sleep(0.1)
    if text := (go / f"{run}.{epoch}").read_text():
        sys.exit(text)
    folder = output / f".epoch_{epoch}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.joinpath("adapter_config.json").write_text(json.dumps(adapter))
    random = np.random.default_rng()
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    for name in ("adapter_model.pt", "recipe_state.pt"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("state", "whole")
    trained = {"job_id": os.environ["RUN_EXPERIMENT_JOB"], "ended": stamp(now())}
    folder.joinpath("trained.json").write_text(json.dumps(trained))
    shutil.rmtree(output / f"epoch_{epoch}", ignore_errors=True)
    folder.rename(output / f"epoch_{epoch}")
'''


class EpochTrainings:
    """Runs r4 and r8, evaluated after each of their epochs; their weights differ each time they are trained."""

    def __init__(self, folder: Path, epochs: int = 2) -> None:
        self.experiment: ExperimentFolder = sleeping(folder, train=0, evaluate=0.1, epochs=epochs)
        self._go, self._epochs = folder / "go", epochs
        self._go.mkdir()
        path = self.experiment.path
        (path / "train.py").write_text(_TRAIN)
        for script in path.rglob("*.slurm"):
            # Trainings that wait for a test must not keep evaluations of other tests from their GPUs.
            script.write_text(script.read_text().replace("#SBATCH --gres=gpu:1 --mem=800M\n", "#SBATCH --mem=100M\n"))
        for run in ("r4", "r8"):
            called = f"python train.py {run} {epochs}"
            # Scripts that name our recipe are those that may publish epochs.
            self.experiment.edit(
                f"{run}/finetune.slurm",
                f"{called} {run}/artifacts",
                f"{called} {self._go} run_experiment.finetuning.recipe",
            )

    def let(self, run: str, *epochs: int, fail: str = "") -> None:
        """Let a training go through epochs, or fail in them."""
        for epoch in epochs:
            new = self._go / ".new"
            new.write_text(fail)
            new.rename(self._go / f"{run}.{epoch}")

    def let_all(self) -> None:
        """Let all go on to their ends."""
        for run in ("r4", "r8"):
            self.let(run, *range(self._epochs))
