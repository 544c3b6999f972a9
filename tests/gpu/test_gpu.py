"""Training and evaluation on a real GPU: what no test without one can know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from gpu_experiment import DEVICE, PROMPT, long_rows, make_gpu_experiment, write_rows
from safetensors import safe_open
from snakemake_cli import snakemake

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common import paths
from run_experiment.finetuning.encoder import Encoder
from run_experiment.finetuning.tokenizer import load_tokenizer

TRAINERS = ("torchtune", "trl")
# The last of the epochs that are trained.
EPOCH = 3
# Memory that is left to a training that has to run out of it.
LEFT_GIB = 3
ON_A_GPU = pytest.mark.skipif(DEVICE == "cpu", reason="it needs a GPU")
# Occupies all but some of a GPU's memory until its input ends.
HOG = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(float(sys.argv[1]) * 2**30), dtype=torch.uint8, device="cuda")
print(held.numel(), flush=True)
sys.stdin.read()
"""


def metrics(experiment: ExperimentFolder, run: str) -> pd.DataFrame:
    """The training curve of a run."""
    [file] = (experiment.path / run).glob("artifacts/**/metrics.csv")
    return pd.read_csv(file)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_training_learns_in_bf16(trained: ExperimentFolder, trainer: str, measured: Callable[[str], None]) -> None:
    record, curve = trained.record(f"{trainer}/finetune.json"), metrics(trained, trainer)
    losses = curve["loss"].dropna()
    assert losses.iloc[-5:].mean() < 0.9 * losses.iloc[0]
    assert record["tokens_per_second"] > 0
    memory = curve["peak_memory_gib"].max()
    measured(f"{trainer}: {record['tokens_per_second']:.0f} tokens/s, peak memory {memory:.2f} GiB")
    if DEVICE == "cpu":
        return
    import torch

    # More than the model's weights, less than the GPU has.
    assert 0.1 < memory < torch.cuda.get_device_properties(0).total_memory / 2**30
    config = (trained.path / trainer / "finetune.yaml").read_text()
    assert "bf16" in config


@pytest.mark.parametrize("trainer", TRAINERS)
def test_its_adapter_is_finite(trained: ExperimentFolder, trainer: str) -> None:
    import torch

    [file] = (trained.path / trainer).glob(f"artifacts/epoch_{EPOCH}/adapter_model.safetensors")
    with safe_open(str(file), "pt") as adapter:
        tensors = [adapter.get_tensor(name) for name in adapter.keys()]  # noqa: SIM118
    assert all(torch.isfinite(tensor).all() for tensor in tensors)
    assert any(tensor.abs().max() > 0 for tensor in tensors)


@ON_A_GPU
@pytest.mark.parametrize("trainer", TRAINERS)
def test_samples_of_nvidia_smi_are_of_this_gpu(trained: ExperimentFolder, trainer: str) -> None:
    found = trained.record(f"{trainer}/finetune.json")["gpu"]
    asked = "--query-gpu=memory.total,power.limit", "--format=csv,noheader,nounits"
    lines = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, check=True).stdout.splitlines()
    total = sum(float(line.split(",")[0]) for line in lines[: found["gpus"]])
    assert found["gpus"] >= 1
    assert found["samples"] >= 2
    assert found["total_memory_mib"] == pytest.approx(total, rel=0.01)
    assert 0 <= found["mean_utilization"] <= found["max_utilization"] <= 100
    # The driver counts at least what the training itself counts, unless its peak fell between two samples.
    assert 0.5 * 1024 * metrics(trained, trainer)["peak_memory_gib"].max() < found["peak_memory_mib"] < total


@ON_A_GPU
@pytest.mark.parametrize("key", ["load_in_4bit", "full_finetuning"])
def test_what_else_trl_trains(
    trained: ExperimentFolder, model: Path, tmp_path: Path, key: str, measured: Callable[[str], None]
) -> None:
    """QLoRA has less in memory than LoRA, a training of all weights more; each is evaluated."""
    experiment = make_gpu_experiment(tmp_path / "experiment", model, tasks=[{"name": "shout"}])
    summary = experiment.read()
    del summary["controls"]["lora_rank"]
    summary["runs"][1]["parameters"] = {key: True} | ({"lr": 1e-4} if key == "full_finetuning" else {})
    experiment.write(summary)
    result = snakemake(experiment.path, f"trl/eval/shout_epoch{EPOCH}.json")
    assert result.returncode == 0, result.stdout
    curve = metrics(experiment, "trl")
    assert curve["loss"].dropna().iloc[-5:].mean() < 0.9 * curve["loss"].dropna().iloc[0]
    memory, of_lora = (metrics(one, "trl")["peak_memory_gib"].max() for one in (experiment, trained))
    assert memory > of_lora if key == "full_finetuning" else memory < of_lora
    measured(f"trl, {key}: peak memory {memory:.2f} GiB, LoRA {of_lora:.2f} GiB")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Another process holds the GPU's memory but for a few GiB."""
    command = [sys.executable, "-c", HOG, str(LEFT_GIB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hog:
        assert hog.stdout
        assert int(hog.stdout.readline()) > 0
        yield
        assert hog.stdin
        hog.stdin.close()


@ON_A_GPU
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_batch_that_does_not_fit_is_made_smaller(
    model: Path, tmp_path: Path, little_memory: None, trainer: str, measured: Callable[[str], None]
) -> None:
    batch = {"batch_size": 512, "epochs": 1, "max_seq_len": 1024}
    experiment = make_gpu_experiment(tmp_path / "experiment", model, tasks=[{"name": "shout"}], **batch)
    write_rows(experiment, long_rows(512))
    result = snakemake(experiment.path, f"{trainer}/finetune.json", "--config", "retries=9")
    assert result.returncode == 0, result.stdout
    changes = experiment.record(f"{trainer}/finetune.json")["changes"]
    assert changes["batch_size"] < 512
    # As many samples a step as were asked for.
    assert changes["batch_size"] * changes["gradient_accumulation_steps"] == 512
    told = read_action_logs(experiment.path)
    retries = told[told["action"] == "OOM_RETRY"]
    assert not retries.empty
    measured(f"{trainer}: with {LEFT_GIB} GiB, batch 512 became {changes['batch_size']} in {len(retries)} retries")


def samples(experiment: ExperimentFolder, run: str, task: str) -> list[Any]:
    """Samples of an evaluation, in order."""
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(experiment.path / paths.eval_log(run, f"{task}_epoch{EPOCH}")))
    return sorted(log.samples or [], key=lambda one: one.id)


def tokens_of_prompts(experiment: ExperimentFolder, model: Path) -> list[int]:
    """How many tokens the prompts of the evaluation have, as a training encodes them."""
    encoder = Encoder(load_tokenizer(str(model)).tokenizer, "chat_completion", PROMPT, "")
    rows = experiment.data()["test"]
    return [len(encoder.encode({"input": row["input"], "output": ""})[0]) for row in rows]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_prompts_of_hf_are_as_long_as_in_the_training(trained: ExperimentFolder, model: Path, trainer: str) -> None:
    found = [one.output.usage.input_tokens for one in samples(trained, trainer, "shout")]
    # hf counts the padding, too: of prompts that are computed together, all are as long as the longest.
    prompts = tokens_of_prompts(trained, model)
    assert max(found) == max(prompts)
    assert all(padded >= own for padded, own in zip(found, prompts, strict=True))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_vllm_computes_what_hf_computes(
    both_backends: ExperimentFolder, model: Path, trainer: str, measured: Callable[[str], None]
) -> None:
    hf, vllm = (samples(both_backends, trainer, task) for task in ("shout", "fast"))
    assert [one.output.usage.input_tokens for one in vllm] == tokens_of_prompts(both_backends, model)
    pairs = [
        (one.output.choices[0].logprobs.content[0], other.output.choices[0].logprobs.content[0])
        for one, other in zip(hf, vllm, strict=True)
    ]
    # The first token depends on the prompt alone; near ties fall either way in bf16.
    same = [(one, other) for one, other in pairs if one.token == other.token]
    assert len(same) >= 0.8 * len(pairs)
    off = [abs(one.logprob - other.logprob) for one, other in same]
    assert sum(off) / len(off) < 0.1
    results = [both_backends.record(paths.eval_record(trainer, f"{task}_epoch{EPOCH}")) for task in ("shout", "fast")]
    assert [one["results"]["model"].partition("/")[0] for one in results] == ["hf", "vllm-tokens"]
    scores = [one["results"]["metrics"]["match/accuracy"] for one in results]
    assert scores[1] == pytest.approx(scores[0], abs=0.15)
    version, took = results[1]["results"]["vllm_version"], [one["seconds"] for one in results]
    measured(f"{trainer}: hf {scores[0]:.3f} in {took[0]:.0f} s, vLLM {version} {scores[1]:.3f} in {took[1]:.0f} s")


@ON_A_GPU
def test_two_trainings_fit_on_one_gpu(model: Path, tmp_path: Path, measured: Callable[[str], None]) -> None:
    experiment = make_gpu_experiment(tmp_path / "experiment", model, tasks=[{"name": "shout"}])
    targets = [f"{trainer}/finetune.json" for trainer in TRAINERS]
    result = snakemake(experiment.path, *targets, "--resources", "gpu_jobs=2")
    assert result.returncode == 0, result.stdout
    records = [experiment.record(target) for target in targets]
    began, ended = ([datetime.fromisoformat(one[name]) for one in records] for name in ("started", "ended"))
    assert max(began) < min(ended)
    speeds = ", ".join(f"{one['tokens_per_second']:.0f}" for one in records)
    measured(f"two trainings at once: {speeds} tokens/s")


def test_the_results_name_both_backends(both_backends: ExperimentFolder) -> None:
    table = pd.read_csv(both_backends.path / paths.EVALS_TABLE)
    assert {(one.task, one.backend) for one in table.itertuples()} == {("shout", "hf"), ("fast", "vllm")}
    made = json.loads((both_backends.path / "results/provenance.json").read_text())["evaluations"]
    assert all(one["versions"]["vllm"] for name, one in made.items() if "/fast/" in name)
