"""Rendered job scripts, whole, and when they are written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from experiments import ExperimentFolder
from golden import assert_golden
from small_experiment import make_small_experiment, plan_of

from run_experiment.plan import Plan
from run_experiment.problems import InputError

GOLDEN = Path(__file__).parent / "golden"
SITE = {
    "account": "lab",
    "partition": "gpu",
    "modules": ("module load anaconda3/2025.6", "module load cuda"),
    "environment": "conda activate finetune",
}


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    """An experiment in a folder with spaces and a quote; its prompt has what YAML and shells stumble over."""
    experiment = make_small_experiment(tmp_path / "Ann's experiments" / "no 1")
    values = experiment.read()
    values["controls"]["prompt"] = "Say: {input} # 'loud' $HOME größer"
    experiment.write(values)
    return experiment


def rendered(experiment: ExperimentFolder, plan: Plan, path: str) -> str:
    """What the plan writes to `path`, in a place and with hashes that are always the same."""
    plan.write_scripts()
    text = (experiment.path / path).read_text(encoding="utf-8")
    text, count = re.subn(r"\(head \w{12}, commands \w{12}\)", "(head HASH, commands HASH)", text)
    assert count == 1
    place = str(experiment.path.parent.parent)
    return re.sub(r"cache/shout-\w{12}", "cache/shout-HASH", text.replace(place, "/home/ann"))


def bash_reads(text: str) -> bool:
    return subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_finetune_script(experiment: ExperimentFolder) -> None:
    text = rendered(experiment, plan_of(experiment, **SITE), "r4/finetune.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / "finetune.slurm")


def test_finetune_script_with_the_summary_s_estimate(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["runs"][0]["compute"] = {"time": "12:30:00", "gpus": 0, "mem": "120G"}
    experiment.write(values)
    text = rendered(experiment, plan_of(experiment), "r4/finetune.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / "finetune_estimated.slurm")


EVALUATIONS = {"adapter": "r4/eval/shout_epoch1", "base": "base/eval/shout_base", "given": "given/eval/shout_base"}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_script(experiment: ExperimentFolder, name: str) -> None:
    text = rendered(experiment, plan_of(experiment, **SITE), f"{EVALUATIONS[name]}.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / f"eval_{name}.slurm")


def test_evaluation_script_of_text_completion(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["controls"]["dataset_type"] = "text_completion"
    values["evaluation"] |= {"do_sample": True, "temperature": 0.7, "compute": {"gpus": 2, "time": "10"}}
    experiment.write(values)
    text = rendered(experiment, plan_of(experiment), "r4/eval/shout_epoch0.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / "eval_text_completion.slurm")


def test_task_arguments(experiment: ExperimentFolder) -> None:
    text = rendered(experiment, plan_of(experiment), "r4/eval/shout_epoch1.args.yaml")
    assert_golden(text, GOLDEN / "task_arguments.yaml")
    assert yaml.safe_load(text) == {
        "data_path": "/home/ann/Ann's experiments/no 1/words.json",
        "prompt": "Say: {input} # 'loud' $HOME größer",
        "system_prompt": "",
    }


def test_scripts_follow_the_summary_and_keep_edits(experiment: ExperimentFolder) -> None:
    script, config = experiment.path / "r4/finetune.slurm", experiment.path / "r4/finetune.yaml"
    plan_of(experiment, account="lab").write_scripts()
    script.write_text(script.read_text().replace("--time=04:00:00", "--time=08:00:00"))
    experiment.set_parameters("r4", lora_rank=2)
    kept = "r4/finetune.slurm: its edited #SBATCH and environment lines are kept"
    assert plan_of(experiment, account="other").write_scripts() == [kept]
    assert "--time=08:00:00" in script.read_text()
    assert "--account=lab" in script.read_text()
    assert yaml.safe_load(config.read_text())["model"]["lora_rank"] == 2
    config.write_text(config.read_text().replace("lora_rank: 2", "lora_rank: 3"))
    plan = plan_of(experiment)
    assert set(plan["r4/finetune.json"].config) >= {"finetune.yaml", "hyperparameters"}
    assert "finetune.slurm" not in plan["r4/finetune.json"].config
    assert plan.write_scripts() == ["r4/finetune.yaml was edited, or is another tool's: it is used as it is", kept]
    assert "lora_rank: 3" in config.read_text()
    experiment.set_parameters("r4", lora_rank=4)
    with pytest.raises(InputError, match=r"r4/finetune\.yaml: was edited, and the summary or the data changed since"):
        plan_of(experiment)
    config.write_text(config.read_text().partition("\n")[2])
    plan_of(experiment)
    config.unlink()
    plan_of(experiment)


def test_script_of_another_tool_is_never_touched(experiment: ExperimentFolder) -> None:
    script = experiment.path / "r4/finetune.slurm"
    script.parent.mkdir()
    script.write_text("#!/bin/bash\nset -euo pipefail\npython train.py\n")
    before = script.stat().st_mtime_ns
    for account in ("a", "b"):
        said = plan_of(experiment, account=account).write_scripts()
        assert said == ["r4/finetune.slurm was edited, or is another tool's: it is used as it is"]
    assert script.read_text() == "#!/bin/bash\nset -euo pipefail\npython train.py\n"
    assert script.stat().st_mtime_ns == before
    assert "finetune.slurm" in plan_of(experiment)["r4/finetune.json"].config
