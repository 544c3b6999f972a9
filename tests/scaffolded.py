"""Job scripts as another tool would leave them: quick trainings that leave valid adapters, evaluations without a model.

They make a workflow of many jobs run in seconds; torchtune, inspect-ai and models have tests of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from experiments import ExperimentFolder, make_experiment
from finished_log import LEAVE_LOG, make_log
from once import once

TASK = '''"""Answers with the word in capitals, without a model."""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
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
    rows = json.loads(Path(data_path).read_text())[split]
    data = MemoryDataset([Sample(input=row["input"], target=row["output"]) for row in rows])
    return Task(dataset=data, solver=shouting(), scorer=match())
'''
# The same with `datasets`, whose import costs a second of CPU time, and its cache.
CACHED_TASK = (
    TASK.replace("import MemoryDataset, Sample", "import Sample, hf_dataset")
    .replace("    rows = json.loads(Path(data_path).read_text())[split]\n", "")
    .replace(
        "MemoryDataset([",
        'hf_dataset("json", data_files=data_path, field=split, split="train", sample_fields=lambda row: ',
    )
    .replace(" for row in rows])", ")")
)

# As other tools have them: all but the data is read from a file.
FROM_CONFIG = (
    CACHED_TASK.replace("split: str", 'config_path: str, vis_label: str = "", split: str')
    .replace("    data = hf", "    config = yaml.safe_load(Path(config_path).read_text())\n    data = hf")
    .replace('input=row["input"]', 'input=config["prompt"].format(input=row["input"])')
    .replace("solver=shouting()", 'solver=[system_message(config["system_prompt"]), shouting()]')
    .replace("Task(", 'Task(name=f"shout_{vis_label}", ')
    .replace('-> Task(name=f"shout_{vis_label}", ', "-> Task(")
    .replace("import solver", "import solver, system_message")
    .replace("from inspect_ai import", "import yaml\nfrom inspect_ai import", 1)
)
# A sampler of GPUs, which is killed at the end of each script.
SMI = """#!/bin/bash
echo "timestamp, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]"
echo "$(date '+%Y/%m/%d %H:%M:%S.000'), 55 %, 30000 MiB, 81559 MiB, 300.00 W"
exec sleep 60
"""
_SAMPLED = """GPU_DIR={folder}
mkdir -p "$GPU_DIR"
PATH={shims}:$PATH nvidia-smi --format=csv -l 30 > "${{GPU_DIR}}/gpu_metrics.csv" 2>/dev/null &
SAMPLER=$!
{command}
kill $SAMPLER
wait $SAMPLER
"""

TRAIN = '''"""Write adapters of the rank that finetune.yaml asks for: random numbers, but whole."""

import json
import sys
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from run_experiment.checkpoints.lora_shapes import expected_shapes

run, epochs = sys.argv[1], int(sys.argv[2])
output = Path(sys.argv[3] if len(sys.argv) > 3 else f"{run}/artifacts")
config = yaml.safe_load(Path(run, "finetune.yaml").read_text())
if "sft" in config:
    lr, rank, model = config["sft"]["learning_rate"], config["peft"]["r"], Path(config["model"])
else:
    lr, rank = config["optimizer"]["lr"], config["model"]["lora_rank"]
    model = Path(config["checkpointer"]["checkpoint_dir"])
if lr == 13:
    sys.exit("ValueError: unlucky learning rate")
adapter = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}
shapes = expected_shapes(adapter, json.loads((model / "config.json").read_text()))
for epoch in range(epochs):
    folder = output / f"epoch_{epoch}"
    folder.mkdir(parents=True)
    folder.joinpath("adapter_config.json").write_text(json.dumps(adapter))
    random = np.random.default_rng(epoch)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
'''


# Lines that only mean something where the tool is at home.
SITE = """module purge
module load anaconda3/2025.6
ml cuda
conda activate theirs
source activate theirs
"""


@dataclass(frozen=True)
class Scaffold:
    """How another tool leaves its scripts.

    `cell_folders`: each evaluation's script is `cell.slurm` in a folder of its own, which it goes to, and training
    scripts are meant to be submitted in their run's folder. `log_dir` is what evaluations give to inspect-ai (`{run}`
    and `{cell}` are filled in), `site` are lines at the top of each script, `sleep` the seconds that a training, an
    evaluation waits, `base_directory` is the summary's, `output` the folder that trainings write to, `options` is put
    at the end of each evaluation's command. `inspect`: inspect-ai evaluates; else each job leaves a copy of a log that
    was made once. `configs`: the task reads its prompts from a config beside the script, which also runs nvidia-smi
    and ends with what `wait` says of that.
    """

    cell_folders: bool = False
    log_dir: str | None = None
    site: str = ""
    sleep: tuple[float, float] = (0, 0)
    base_directory: str | None = None
    output: str | None = None
    options: str = ""
    inspect: bool = False
    configs: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


def make_scaffolded(folder: Path, epochs: int = 1, scaffold: Scaffold = Scaffold()) -> ExperimentFolder:
    """An experiment whose job scripts were made by another tool."""
    experiment = make_experiment(folder, epochs=epochs)
    values = experiment.read()
    values["controls"] |= scaffold.parameters
    if scaffold.base_directory:
        values["output"] = {"base_directory": scaffold.base_directory}
    experiment.write(values)
    task = CACHED_TASK if scaffold.inspect else TASK
    (folder / "shout.py").write_text(FROM_CONFIG if scaffold.configs else task)
    (folder / "train.py").write_text(TRAIN)
    for run in ("r4", "r8"):
        _train_script(folder, run, epochs, scaffold)
        for epoch in range(epochs):
            _eval_script(folder, run, f"shout_epoch{epoch}", epoch, scaffold)
    _eval_script(folder, "base", "shout_base", None, scaffold)
    return experiment


def _train_script(folder: Path, run: str, epochs: int, scaffold: Scaffold) -> None:
    output = scaffold.output.format(run=run) if scaffold.output else f"{run}/artifacts"
    command = f"python train.py {run} {epochs} {output}"
    if scaffold.cell_folders:
        # As `tune run … --config finetune.yaml` does, this reads what lies beside the script.
        (folder / run).mkdir(parents=True, exist_ok=True)
        (folder / run / "finetune.yaml").write_text(
            f"optimizer: {{lr: 0.01}}\nmodel: {{lora_rank: {run[1:]}}}\n"
            f"checkpointer: {{checkpoint_dir: {folder.parent / 'model'}}}\n"
        )
        command = f"test -f finetune.yaml\ncd {folder}\n{command.replace('train.py', f'{folder}/train.py')}"
    _script(folder / run / "finetune.slurm", scaffold, scaffold.sleep[0], command)


def _eval_script(folder: Path, run: str, cell: str, epoch: int | None, scaffold: Scaffold) -> None:
    command = "inspect eval shout.py@shout --model mockllm/model"
    place = folder / run / "eval" / f"{cell}.slurm"
    if scaffold.cell_folders:
        place = folder / run / "eval" / cell / "cell.slurm"
        command = f"cd {place.parent}\ncp {folder}/shout.py .\n{command} -T data_path={folder}/words.json"
        command += f" -M model_path={folder}/{run}/artifacts/epoch_{epoch}" if epoch is not None else ""
        command += f" --metadata epoch={epoch}" if epoch is not None else ' --metadata is_finetuned="false"'
    else:
        command += f" --task-config {run}/eval/{cell}.args.yaml"
    if scaffold.log_dir:
        command += f" \\\n  --log-dir {scaffold.log_dir.format(run=run, cell=cell)}"
    command = f"{command} --display plain {scaffold.options}".rstrip()
    if scaffold.configs:
        config = {"prompt": f"{run}: {{input}}\n", "system_prompt": "Be loud.", "vis_label": run}
        place.parent.mkdir(parents=True)
        (place.parent / "eval.yaml").write_text(yaml.safe_dump(config))
        command += f" -T config_path={place.parent}/eval.yaml -T vis_label={run}"
    if not scaffold.inspect:
        command = f'inspect() {{ python -I -S {LEAVE_LOG} {_finished_log()} "$@"; }}\n{command}'
    if scaffold.configs:
        command = _sampled(folder, run, command)
    _script(place, scaffold, scaffold.sleep[1], command)


def _sampled(folder: Path, run: str, command: str) -> str:
    shims = folder / "shims"
    shims.mkdir(exist_ok=True)
    (shims / "nvidia-smi").write_text(SMI)
    (shims / "nvidia-smi").chmod(0o755)
    return _SAMPLED.format(folder=folder / run / "gpu", shims=shims, command=command)


def _finished_log() -> Path:
    """A log of the task, made once in a test run."""

    def make(folder: Path) -> None:
        experiment = make_experiment(folder / "experiment")
        (experiment.path / "shout.py").write_text(TASK)
        make_log(experiment.path, folder / "log.eval")

    return once("finished-log", make) / "log.eval"


def _script(path: Path, scaffold: Scaffold, sleep: float, command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wait = f"sleep {sleep:g}\n" if sleep else ""
    path.write_text(f"#!/bin/bash\n#SBATCH --time=00:10:00\nset -e\n{scaffold.site}{wait}{command}\n")
