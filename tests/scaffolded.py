"""Job scripts as another tool would leave them: quick trainings that leave valid adapters, evaluations without a model.

They make a workflow of many jobs run in seconds; torchtune and models have tests of their own.
"""

from __future__ import annotations

from pathlib import Path

from experiments import ExperimentFolder, make_experiment

TASK = '''"""Answers with the word in capitals, without a model."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, hf_dataset
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import solver


@solver
def shouting():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("none", state.input_text.upper())
        return state

    return solve


@task
def shout(data_path: str, split: str = "test") -> Task:
    data = hf_dataset(
        "json",
        data_files=data_path,
        field=split,
        split="train",
        sample_fields=lambda row: Sample(input=row["input"], target=row["output"]),
    )
    return Task(dataset=data, solver=shouting(), scorer=match())
'''

TRAIN = '''"""Write adapters of the rank that finetune.yaml asks for: random numbers, but whole."""

import json
import sys
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from run_experiment.lora_shapes import expected_shapes

run, epochs = sys.argv[1], int(sys.argv[2])
config = yaml.safe_load(Path(run, "finetune.yaml").read_text())
if config["optimizer"]["lr"] == 13:
    sys.exit("ValueError: unlucky learning rate")
adapter = {"peft_type": "LORA", "r": config["model"]["lora_rank"], "lora_alpha": 8, "target_modules": ["q_proj"]}
model = Path(config["checkpointer"]["checkpoint_dir"])
shapes = expected_shapes(adapter, json.loads((model / "config.json").read_text()))
for epoch in range(epochs):
    folder = Path(run, "artifacts", f"epoch_{epoch}")
    folder.mkdir(parents=True)
    folder.joinpath("adapter_config.json").write_text(json.dumps(adapter))
    random = np.random.default_rng(epoch)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
'''


def make_scaffolded(folder: Path, epochs: int = 1) -> ExperimentFolder:
    """An experiment whose job scripts were made by another tool."""
    experiment = make_experiment(folder, epochs=epochs)
    (folder / "shout.py").write_text(TASK)
    (folder / "train.py").write_text(TRAIN)
    for run in ("r4", "r8"):
        _script(folder / run / "finetune.slurm", f"python train.py {run} {epochs}")
        for epoch in range(epochs):
            _eval_script(folder, run, f"shout_epoch{epoch}")
    _eval_script(folder, "base", "shout_base")
    return experiment


def _eval_script(folder: Path, run: str, cell: str) -> None:
    command = f"inspect eval shout.py@shout --model mockllm/model --task-config {run}/eval/{cell}.args.yaml"
    _script(folder / run / "eval" / f"{cell}.slurm", f"{command} --display plain")


def _script(path: Path, command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n#SBATCH --time=00:10:00\nset -e\n{command}\n")
