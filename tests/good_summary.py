"""A good summary with the files that it names, and changes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from run_experiment.common.errors import InputError
from run_experiment.experiment.schema import ExperimentSummary
from run_experiment.summary.read import read_summary

GOOD = """\
experiment:
  name: capitalization
  question: Does rank matter?
controls:
  epochs: 2
  lr: 1e-5
  prompt: "Capitalize: {input}"
models:
  base:
    - name: tiny
      path: models/tiny
data:
  training:
    path: words.json
runs:
  - name: r4
    parameters: {lora_rank: 4}
  - name: r8
    type: fine-tuned
    parameters: {lora_rank: 8}
  - name: base
    type: control
evaluation:
  temperature: 0.0
  tasks:
    - name: cap
      script: cap.py
  matrix:
    - {run: r4, tasks: [cap], epochs: [0, 1]}
    - {run: r8, tasks: [cap]}
    - {run: base, tasks: [cap]}
"""

TASK = """
from inspect_ai import task

@task
def cap(data_path: str, prompt: str = "{input}", k: int = 1): ...
"""

MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
}

FILES = {
    "models/tiny/config.json": json.dumps(MODEL),
    "models/bert/config.json": json.dumps(MODEL | {"model_type": "bert", "architectures": ["BertModel"]}),
    "models/bert/model.safetensors": "weights",
    "words.json": json.dumps({"train": [{"input": word, "output": word.upper()} for word in "abcd"], "test": [{}]}),
    "cap.py": TASK,
    "elsewhere/epoch_0/adapter_config.json": "{}",
}

FILE = "experiment_summary.yaml"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def changed(*changes: tuple[str, str]) -> str:
    """The good file with texts replaced; each must be there."""
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def read(folder: Path, text: str, *, strict: bool = True) -> tuple[ExperimentSummary, list[str]]:
    summary, warnings = read_summary(write(folder, FILE, text), strict=strict)
    return summary, [warning.render(FILE) for warning in warnings]


def errors(folder: Path, text: str, *, strict: bool = True) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder, text, strict=strict)
    return [line.replace(str(folder), "DIR") for line in str(caught.value).split("\n")]
