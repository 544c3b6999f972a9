"""One experiment with everything real: torchtune and TRL train, inspect-ai evaluates, Snakemake decides."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments import ExperimentFolder, make_experiment
from inspect_ai.log import read_eval_log
from safetensors.numpy import save_file
from snakemake_cli import planned, ran, snakemake

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.checkpoints.lora_shapes import expected_shapes
from run_experiment.finetuning.metrics import read_metrics

OWN_TASKS = '''"""Tasks as their owner wrote them, for no tool in particular."""

from inspect_ai import Task, task
from inspect_ai.dataset import csv_dataset, example_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def capitals(data_path):
    return Task(dataset=csv_dataset(data_path), solver=generate(), scorer=includes())


@task
def security():
    return Task(dataset=example_dataset("security_guide")[:2], solver=generate(), scorer=includes())
'''


def make_adapter(folder: Path, model: Path) -> None:
    """A checkpoint made elsewhere."""
    adapter = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    random = np.random.default_rng(0)
    shapes = expected_shapes(adapter, json.loads((model / "config.json").read_text()))
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An adapter and a whole model that are trained, on all rows of two files and on the first of them; a control and a
    checkpoint made elsewhere.

    Three tasks read their data in three ways.
    """
    experiment = make_experiment(tmp_path_factory.mktemp("end to end") / "my experiment")
    make_adapter(experiment.path / "elsewhere/epoch_7", experiment.path.parent / "model")
    (experiment.path / "own.py").write_text(OWN_TASKS)
    (experiment.path / "capitals.csv").write_text("input,target\nFrance?,Paris\nItaly?,Rome\nJapan?,Tokyo\n")
    splits = experiment.data()
    experiment.write_data({**splits, "train": splits["train"][:3]})
    more = [f"{row['output']},{row['input']}\n" for row in splits["train"][3:]]
    (experiment.path / "more.csv").write_text("".join(["output,input\n", *more]))
    values = experiment.read()
    values["data"]["training"] = {"path": ["words.json", "more.csv"]}
    values["output"] = {"base_directory": str(experiment.path.parent / "scratch")}
    values["controls"] |= {"validation_during_training": True, "system_prompt": 'Say "it" loud.'}
    values["runs"][1] = {"name": "given", "type": "eval-only", "checkpoint_path": "elsewhere/epoch_7"}
    first = {"full_finetuning": True, "epochs": 1, "training_samples": 4}
    values["runs"].append({"name": "full", "trainer": "trl", "parameters": first})
    values["evaluation"]["tasks"] += [
        {"name": "capitals", "script": "own.py@capitals", "dataset": "capitals.csv"},
        {"name": "security", "script": "own.py@security"},
    ]
    values["evaluation"]["matrix"] = [
        {"run": "r4", "tasks": ["shout"], "epochs": [0, 1]},
        {"run": "given", "tasks": ["shout"], "epochs": None},
        {"run": "full", "tasks": ["shout"], "epochs": [0]},
        {"run": "base", "tasks": ["capitals", "security"], "epochs": None},
    ]
    experiment.write(values)
    return experiment


@pytest.fixture(scope="module")
def output(experiment: ExperimentFolder) -> str:
    """What the run printed."""
    result = snakemake(experiment.path)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_every_job_runs_once(output: str, experiment: ExperimentFolder) -> None:
    assert ran(output) == Counter(
        check_model=4, run_finetune=2, verify_checkpoint=4, prebuild_cache=3, run_evaluation=6, collect_results=1
    )
    assert planned(experiment.path) == Counter()
    assert not list(experiment.path.glob("*/attempts/*"))


def test_results_table(output: str, experiment: ExperimentFolder) -> None:
    table = pd.read_csv(experiment.path / "results/evals.csv")
    assert list(zip(table["run"], table["task"], table["epoch"].fillna(-1), strict=True)) == [
        ("r4", "shout", 0),
        ("r4", "shout", 1),
        ("given", "shout", -1),
        ("full", "shout", 0),
        ("base", "capitals", -1),
        ("base", "security", -1),
    ]
    assert list(table["samples"]) == [2, 2, 2, 2, 3, 2]
    assert list(table["lora_rank"].fillna(-1))[:4] == [4, 4, -1, -1], "a whole model has no rank"
    assert table["includes/accuracy"].notna().sum() == 2
    assert table["job_id"].str.fullmatch(r"local-\d+").all()
    assert "6 of 6 evaluations are done." in (experiment.path / "results/summary.md").read_text()


def test_training_leaves_its_curve(output: str, experiment: ExperimentFolder) -> None:
    for run, steps in (("full", 2), ("r4", 8)):
        metrics = read_metrics(experiment.path.parent / f"scratch/{run}/artifacts/metrics.csv")
        assert list(metrics["step"].dropna().unique()) == list(range(1, steps + 1))
    losses = experiment.record("r4/finetune.json")["losses"]
    assert math.isfinite(losses["train_loss"])
    assert math.isfinite(losses["validation_loss"])


def test_models_are_the_right_ones(output: str, experiment: ExperimentFolder) -> None:
    """Each evaluation reads its own checkpoint, and a control none."""
    for run, cell, checkpoint in [
        ("r4", "shout_epoch0", "r4/checkpoints/epoch_0"),
        ("r4", "shout_epoch1", "r4/checkpoints/epoch_1"),
        ("given", "shout_base", "given/checkpoints/given"),
        ("full", "shout_epoch0", "full/checkpoints/epoch_0"),
        ("base", "capitals_base", "../model"),
    ]:
        log = read_eval_log(str(experiment.path / run / "eval/logs" / f"{cell}.eval"))
        used = experiment.path / log.eval.model_args["model_path"]
        assert used.resolve() == (experiment.path / checkpoint).resolve()
        if run != "base":
            assert [message.text for message in log.samples[0].messages[:2]] == ['Say "it" loud.', "Shout: ocean"]
    hashes = [
        experiment.record(f"{run}/eval/{cell}.json")["config"].get("checkpoint", {}).get("adapter_model.safetensors")
        for run, cell in [
            ("r4", "shout_epoch0"),
            ("r4", "shout_epoch1"),
            ("given", "shout_base"),
            ("base", "capitals_base"),
        ]
    ]
    assert hashes[3] is None
    evaluated = experiment.record("full/eval/shout_epoch0.json")["config"]["checkpoint"]
    assert {"config.json", "model.safetensors"} <= evaluated.keys()
    assert len({entry["sha256"] for entry in hashes[:3]}) == 3


def test_another_experiment_takes_its_evaluations(output: str, experiment: ExperimentFolder) -> None:
    """Those of trained, given and untrained models, without a job, together with the training that they are of."""
    again = ExperimentFolder(experiment.path.with_name("again"))
    again.path.mkdir()
    for path in [*experiment.path.glob("*.*"), experiment.path / "elsewhere"]:
        if not path.name.startswith(("run-", ".")):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, again.path / path.name)
    values = again.read()
    del values["output"]
    again.write(values)
    asked = ("--config", f"reuse={experiment.path}", "only=*/*/*")
    result = snakemake(again.path, *asked)
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == Counter(collect_results=1)
    own, others = (pd.read_csv(one.path / "results/evals.csv") for one in (again, experiment))
    pd.testing.assert_frame_equal(own, others)
    log = read_action_logs(again.path)
    taken = log[log["action"] == "REUSE_EVAL"]
    assert list(taken["subject"]) == [f"{row.run}/{row.task}/{_last(row.epoch)}" for row in own.itertuples()]
    assert taken["details"].str.contains(f"of {experiment.path} as ", regex=False).all()
    assert taken["result"].str.match(r"Evaluation finished: \w+/accuracy [01]\.\d+, at 20").all()
    assert planned(again.path, "--config", "only=*/*/*") == Counter()


def _last(epoch: float) -> str:
    return "base" if math.isnan(epoch) else f"epoch{epoch:.0f}"
