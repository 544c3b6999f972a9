"""What jobs are submitted with: their scripts' lines, and overrides, which win."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.resources import Resources
from snakemake_interface_common.exceptions import WorkflowError

from run_experiment.jobscripts.sbatch_lines import read_options
from snakemake_executor_plugin_slurm_attached import ExecutorSettings
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Overrides, overrides, sbatch_call


def call(line: str, defaults: dict[str, Any] | None = None, /, **wins: Any) -> tuple[str, str]:
    """Arguments, and the lines that are left of a script of this one, each a string of words."""
    made = sbatch_call(read_options(f"#SBATCH {line}\n"), Overrides(wins, defaults or {}), ExecutorSettings())
    return " ".join(made.arguments), " ".join(made.lines.replace("#SBATCH ", "").split("\n")).strip()


def test_without_overrides_the_lines_say_it_all() -> None:
    assert call("--gres=gpu:2 --mem=4G -c 3 --mail-type=END") == ("", "--gres=gpu:2 --mem=4G -c 3 --mail-type=END")


@pytest.mark.parametrize(
    ("line", "wins", "arguments", "left"),
    [
        ("--mem-per-cpu=1 -t 5", {"mem_mb": 77}, "--mem=77", "-t 5"),
        ("--mem=1G -t 5", {"mem_mb_per_cpu": 77}, "--mem-per-cpu=77", "-t 5"),
        ("--mem-per-gpu=1G", {"runtime": 90}, "--time=90", "--mem-per-gpu=1G"),
        ("-t 5 --mem=1", {"runtime": 90}, "--time=90", "--mem=1"),
        ("--cpus-per-gpu=2 -n 3", {"cpus_per_task": 8}, "--cpus-per-task=8", "-n 3"),
        ("--ntasks-per-node=2", {"tasks": 4}, "--ntasks=4", ""),
        ("-p a -A b -q c -C d -N 2", {"slurm_partition": "e", "nodes": 1}, "--partition=e --nodes=1", "-A b -q c -C d"),
        ("-A b -q c -C d", {"slurm_account": "e", "qos": "f"}, "--account=e --qos=f", "-C d"),
        ("--constraint=y", {"constraint": "a|b"}, "--constraint=a|b", ""),
    ],
)
def test_an_override_takes_the_place_of_its_family(line: str, wins: dict[str, Any], arguments: str, left: str) -> None:
    assert call(line, **wins) == (arguments, left)


@pytest.mark.parametrize(
    ("line", "wins", "arguments"),
    [
        ("--gres=gpu:2", {"gpu": 3}, "--gres=gpu:3"),
        ("--gres=gpu:2", {"gpu_model": "a100"}, "--gres=gpu:a100:2"),
        ("--gres=gpu", {"gpu_model": "a100"}, "--gres=gpu:a100:1"),
        ("--gres=gpu:v100", {"gpu": 2}, "--gres=gpu:v100:2"),
        ("--gres=gpu:v100:2,nvme:1", {"gpu": 3, "gpu_model": "a100"}, "--gres=gpu:a100:3,nvme:1"),
        ("--gres=gpu:2,nvme:1", {"gres": "nvme:5"}, "--gres=gpu:2,nvme:5"),
        ("--gres=gpu:2", {"gres": "gpu:a100:1"}, "--gres=gpu:a100:1"),
        ("--gpus=2", {"gres": "gpu:1"}, "--gres=gpu:1"),
        ("--gpus-per-node=2", {"gpu": 1, "gpu_model": "l40s"}, "--gpus-per-node=l40s:1"),
        ("-G a100-sxm4:2", {"gpu": 1}, "--gpus=a100-sxm4:1"),
        ("--gres=gpu:1", {"gpu": 0}, "--gres=gpu:0"),
        ("--exclusive", {"gpu": 1, "gpu_model": "a100"}, "--gpus=a100:1"),
        ("--gres=nvme:1", {"gpu": 2}, "--gres=nvme:1 --gpus=2"),
        ("--exclusive", {"gpu_model": "a100"}, ""),
    ],
)
def test_gpus_are_asked_for_by_the_option_of_the_script(line: str, wins: dict[str, Any], arguments: str) -> None:
    left = line if line == "--exclusive" else ""
    assert call(line, **wins) == (arguments, left)


def test_further_options_win_one_by_one() -> None:
    line = "--mail-type=END --mail-user=me --mem=1"
    assert call(line, slurm_extra="--mail-type='END,FAIL' -x n1 --mem-per-cpu=2") == (
        "--mail-type=END,FAIL -x n1 --mem-per-cpu=2",
        "--mail-user=me",
    )


@pytest.mark.parametrize("extra", ["--array=1-3", "-J x", "--output=x", "--wait", "stray", "--export=A=1", "'x"])
def test_further_options_that_no_job_may_have_are_refused(extra: str) -> None:
    with pytest.raises(WorkflowError, match="slurm_extra: "):
        call("--mem=1", slurm_extra=extra)


@pytest.mark.parametrize("name", ["cluster", "clusters", "slurm_cluster"])
def test_another_cluster_is_refused(name: str) -> None:
    with pytest.raises(WorkflowError, match=f"resource {name}: jobs run on one cluster"):
        call("--mem=1", **{name: "other"})


def test_values_stay_one_argument_each() -> None:
    made = sbatch_call([], Overrides({"constraint": "a b; rm -rf / $(id)"}, {}), ExecutorSettings())
    assert made.arguments == ("--constraint=a b; rm -rf / $(id)",)


def test_defaults_stand_in_for_what_a_script_does_not_say() -> None:
    defaults = {"mem_mb": 1, "runtime": 2, "gpu": 1, "slurm_extra": "--mail-type=END --nice"}
    line = "--mem-per-cpu=1 --gpus-per-node=2 --mail-type=FAIL"
    assert call(line, defaults) == ("--time=2 --nice", line)
    assert call(line, defaults, runtime=3)[0] == "--time=3 --nice"
    assert call("--exclusive", defaults) == ("--time=2 --mem=1 --gpus=1 --mail-type=END --nice", "--exclusive")


def test_settings_of_the_executor_win() -> None:
    settings = ExecutorSettings(qos="high", reservation="r", no_requeue=True, exclude_failed_nodes="n1,n2")
    made = sbatch_call(read_options("#SBATCH --qos=low --mem=1\n"), Overrides({}, {}), settings)
    assert made.arguments == ("--qos=high", "--reservation=r", "--exclude=n1,n2", "--no-requeue")
    assert made.lines == "#SBATCH --mem=1\n"


def test_nobody_asked_for_what_snakemake_takes_for_a_job_that_says_nothing() -> None:
    read = Resources.parser_factory(defaults="full", allow_expressions=True)
    values = {"mem_mb": 1000, "disk_mb": 1000, "tmpdir": "/tmp", "runtime": 60, "stagger": 5, "cpus_per_task": -1}
    job = SimpleNamespace(rule=SimpleNamespace(name="run_finetune"), resources=values)

    def found(defaults: Any, **rules: Any) -> Overrides:
        return overrides(job, SimpleNamespace(overwrite_resources=rules, default_resources=defaults))

    assert found(Resources.default("full")) == Overrides({}, {})
    assert found(None) == Overrides({}, {})
    assert found(read(["runtime=60"])).defaults == {"runtime": 60}
    assert found(read(["mem_mb=1000"])).defaults == {"mem_mb": 1000}
    of_rule = Resources.from_mapping({"mem": 1000, "stagger": 5, "cpus_per_task": -1})
    assert found(None, run_finetune=of_rule, run_evaluation={"runtime": 1}).wins == {"mem_mb": 1000, "stagger": 5}
