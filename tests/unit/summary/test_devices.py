"""Devices that a training cannot share are refused when the summary is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_summary import FILE, changed, errors, read, write

TRL = ("evaluation:\n", "tools:\n  preparation: trl\nevaluation:\n")
R4 = "parameters: {lora_rank: 4}"


def asking(compute: str) -> tuple[str, str]:
    return (R4, f"{R4}\n    {compute}")


@pytest.mark.parametrize(
    ("compute", "key"),
    [
        ("compute: {gpus: 4}", "compute.gpus"),
        ("compute: {gpus: 2, nodes: 2}", "compute.nodes"),
        ("slurm_overrides: {nodes: 2}", "slurm_overrides.nodes"),
    ],
)
def test_torchtune_trains_on_one(folder: Path, compute: str, key: str) -> None:
    assert errors(folder, changed(asking(compute))) == [
        f"{FILE}:18: runs[0].{key}: torchtune trains on one GPU here; trainer: trl in the run trains on several"
    ]
    assert read(folder, changed(asking(compute), TRL))[1] == []


def test_a_script_of_the_user_s_may_use_any(folder: Path) -> None:
    write(folder, "r4/finetune.slurm", "#!/bin/bash\ntune run --nproc_per_node 4 lora_finetune_distributed\n")
    assert read(folder, changed(asking("compute: {gpus: 4}")))[1] == []


def test_devices_share_the_samples_of_a_step(folder: Path) -> None:
    odd = changed(asking("compute: {gpus: 3}"), TRL)
    assert errors(folder, odd) == [
        f"{FILE}:18: runs[0].compute.gpus: 3 devices cannot share the 4 samples of a step "
        "(batch_size 4 × gradient_accumulation_steps 1); change one of these"
    ]


def test_an_evaluation_runs_on_one_node(folder: Path) -> None:
    several = changed(("  temperature: 0.0\n", "  temperature: 0.0\n  compute: {nodes: 2}\n"))
    assert errors(folder, several) == [
        f"{FILE}:25: evaluation.compute.nodes: an evaluation runs on one node; leave it out"
    ]
