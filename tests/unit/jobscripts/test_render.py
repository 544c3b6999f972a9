"""Rendered job scripts, whole, and when they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from experiments import ExperimentFolder
from golden import assert_golden
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.errors import InputError
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.configuration import Determinants
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.jobscripts.edits import Rendered, parse
from run_experiment.jobscripts.own_recipe import trainer_in
from run_experiment.jobscripts.render import KEPT_HEAD, KEPT_WHOLE, JobScripts
from run_experiment.jobscripts.sbatch_lines import read_options
from run_experiment.planning.plan import Plan
from run_experiment.planning.submitted_scripts import SubmittedScripts
from run_experiment.slurm.ledger import PATH, Ledger, Submission
from run_experiment.summary.read import read_summary
from run_experiment.trainers.known import TRAINERS

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


def test_requests_of_a_run_take_the_place_of_the_settings_(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["runs"][0]["slurm_overrides"] = {"partition": "big", "account": "other", "constraint": "a100|h100"}
    values["runs"][0]["compute"] = {"partition": "small", "cpus_per_task": 16, "qos": "high"}
    experiment.write(values)
    text = rendered(experiment, plan_of(experiment, **SITE), "r4/finetune.slurm")
    assert re.findall("--(partition|account|constraint|qos|cpus-per-task)=(.*)", text) == [
        ("account", "other"),
        ("partition", "big"),
        ("qos", "high"),
        ("constraint", "a100|h100"),
        ("cpus-per-task", "16"),
    ]
    assert SITE["partition"] in rendered(experiment, plan_of(experiment, **SITE), "r8/finetune.slurm")


@pytest.mark.parametrize(("compute", "golden"), [({"gpus": 4}, "gpus"), ({"gpus": 2, "nodes": 2}, "nodes")])
def test_a_training_that_several_gpus_share(experiment: ExperimentFolder, compute: dict[str, int], golden: str) -> None:
    values = experiment.read()
    values["controls"]["batch_size"] = 4
    values["runs"][0] |= {"compute": compute, "trainer": "trl"}
    experiment.write(values)
    text = rendered(experiment, plan_of(experiment, **SITE), "r4/finetune.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / f"finetune_{golden}.slurm")
    script = experiment.path / "r4/finetune.slurm"
    assert trainer_in(script) is TRAINERS["trl"]


def test_further_options_take_the_place_of_what_they_exclude(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    options = {"gpus_per_node": "a100:2", "mem-per-cpu": "4G", "exclusive": True, "nodelist": "n1", "switches": 2}
    values["runs"][0]["slurm_overrides"] = options
    experiment.write(values)
    text = rendered(experiment, plan_of(experiment, **SITE), "r4/finetune.slurm")
    assert bash_reads(text)
    found = re.findall("^#SBATCH (.*)$", text, re.MULTILINE)
    assert found[-5:] == [
        "--gpus-per-node=a100:2",
        "--mem-per-cpu=4G",
        "--exclusive",
        "--nodelist=n1",
        "--switches=2",
    ]
    names = [option.partition("=")[0] for option in found]
    assert len(names) == len(set(names))
    assert not {"--gres", "--mem"} & set(names)


@pytest.mark.parametrize(
    ("parameters", "request_lines"),
    [
        ({}, ["--gres=gpu:1", "--mem=36G"]),
        ({"dtype": "fp32"}, ["--gres=gpu:1", "--mem=50G"]),
        ({"device": "cpu"}, ["--mem=50G"]),
        ({"device": "cpu", "dtype": "bf16"}, ["--mem=36G"]),
    ],
)
def test_requests_by_the_size_of_the_model(
    experiment: ExperimentFolder, parameters: dict[str, str], request_lines: list[str]
) -> None:
    """A model of 14 GiB is in memory as it is stored and as it is used."""
    experiment.set_parameters("r4", **parameters)
    known = resolve(read_summary(experiment.summary)[0], experiment.path)
    os.truncate(experiment.path.parent / "model/model.safetensors", 14 * 2**30)
    determinants = Determinants(HashMemory(experiment.path / "hashes.json"))
    files = JobScripts(known, Settings(experiment.path), determinants).finetune(known.run_by_name["r4"])
    assert re.findall("--(?:gres|mem)=.*", files["r4/finetune.slurm"].text) == request_lines


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


def test_evaluation_script_with_vllm(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    options = {"gpu_memory_utilization": 0.5, "enforce-eager": True, "enable-prefix-caching": False}
    values["evaluation"] |= {"backend": "vllm", "vllm_options": options}
    experiment.write(values)
    plan = plan_of(experiment, environment="conda activate finetune", vllm_environment="source /opt/vllm/bin/activate")
    text = rendered(experiment, plan, "r4/eval/shout_epoch0.slurm")
    assert bash_reads(text)
    assert_golden(text, GOLDEN / "eval_vllm.slurm")
    with pytest.raises(InputError, match="vllm_environment: expected one command, without a comment"):
        plan_of(experiment, vllm_environment="source a # vLLM")


def former(experiment: ExperimentFolder, path: str) -> Rendered:
    """What an earlier version rendered for r4/shout_epoch0, which ran plain `inspect eval`."""
    text = (GOLDEN / "eval_former.slurm").read_text(encoding="utf-8")
    found = re.search(r"cache/shout-\w{12}", (experiment.path / path).read_text(encoding="utf-8"))
    assert found
    text = text.replace("/home/ann", str(experiment.path.parent.parent)).replace("cache/shout-HASH", found[0])
    return parse(text).parts


def test_scripts_of_an_earlier_version_are_rendered_anew_and_edited_ones_stay(experiment: ExperimentFolder) -> None:
    path = "r4/eval/shout_epoch0.slurm"
    values = experiment.read()
    values["controls"]["dataset_type"] = "text_completion"
    values["evaluation"] |= {"do_sample": True, "temperature": 0.7, "compute": {"gpus": 2, "time": "10"}}
    experiment.write(values)
    plan_of(experiment).write_scripts()
    script, today = experiment.path / path, (experiment.path / path).read_text()
    old = former(experiment, path)

    script.write_text(old.text)
    assert plan_of(experiment)["r4/eval/shout_epoch0.json"].config.keys().isdisjoint({script.name})
    plan_of(experiment).write_scripts()
    assert script.read_text() == today

    script.write_text(old.text.replace("--seed 14", "--seed 15"))
    plan = plan_of(experiment)
    assert plan["r4/eval/shout_epoch0.json"].config.keys() >= {script.name}
    assert plan.left_behind() == []
    plan.write_scripts()
    assert "inspect eval shout.py" in script.read_text()


def test_edits_of_scripts_for_one_gpu_stay_where_evaluations_share_several(experiment: ExperimentFolder) -> None:
    script = experiment.path / "r4/eval/shout_epoch0.slurm"
    plan_of(experiment).write_scripts()
    script.write_text(script.read_text().replace("--retry-attempts 0", "--retry-attempts 1"))
    values = experiment.read()
    values["evaluation"]["compute"] = {"gpus": 2}
    experiment.write(values)
    assert plan_of(experiment).left_behind() == []


def test_task_is_called_by_the_name_that_inspect_ai_knows(experiment: ExperimentFolder) -> None:
    experiment.edit("shout.py", "@task\n", '@task(name="loud")\n')
    plan_of(experiment).write_scripts()
    assert "shout.py@loud" in (experiment.path / "r4/eval/shout_epoch0.slurm").read_text()


def test_task_arguments(experiment: ExperimentFolder) -> None:
    text = rendered(experiment, plan_of(experiment), "r4/eval/shout_epoch1.args.yaml")
    assert_golden(text, GOLDEN / "task_arguments.yaml")
    assert yaml.safe_load(text) == {
        "data_path": "/home/ann/Ann's experiments/no 1/words.json",
        "prompt": "Say: {input} # 'loud' $HOME größer",
        "system_prompt": "",
    }


LINES = {
    "a missing command": ("conda activate finetune", 127),
    "a failing one": ("source ./failing", 3),
    "one whose own commands may fail": ("source ./sound", 0),
    "one of several": ("false && source ./sound", 1),
    "the last of several": ("false; source ./sound", 0),
}


@pytest.mark.parametrize("name", ["modules", "environment"])
@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES)
def test_nothing_is_trained_where_an_environment_cannot_be_made(
    experiment: ExperimentFolder, name: str, line: str, expected: int
) -> None:
    (experiment.path / "failing").write_text("return 3\n")
    (experiment.path / "sound").write_text("false\nif [ -z $NONE ]; then true; fi\n")
    plan_of(experiment, **{name: (line, "true") if name == "modules" else line}).write_scripts()
    head = parse((experiment.path / "r4/finetune.slurm").read_text()).parts.head
    command = ["env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", f"{head}set -euo pipefail\necho trained\n"]
    done = subprocess.run(command, cwd=experiment.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (expected, "" if expected else "trained\n")


@pytest.mark.parametrize(
    "line", ["module load cuda  # ours", "# ours", "conda \\", "module load a;", "serve &", "ml a\nml b", "true |"]
)
def test_settings_that_are_no_single_command_are_refused(experiment: ExperimentFolder, line: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_of(experiment, modules=("module load a; ml ${#A}", line), environment=line)
    told = str(caught.value).splitlines()
    assert [one.partition(": expected one command, without a comment, found ")[0] for one in told] == [
        "settings: environment",
        "settings: modules",
    ]


def test_white_space_around_a_line_does_not_count(experiment: ExperimentFolder) -> None:
    plan_of(experiment, modules=("", " "), environment=" conda activate finetune\n").write_scripts()
    lines = (experiment.path / "r4/finetune.slurm").read_text().splitlines()
    at = lines.index("conda activate finetune || exit")
    assert lines[at - 1 : at + 2 : 2] == ["", "set -euo pipefail"]


def test_head_of_an_earlier_version_is_brought_up_to_date(done: ExperimentFolder) -> None:
    plan_of(done, **SITE).write_scripts()
    scripts = {path: path.read_text() for path in done.path.glob("r4/**/*.slurm")}
    assert len(scripts) == 3
    for path, text in scripts.items():
        parts = parse(text).parts
        assert parts.head.count(" || exit\n") == 3
        path.write_text(Rendered(parts.head.replace(" || exit\n", "\n"), parts.commands).text)
    plan = plan_of(done, **SITE)
    assert not any(target.wanted for target in plan.targets.values())
    assert plan.write_scripts() == []
    assert {path: path.read_text() for path in scripts} == scripts


def test_scripts_follow_the_summary_and_keep_edits(experiment: ExperimentFolder) -> None:
    script, config = experiment.path / "r4/finetune.slurm", experiment.path / "r4/finetune.yaml"
    plan_of(experiment, account="lab").write_scripts()
    script.write_text(script.read_text().replace("--time=04:00:00", "--time=08:00:00"))
    experiment.set_parameters("r4", lora_rank=2)
    kept = f"{KEPT_HEAD}: r4/finetune.slurm"
    assert plan_of(experiment, account="other").write_scripts() == [kept]
    assert "--time=08:00:00" in script.read_text()
    assert "--account=lab" in script.read_text()
    assert yaml.safe_load(config.read_text())["model"]["lora_rank"] == 2
    config.write_text(config.read_text().replace("lora_rank: 2", "lora_rank: 3"))
    plan = plan_of(experiment)
    assert set(plan["r4/finetune.json"].config) >= {"finetune.yaml", "hyperparameters"}
    assert "finetune.slurm" not in plan["r4/finetune.json"].config
    assert plan.write_scripts() == [f"{KEPT_WHOLE}: r4/finetune.yaml", kept]
    assert "lora_rank: 3" in config.read_text()
    experiment.set_parameters("r4", lora_rank=4)
    script.write_text(f"{script.read_text()}echo mine\n")
    experiment.set_parameters("r4", lora_rank=8)
    (said,) = plan_of(experiment).left_behind()
    assert said.startswith("r4/finetune.yaml: was edited, and the summary or the data changed since: remove it")
    config.write_text(config.read_text().partition("\n")[2])
    assert plan_of(experiment).left_behind() == []
    config.unlink()
    assert plan_of(experiment).left_behind() == []


def test_all_that_was_left_behind_is_told_and_nothing_of_what_is_done(experiment: ExperimentFolder) -> None:
    plan_of(experiment).write_scripts()
    paths = ["r4/finetune.yaml", "r4/eval/shout_epoch0.args.yaml", "base/eval/shout_base.args.yaml"]
    for path in paths:
        with (experiment.path / path).open("a") as file:
            file.write("own: 1\n")
    assert plan_of(experiment).left_behind() == []
    values = experiment.read()
    values["controls"] |= {"lr": 0.5, "prompt": "Loud: {input}"}
    experiment.write(values)
    assert [said.partition(":")[0] for said in plan_of(experiment).left_behind()] == paths
    # Who only looks is told the state.
    assert main(["status", str(experiment.path)]) == 0


def requested(experiment: ExperimentFolder) -> dict[str, str]:
    """The options that the job of r4's training is submitted with."""
    path, text = SubmittedScripts(plan_of(experiment, **SITE)).script("r4/finetune.json")
    assert path == "r4/finetune.slurm"
    return {option.name: option.value for option in read_options(text)}


def test_a_job_is_submitted_with_the_lines_of_the_script_that_will_run(experiment: ExperimentFolder) -> None:
    rendered = {"account": "lab", "partition": "gpu", "nodes": "1", "ntasks": "1", "cpus-per-task": "4"}
    rendered |= {"gres": "gpu:1", "mem": "9G", "time": "04:00:00"}
    assert requested(experiment) == rendered
    plan_of(experiment, **SITE | {"account": "other"}).write_scripts()
    assert requested(experiment)["account"] == "lab"
    experiment.edit("r4/finetune.slurm", "--time=04:00:00", "--time=08:00:00")
    assert requested(experiment) == rendered | {"account": "other", "time": "08:00:00"}
    (experiment.path / "r4/finetune.slurm").write_text("#!/bin/bash\n#SBATCH --mem=1G\npython train.py\n")
    assert requested(experiment) == {"mem": "1G"}


def test_a_script_with_line_ends_of_windows_is_refused(experiment: ExperimentFolder) -> None:
    plan_of(experiment).write_scripts()
    script = experiment.path / "r4/finetune.slurm"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    (refused,) = SubmittedScripts(plan_of(experiment)).refusals(["r4/finetune.json"])
    assert str(refused).startswith("r4/finetune.slurm:1: its lines end as on Windows")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "#!/bin/bash\npython a.py\nif true; then\n  python b.py\n",
            ":5: bash cannot run it: syntax error: unexpected",
        ),
        ('python a.py "b\npython c.py\n', ":1: bash cannot run it: unexpected EOF while looking for matching"),
        (
            "#!/bin/bash -l\nfor x in 1; do\n  a\nfi\n",
            ":4: bash cannot run it: syntax error near unexpected token `fi'",
        ),
        ("#!/bin/bash\nshopt -s extglob\nls !(a|b) @(c)\nif !(true); then a; fi\n", ""),
        ("#!/usr/bin/env python3\nprint('if')\nif True: print()\n", ""),
        ("#!/bin/bash\ncat <<END\nif\n", ""),
    ],
)
def test_a_script_that_bash_cannot_read_is_refused(experiment: ExperimentFolder, text: str, said: str) -> None:
    (experiment.path / "r4").mkdir(exist_ok=True)
    (experiment.path / "r4/finetune.slurm").write_text(text)
    refused = [str(one) for one in SubmittedScripts(plan_of(experiment)).refusals(["r4/finetune.json"])]
    assert [one.startswith(f"r4/finetune.slurm{said}") for one in refused] == ([True] if said else [])


@pytest.mark.parametrize("text", ["", "#!/bin/bash\n#SBATCH --mem=1G\n\n"])
def test_a_script_without_commands_is_refused(experiment: ExperimentFolder, text: str) -> None:
    """It would end well and make nothing."""
    (experiment.path / "r4").mkdir(exist_ok=True)
    (experiment.path / "r4/finetune.slurm").write_text(text)
    (refused,) = SubmittedScripts(plan_of(experiment)).refusals(["r4/finetune.json"])
    assert str(refused).startswith("r4/finetune.slurm: it has no commands: write some, or remove the file")


def test_a_job_that_may_be_in_the_queue_is_not_submitted(experiment: ExperimentFolder) -> None:
    submission = Submission("r4/finetune.json", "0" * 64, "tiny.r4", "", 0, "2026-01-31T10:00:00+01:00", "30")
    Ledger(experiment.path / PATH).accepted(submission, "30")
    scripts = SubmittedScripts(plan_of(experiment))
    assert [scripts.may_be_submitted(f"{run}/finetune.json") for run in ("r4", "r8", "base")] == [False, True, False]


def test_all_unusable_scripts_are_told_unless_nothing_is_to_be_made_by_them(done: ExperimentFolder) -> None:
    def refused(*requested: str) -> list[str]:
        return [error.file for error in SubmittedScripts(plan_of(done)).refusals(requested)]

    for path in ("r4/finetune.slurm", "r8/finetune.slurm", "r8/eval/shout_epoch1.slurm"):
        (done.path / path).write_text("#SBATCH --array=1-2\ntrue\n")
    assert refused() == ["r4/finetune.slurm", "r8/finetune.slurm", "r8/eval/shout_epoch1.slurm"]
    assert refused("r4/eval/shout_epoch0.json") == ["r4/finetune.slurm"]
    assert refused("results/summary.md", "results/evals.csv") == refused()
    complete(done)
    assert refused() == []


def test_script_of_another_tool_is_never_touched(experiment: ExperimentFolder) -> None:
    script = experiment.path / "r4/finetune.slurm"
    script.parent.mkdir()
    script.write_text("#!/bin/bash\nset -euo pipefail\npython train.py\n")
    before = script.stat().st_mtime_ns
    for account in ("a", "b"):
        said = plan_of(experiment, account=account).write_scripts()
        assert said == [f"{KEPT_WHOLE}: r4/finetune.slurm"]
    assert script.read_text() == "#!/bin/bash\nset -euo pipefail\npython train.py\n"
    assert script.stat().st_mtime_ns == before
    assert "finetune.slurm" in plan_of(experiment)["r4/finetune.json"].config


def test_a_whole_model_is_evaluated_with_its_own_tokenizer(experiment: ExperimentFolder) -> None:
    given = plan_of(experiment).experiment.run_by_name["given"]
    checkpoint = given.checkpoint
    assert checkpoint is not None
    for path in checkpoint.iterdir():
        path.unlink()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(given.model.path / name, checkpoint / name)
    path = "given/eval/shout_base.slurm"
    base = rendered(experiment, plan_of(experiment), path)
    (checkpoint / "tokenizer.json").write_text("{}")
    own = rendered(experiment, plan_of(experiment), path)
    loaded = paths.loadable("given", None)
    assert f"-M tokenizer_path={loaded}" in own
    assert f"-M tokenizer_path={loaded}" not in base
    assert f"-M model_path={loaded}" in own
