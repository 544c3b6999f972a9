"""Experiments to plan without running anything: small files, and records as jobs would have left them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from experiments import TASK, WORDS, ExperimentFolder, summary
from model_weights import write_weights
from safetensors.numpy import save_file
from sample_logs import sample, samples_of, write_log

from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.checkpoints.lora_shapes import expected_shapes
from run_experiment.checkpoints.manifest import verify
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.evaluation.dataset_cache import FACTS
from run_experiment.experiment.model import Evaluation
from run_experiment.experiment.records import read_manifest
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.planning.build import make_plan
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.planning.plan import Plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.summary.read import read_summary

MODEL_CONFIG = {
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
ADAPTER_CONFIG = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "v_proj"]}


def make_small_experiment(folder: Path) -> ExperimentFolder:
    """Two trained runs of two epochs, evaluated after both and after the last one; a control; one made elsewhere."""
    folder.mkdir(parents=True)
    experiment = ExperimentFolder(folder)
    values = summary(make_model(folder.parent / "model"))
    values["runs"].append({"name": "given", "type": "eval-only", "checkpoint_path": str(folder.parent / "given")})
    matrix = values["evaluation"]["matrix"]
    matrix[1]["epochs"] = [1]
    matrix.append({"run": "given", "tasks": ["shout"], "epochs": None})
    rows = [{"input": word, "output": word.upper()} for word in WORDS]
    experiment.write_data({"train": rows[:8], "validation": rows[8:10], "test": rows[10:]})
    (folder / "shout.py").write_text(TASK)
    write_adapter(folder.parent / "given", seed=9)
    experiment.write(values)
    return experiment


def make_model(folder: Path) -> Path:
    """A folder that holds all of a model but a tokenizer that works; its weights are zero."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODEL_CONFIG))
    write_weights(folder, MODEL_CONFIG)
    return folder


def write_adapter(folder: Path, seed: int) -> None:
    """A whole adapter of random numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    random = np.random.default_rng(seed)
    shapes = expected_shapes(ADAPTER_CONFIG, MODEL_CONFIG)
    assert len(shapes) == 4
    tensors = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def plan_of(experiment: ExperimentFolder, **settings: Any) -> Plan:
    """The plan of an experiment as it lies there."""
    read, _ = read_summary(experiment.summary)
    memory = HashMemory(experiment.path / "hashes.json")
    resolved = resolve(read, experiment.path)
    return make_plan(resolved, Settings(experiment.path, **settings), memory, Snapshot(experiment.path))


def complete(experiment: ExperimentFolder) -> None:
    """Leave what the jobs of the whole plan would leave."""
    train_all(experiment)
    evaluate(experiment, plan_of(experiment).experiment.evaluations)
    cache(experiment)


def train_all(experiment: ExperimentFolder) -> None:
    """Leave all trainings of the plan, with verified checkpoints."""
    plan = plan_of(experiment)
    for number, run in enumerate(plan.experiment.fine_tuned):
        train(experiment, run.name, seed=10 * number, plan=plan)
    verify_all(experiment)


def cache(experiment: ExperimentFolder) -> None:
    """Leave the caches of all data sets, and their records."""
    plan = plan_of(experiment)
    for data_set in plan.data_sets.by_name.values():
        write_record(experiment.path / data_set.folder / FACTS, {"samples": 2, "seconds": 0.1})
        path = paths.cache_record(data_set.name)
        write_record(experiment.path / path, {"config": plan[path].config})


def train(experiment: ExperimentFolder, name: str, seed: int, plan: Plan | None = None, **facts: Any) -> None:
    """Leave a training's checkpoints and record."""
    plan = plan or plan_of(experiment)
    run = plan.experiment.run_by_name[name]
    for epoch in run.epochs:
        write_adapter(experiment.path / run.checkpoint_dir(epoch), seed + epoch)
    path = paths.finetune_record(name)
    record = {"run": name, "job_id": f"local-{seed}", "config": plan[path].config, "ended": "2025-01-31T10:00:00+01:00"}
    losses = {"train_loss": 0.25 + seed / 100, "validation_loss": None}
    write_record(experiment.path / path, {**record, "seconds": 61.5, "losses": losses, **facts})


def pass_check(experiment: ExperimentFolder, run: str, **train: int) -> None:
    """Leave the record of the check of a run's model, which counted the tokens of its training."""
    check = plan_of(experiment).model_checks.by_run[run]
    write_record(experiment.path / paths.model_check(check.name), {"config": check.config, "train": train})


def verify_all(experiment: ExperimentFolder) -> None:
    """Verify all checkpoints of the plan."""
    plan = plan_of(experiment)
    jobs = PlannedJobs(plan)
    for run in plan.experiment.runs:
        for epoch in [None] if run.checkpoint else list(run.epochs):
            name = Path(paths.manifest(run.name, epoch)).stem
            with chdir(experiment.path):
                verify(**jobs.verification(run.name, name))


def evaluate(
    experiment: ExperimentFolder, evaluations: Iterable[Evaluation], plan: Plan | None = None, **results: Any
) -> None:
    """Leave evaluations' logs and records; the samples in a log have its first metric for their mean."""
    plan = plan or plan_of(experiment)
    for item in evaluations:
        path = paths.eval_record(item.run.name, item.cell)
        config = dict(plan[path].config)
        if item.needs_checkpoint:
            manifest = read_manifest(experiment.path / paths.manifest(item.run.name, item.epoch))
            assert manifest is not None
            config[CHECKPOINT] = manifest.hashes
        record = {"run": item.run.name, "job_id": "local-7", "config": config, "ended": "2025-01-31T11:00:00+01:00"}
        found = {"metrics": {"match/accuracy": 0.5}, "total_samples": 16, **results}
        found = {"completed_samples": found["total_samples"], **found}
        write_log(experiment.path / paths.eval_log(item.run.name, item.cell), _samples_with(found))
        write_record(experiment.path / path, {**record, "seconds": 9.5, "results": found})


def _samples_with(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As many samples as these results are of, the last ones with an error or without a score."""
    metric, value = next(iter(results["metrics"].items()), ("", None))
    scorer, total, completed = metric.partition("/")[0], results["total_samples"], results["completed_samples"]
    scored = results.get("scored_samples", {}).get(scorer, completed)
    right = None if value is None else value * scored
    if right is not None and 0 <= right <= scored and right == int(right):
        values: list[Any] = ["C"] * int(right) + ["I"] * (scored - int(right))
    else:
        values = [value] * scored
    samples = samples_of([*values, *[math.nan] * (completed - scored)], scorer=scorer)
    return samples + [sample(number, None, error="boom") for number in range(completed + 1, total + 1)]
