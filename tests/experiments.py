"""Experiments for tests: a tiny model, a few words, and the real tools."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from tiny_model import make_tiny_model

TASK = '''"""Whether the model answers with the word in capitals."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, hf_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message


@task
def shout(data_path: str, prompt: str = "{input}", system_prompt: str = "", split: str = "test") -> Task:
    def sample(row: dict) -> Sample:
        return Sample(input=prompt.format(input=row["input"]), target=row["output"])

    data = hf_dataset("json", data_files=data_path, field=split, split="train", sample_fields=sample)
    system = [system_message(system_prompt)] if system_prompt else []
    return Task(dataset=data, solver=[*system, generate()], scorer=match(location="exact"))
'''

# Fails as torch does on a GPU, where the batch is larger than what fits.
OUT_OF_MEMORY = r"""
read_from="${RUN_EXPERIMENT_CHANGES:-} r4/finetune.yaml"
batch=$(grep -Eoh 'batch_size"?: [0-9]+' $read_from | grep -Eo '[0-9]+' | head -1)
echo "$batch" >> tries
if [ "$batch" -gt FITS ]; then echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'; exit 1; fi
"""
WORDS = ["apple", "river", "stone", "cloud", "tiger", "lemon", "paper", "green", "house", "music", "ocean", "bread"]


@dataclass(frozen=True)
class ExperimentFolder:
    """An experiment's folder, and edits of its files as a user would make them."""

    path: Path

    @property
    def summary(self) -> Path:
        return self.path / "experiment_summary.yaml"

    def read(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.summary.read_text()))

    def write(self, values: dict[str, Any]) -> None:
        self.summary.write_text(yaml.safe_dump(values, sort_keys=False))

    def set_parameters(self, name: str, **parameters: Any) -> None:
        values = self.read()
        run = next(run for run in values["runs"] if run["name"] == name)
        run["parameters"] |= parameters
        self.write(values)

    def data(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "words.json").read_text()))

    def write_data(self, splits: dict[str, Any]) -> None:
        (self.path / "words.json").write_text(json.dumps(splits))

    def record(self, path: str) -> dict[str, Any]:
        return dict(json.loads((self.path / path).read_text()))

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.path / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def summary(model: Path, epochs: int = 2) -> dict[str, Any]:
    """Two trained runs, evaluated after every epoch, and a control."""
    matrix = [{"run": name, "tasks": ["shout"], "epochs": list(range(epochs))} for name in ("r4", "r8")]
    return {
        "experiment": {"name": "tiny", "question": "Does it shout?", "date": "2025-01-31"},
        "variables": {"lora_rank": [4, 8]},
        "controls": {"prompt": "Shout: {input}", "epochs": epochs, "batch_size": 2, "lr": 0.01},
        "models": {"base": [{"name": "tiny", "path": str(model)}]},
        "data": {"training": {"path": "words.json", "label": "words", "format": "json"}},
        "runs": [
            {"name": "r4", "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": 4}},
            {"name": "r8", "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": 8}},
            {"name": "base", "type": "control", "model": "tiny", "parameters": {}},
        ],
        "evaluation": {
            "max_tokens": 3,
            "scorer": "match",
            "tasks": [{"name": "shout", "script": "shout.py", "dataset": "words.json"}],
            "matrix": [*matrix, {"run": "base", "tasks": ["shout"], "epochs": None}],
        },
    }


def make_experiment(folder: Path, epochs: int = 2) -> ExperimentFolder:
    """An experiment in `folder` that runs in a minute; the model lies beside the folder.

    Its trainer is torchtune, and TRL where that is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = make_tiny_model(folder.parent / "model")
    experiment = ExperimentFolder(folder)
    rows = [{"input": word, "output": word.upper()} for word in WORDS]
    experiment.write_data({"train": rows[:8], "validation": rows[8:10], "test": rows[10:]})
    (folder / "shout.py").write_text(TASK)
    trainer = {} if find_spec("torchtune") else {"tools": {"preparation": "trl"}}
    experiment.write(summary(model, epochs) | trainer)
    return experiment


def before_python(folder: Path, body: str, fits: int) -> str:
    """Setting of site lines that put a script before the `python` of job scripts."""
    shims = folder / "shims"
    shims.mkdir()
    real = shlex.quote(sys.executable)
    (shims / "python").write_text(f'#!/bin/bash\n{body.replace("FITS", str(fits))}\nexec {real} "$@"\n')
    (shims / "python").chmod(0o755)
    return f"modules=export PATH={shims}:$PATH"
