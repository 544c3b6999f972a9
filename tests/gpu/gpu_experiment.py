"""Experiments for a GPU: a Llama of 100 million random numbers that it trains in seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from experiments import TASK, ExperimentFolder
from tiny_model import make_tiny_model

# `cpu` runs what can be run without a GPU, with a model that is small enough for that.
DEVICE = os.environ.get("RUN_EXPERIMENT_TEST_DEVICE", "cuda")
# The line that activates the environment of vLLM; empty where it could not be installed.
VLLM = os.environ.get("RUN_EXPERIMENT_TEST_VLLM", "")
PROMPT = "Shout: {input}"
_WORDS = ("apple", "river", "stone", "cloud", "tiger", "lemon", "paper", "green", "house", "music", "ocean", "bread")
WORDS = [f"{one} {other}" for one in _WORDS for other in _WORDS if one != other]


def make_model(folder: Path) -> Path:
    """The model, in bf16; heads of 64, as kernels of GPUs want them."""
    if DEVICE == "cpu":
        return make_tiny_model(folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # For the tokenizer and all that does not decide the size.
    make_tiny_model(folder)
    config = AutoConfig.from_pretrained(folder)
    config.update({"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "head_dim": 64})
    config.update({"num_attention_heads": 16, "num_key_value_heads": 8, "initializer_range": 0.02})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def make_gpu_experiment(folder: Path, model: Path, *, tasks: list[dict[str, Any]], **controls: Any) -> ExperimentFolder:
    """An experiment in which both trainers train a run, evaluated after the last epoch."""
    folder.mkdir(parents=True)
    experiment = ExperimentFolder(folder)
    rows = [{"input": word, "output": word.upper()} for word in WORDS]
    experiment.write_data(
        {"train": rows[: 24 if DEVICE == "cpu" else 96], "validation": rows[96:100], "test": rows[100:]}
    )
    (folder / "shout.py").write_text(TASK)
    runs = [{"name": name, "type": "fine-tuned", "model": "tiny", "trainer": name} for name in ("torchtune", "trl")]
    names = [task["name"] for task in tasks]
    given = {"prompt": PROMPT, "epochs": 4, "batch_size": 8, "lr": 0.005, "lora_rank": 8, "device": DEVICE}
    dtype = {} if DEVICE == "cpu" else {"dtype": "bf16"}
    experiment.write(
        {
            "experiment": {"name": "gpu", "question": "Does it shout?", "date": "2025-01-31"},
            "controls": {**given, **dtype, **controls},
            "models": {"base": [{"name": "tiny", "path": str(model)}]},
            "data": {"training": {"path": "words.json", "label": "words", "format": "json"}},
            "runs": [{**run, "parameters": {}} for run in runs],
            "evaluation": {
                "max_tokens": 8,
                "scorer": "match",
                "logprobs": True,
                "tasks": [{"script": "shout.py", "dataset": "words.json", **task} for task in tasks],
                "matrix": [{"run": run["name"], "tasks": names, "epochs": [3]} for run in runs],
            },
        }
    )
    return experiment


def long_rows(count: int) -> list[dict[str, str]]:
    """Rows of some hundreds of tokens each, to fill memory with."""
    text = " ".join(WORDS[:40])
    return [{"input": f"{text} {number}", "output": text.upper()} for number in range(count)]


def write_rows(experiment: ExperimentFolder, rows: list[dict[str, str]]) -> None:
    """Replace the rows that are trained on."""
    (experiment.path / "words.json").write_text(json.dumps({**experiment.data(), "train": rows}))
