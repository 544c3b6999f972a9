"""Which backend answers is a part of what determines an evaluation; that vLLM is missing is said before jobs start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.common import paths
from run_experiment.experiment.settings import Settings
from run_experiment.planning.missing_packages import missing_nodes, missing_packages
from run_experiment.planning.target import Kind
from run_experiment.trainers.torchtune import Torchtune
from run_experiment.trainers.trl import Trl


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def set_evaluation(experiment: ExperimentFolder, **values: Any) -> None:
    summary = experiment.read()
    summary["evaluation"] |= values
    experiment.write(summary)


def generation(experiment: ExperimentFolder) -> dict[str, Any]:
    plan = plan_of(experiment)
    return dict(plan[paths.eval_record("base", "shout_base")].config["generation"])


def wanted(experiment: ExperimentFolder) -> dict[str, str]:
    targets = plan_of(experiment).targets.items()
    return {path: target.why for path, target in targets if target.wanted and target.kind is Kind.EVALUATION}


def test_results_of_hf_stay_valid_and_those_of_vllm_are_others(experiment: ExperimentFolder) -> None:
    complete(experiment)
    assert "backend" not in generation(experiment)
    set_evaluation(experiment, backend="hf", vllm_options={"enforce-eager": True})
    assert wanted(experiment) == {}
    set_evaluation(experiment, backend="vllm")
    stale = wanted(experiment)
    evaluations = {paths.eval_record(one.run.name, one.cell) for one in plan_of(experiment).experiment.evaluations}
    assert evaluations == set(stale)
    assert "backend: hf → vllm" in stale[paths.eval_record("base", "shout_base")]
    complete(experiment)
    set_evaluation(experiment, backend="hf")
    assert "backend: vllm → hf" in wanted(experiment)[paths.eval_record("base", "shout_base")]
    set_evaluation(experiment, backend="vllm")
    before = generation(experiment)
    set_evaluation(experiment, vllm_options={"max_model_len": 64})
    assert generation(experiment) == before | {"vllm_options": {"max-model-len": 64}}


def test_a_task_may_have_a_backend_of_its_own(experiment: ExperimentFolder) -> None:
    summary = experiment.read()
    [task] = summary["evaluation"]["tasks"]
    summary["evaluation"]["tasks"].append(task | {"name": "fast", "backend": "vllm"})
    summary["evaluation"]["matrix"][0]["tasks"] = ["shout", "fast"]
    experiment.write(summary)
    evaluations = plan_of(experiment).experiment.evaluations
    found = {(one.task.name, one.generation.backend, one.generation.max_connections) for one in evaluations}
    assert found == {("shout", "hf", 32), ("fast", "vllm", 256)}
    set_evaluation(experiment, max_connections=7)
    assert {one.generation.max_connections for one in plan_of(experiment).experiment.evaluations} == {7}


def test_missing_vllm_is_said_if_jobs_have_this_environment(
    experiment: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def found(*requested: str, **settings: Any) -> list[str]:
        here = Settings(experiment.path, **settings)
        return [str(error) for error in missing_packages(plan_of(experiment), here, requested)]

    monkeypatch.setattr(Torchtune, "package", "yaml")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == []
    set_evaluation(experiment, backend="vllm")
    [said] = found()
    assert said.startswith("experiment_summary.yaml: evaluation.backend: there is no program `vllm` here for r4/shout")
    # Nothing of what is asked for needs it.
    assert found(paths.finetune_record("r4")) == []
    for elsewhere in ({"environment": "conda activate a"}, {"modules": ("module load a",)}, {"vllm_environment": "b"}):
        assert found(**elsewhere) == []
    (tmp_path / "vllm").write_text("#!/bin/sh\n")
    (tmp_path / "vllm").chmod(0o755)
    assert found() == []


def test_several_nodes_need_a_cluster(experiment: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*requested: str) -> list[str]:
        return [str(error) for error in missing_nodes(plan_of(experiment), requested)]

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    summary = experiment.read()
    summary["tools"] = {"preparation": "trl"}
    summary["runs"][1]["compute"] = {"nodes": 1}
    experiment.write(summary)
    assert found() == []
    summary["runs"][0]["compute"] = {"nodes": 2}
    experiment.write(summary)
    way_out = "several nodes need SLURM: use `--profile profiles/slurm`, or leave nodes out"
    assert found() == [f"experiment_summary.yaml: runs[].compute.nodes: r4: {way_out}"]
    assert found(paths.finetune_record("r8")) == []
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert found() == []


def test_a_trainer_that_is_not_installed_is_said_if_jobs_have_this_environment(
    experiment: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*requested: str, **settings: Any) -> list[str]:
        here = Settings(experiment.path, **settings)
        return [str(error) for error in missing_packages(plan_of(experiment), here, requested)]

    monkeypatch.setattr(Torchtune, "package", "yaml")
    monkeypatch.setattr(Trl, "package", "jinja2")
    assert found() == []
    monkeypatch.setattr(Torchtune, "package", "torchtune_that_is_missing")
    [said] = found()
    assert said.startswith(
        "experiment_summary.yaml: tools.preparation: torchtune_that_is_missing is not installed here, for r4, r8: "
        'install it, `pip install ".[train]"`'
    )
    assert "or use `tools.preparation: trl`" in said
    assert found(paths.eval_record("base", "shout_base")) == [], "nothing of what is asked for is trained"
    for elsewhere in ({"environment": "conda activate a"}, {"modules": ("module load a",)}):
        assert found(**elsewhere) == []
    summary = experiment.read()
    summary["tools"] = {"preparation": "trl"}
    experiment.write(summary)
    assert found() == []
    monkeypatch.setattr(Trl, "package", "trl_that_is_missing")
    [said] = found()
    assert '".[train-trl]"' in said
    assert "or use `tools.preparation: torchtune`" in said
    monkeypatch.setattr(Trl, "package", "jinja2")
    summary["runs"][0]["parameters"]["load_in_4bit"] = True
    experiment.write(summary)
    assert found() == []
    monkeypatch.setattr("run_experiment.planning.missing_packages._QUANTIZES", "bitsandbytes_that_is_missing")
    [said] = found()
    assert said.startswith(
        "experiment_summary.yaml: load_in_4bit: bitsandbytes_that_is_missing is not installed here, for r4: install it,"
    )
    complete(experiment)
    assert found() == [], "nothing is left to train"
