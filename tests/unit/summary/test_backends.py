"""Evaluations that vLLM could not make are refused when the summary is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from good_summary import FILE, changed, errors, read, write

VLLM = ("  temperature: 0.0\n", "  backend: vllm\n")
GIVEN = ("type: control", "type: eval-only\n    checkpoint_path: elsewhere/epoch_0")
ADAPTER = "elsewhere/epoch_0/adapter_config.json"


def test_adapters_of_a_rank_that_vllm_takes_are_trained(folder: Path) -> None:
    assert read(folder, changed(VLLM, ("lora_rank: 4", "lora_rank: 512")))[1] == []
    large = ("lora_rank: 4", "lora_rank: 513")
    assert errors(folder, changed(VLLM, large)) == [
        f"{FILE}:17: runs[0].parameters.lora_rank: is 513, and vLLM serves adapters up to rank 512 (run r4); "
        "evaluate it with backend: hf"
    ]
    assert read(folder, changed(large))[1] == []


def test_adapters_that_are_trained_are_no_dora(folder: Path) -> None:
    dora = (("lora_rank: 4", "lora_rank: 4, use_dora: true"), ("- name: r4", "- name: r4\n    trainer: trl"))
    [line] = errors(folder, changed(VLLM, *dora))
    assert line.endswith("use_dora: vLLM cannot serve a DoRA adapter (run r4); evaluate it with backend: hf")
    assert read(folder, changed(*dora))[1] == []


def test_a_task_that_hf_evaluates_takes_any_rank(folder: Path) -> None:
    own = ("script: cap.py", "script: cap.py\n      backend: hf")
    assert read(folder, changed(VLLM, own, ("lora_rank: 4", "lora_rank: 600")))[1] == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"r": 8, "rank_pattern": {"q_proj": 600}}, "this one is of rank 600; use backend: hf"),
        ({"r": 8, "use_dora": True}, "vLLM cannot serve a DoRA adapter; use backend: hf"),
        ({"r": 8, "modules_to_save": ["lm_head"]}, "(`modules_to_save`); use backend: hf"),
    ],
)
def test_a_given_adapter_is_one_that_vllm_serves(folder: Path, config: dict[str, Any], said: str) -> None:
    write(folder, ADAPTER, json.dumps(config))
    [line] = errors(folder, changed(VLLM, GIVEN))
    assert line.endswith(said)
    assert "runs[2].checkpoint_path" in line
    assert read(folder, changed(GIVEN))[1] == []


@pytest.mark.parametrize("name", ["host", "port", "api-key", "api_key", "uds", "max_lora_rank"])
def test_options_that_the_job_sets_are_refused(folder: Path, name: str) -> None:
    [line] = errors(folder, changed((VLLM[0], f"{VLLM[1]}  vllm_options: {{{name}: 1}}\n")))
    assert f"vllm_options.{name}" in line
    assert "is set by the job" in line


def test_options_without_a_server_are_warned_of(folder: Path) -> None:
    options = "  vllm_options: {gpu_memory_utilization: 0.5}\n"
    [line] = read(folder, changed((VLLM[0], options)))[1]
    assert line.endswith("evaluation.vllm_options: has an effect only with backend: vllm")
    assert read(folder, changed((VLLM[0], f"{VLLM[1]}{options}")))[1] == []
