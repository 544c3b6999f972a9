"""Keys of other tools: taken as they are meant, or refused with what to do instead; never ignored in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_summary import FILE, GOOD, changed, errors, read

from run_experiment.experiment.model import resolve


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("get_cosine_schedule_with_warmup", "cosine"),
        ("torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup", "cosine"),
        ("constant_with_warmup", "constant"),
        ("constant", "constant"),
    ],
)
def test_names_of_schedules(folder: Path, name: str, meaning: str) -> None:
    summary, warnings = read(folder, changed(("  epochs: 2\n", f"  epochs: 2\n  lr_scheduler: {name}\n")))
    assert summary.controls.lr_scheduler == meaning
    assert warnings == []


def test_keys_that_change_nothing_train_the_same(folder: Path) -> None:
    keys = (
        "  batch_size_val: 8\n  num_workers: 0\n  log_every_n_steps: 5\n  packed: false\n"
        "  save_adapter_weights_only: true\n  input_key: input\n  output_key: output\n"
    )
    summary, warnings = read(folder, changed(("  epochs: 2\n", f"  epochs: 2\n{keys}")))
    assert warnings == []
    assert resolve(summary, folder).runs == resolve(read(folder, GOOD)[0], folder).runs


def test_a_variable_that_changes_nothing(folder: Path) -> None:
    text = changed(("controls:", "variables: {num_workers: [0, 4]}\ncontrols:"))
    assert read(folder, text)[1] == [f"{FILE}:4: variables.num_workers: varies, but changes nothing here"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("packed: true", "expected false, found true; samples are not packed here"),
        ("save_adapter_weights_only: false", "expected true, found false; checkpoints are always adapters here"),
        ("input_key: question", 'expected input, found "question"; rename the column in the data file'),
        ("training_samples: 100", "unknown key; give the run a data file with these rows (data)"),
        ("input_formatting: raw", "unknown key; prompt is the template of the input"),
        ("custom_recipe: x.py", "unknown key; write the command in the run's finetune.slurm"),
        ("run_val_every_n_steps: 50", "unknown key; did you mean validation_during_training?"),
    ],
)
def test_refused(folder: Path, key: str, message: str) -> None:
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  {key}\n"))
    assert errors(folder, text) == [f"{FILE}:6: controls.{key.partition(':')[0]}: {message}"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            ("  - name: r8\n", "  - name: r8\n    slurm_overrides: {mem: 1G}\n"),
            "19: runs[1].slurm_overrides: unknown key; write them in the #SBATCH lines of the job script",
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    compute: {partition: gpu}\n"),
            "19: runs[1].compute.partition: unknown key; write it in the #SBATCH lines of the job script",
        ),
        (
            ("  temperature: 0.0\n", "  temperature: 0.0\n  logprobs: true\n"),
            "25: evaluation.logprobs: unknown key; set it in the task's GenerateConfig",
        ),
    ],
)
def test_other_sections(folder: Path, changes: tuple[str, str], line: str) -> None:
    assert errors(folder, changed(changes)) == [f"{FILE}:{line}"]
