"""Experiments that another tool scaffolded run as they are, and each evaluation is given its own log."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from inspect_ai.log import EvalLog, read_eval_log
from scaffolded import SITE, Scaffold, make_scaffolded
from snakemake_cli import planned, ran, snakemake

CELLS = [("r4", "shout_epoch0"), ("r4", "shout_epoch1"), ("r8", "shout_epoch0"), ("r8", "shout_epoch1")]
CELLS.append(("base", "shout_base"))
ALL = Counter(run_finetune=2, verify_checkpoint=4, run_evaluation=5, prebuild_cache=1, collect_results=1)

FOLDERS = {
    "a folder a cell, logs of a run together": Scaffold(cell_folders=True, log_dir="../../their_logs", sleep=(0, 1)),
    "scripts side by side, all logs together": Scaffold(
        log_dir='"${{PWD}}/all_logs"',
        site=SITE,
        sleep=(0, 1),
        base_directory="scratch",
        output="scratch/{run}/artifacts",
    ),
    "logs where the finished ones go, checkpoints not where the summary says": Scaffold(
        log_dir="{run}/eval/logs",
        base_directory="scratch",
        parameters={"learning_rat": 3, "packed_bins": True},
    ),
}


@pytest.fixture(params=FOLDERS.values(), ids=FOLDERS)
def scaffolded(request: pytest.FixtureRequest, tmp_path: Path) -> ExperimentFolder:
    """An experiment of two runs, two epochs each, and a control."""
    return make_scaffolded(tmp_path / "experiment", epochs=2, scaffold=request.param)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a folder."""
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(found) > 10
    return found


def log_of(experiment: ExperimentFolder, run: str, cell: str) -> EvalLog:
    return read_eval_log(str(experiment.path / run / "eval/logs" / f"{cell}.eval"))


def assert_runs_as_it_is(scaffolded: ExperimentFolder) -> None:
    before = contents(scaffolded.path)
    result = snakemake(scaffolded.path, "--resources", "gpu_jobs=3", "--cores", "12")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == ALL
    assert {path: path.read_bytes() for path in before} == before
    jobs = set()
    for run, cell in CELLS:
        log, record = log_of(scaffolded, run, cell), scaffolded.record(f"{run}/eval/{cell}.json")
        (tag,) = log.eval.tags or []
        assert tag.startswith(f"run-experiment:{record['job_id']}:")
        jobs.add(tag)
        assert sorted(path.name for path in (scaffolded.path / run / "eval/logs").iterdir()) == sorted(
            f"{other}.eval" for name, other in CELLS if name == run
        )
    assert len(jobs) == 5
    assert not list(scaffolded.path.glob("*/attempts/*"))
    assert planned(scaffolded.path) == Counter()


def test_it_runs_as_it_is(scaffolded: ExperimentFolder) -> None:
    assert_runs_as_it_is(scaffolded)


def test_nothing_is_rendered_beside_a_cell_s_script(tmp_path: Path) -> None:
    """With inspect-ai itself, which reads the script's --log-dir and the job's tags."""
    scaffold = Scaffold(cell_folders=True, log_dir="./logs", site=SITE, inspect=True)
    experiment = make_scaffolded(tmp_path / "experiment", epochs=2, scaffold=scaffold)
    assert_runs_as_it_is(experiment)
    assert not list(experiment.path.glob("*/eval/*.slurm"))
    assert not list(experiment.path.glob("*/eval/*.args.yaml"))
    assert log_of(experiment, "r8", "shout_epoch0").eval.metadata == {"epoch": 0}
    assert len(list((experiment.path / "r8/eval/shout_epoch0/logs").glob("*.eval"))) == 1
    text = (experiment.path / "logs/run_finetune/r4.log").read_text()
    assert "skipped, no environment modules on this machine: module load anaconda3/2025.6" in text
    assert "conda activate theirs" in text

    # A log of an evaluation by hand, newer than any, is never taken for that of a job.
    old = next((experiment.path / "r8/eval/shout_epoch0/logs").glob("*.eval"))
    shutil.copy(old, old.with_name("9999-by-hand.eval"))
    (experiment.path / "r8/eval/shout_epoch0.json").unlink()
    experiment.edit("r8/eval/shout_epoch0/cell.slurm", "inspect eval", "true inspect eval")
    result = snakemake(experiment.path)
    assert result.returncode == 1
    assert "r8/shout/epoch0 failed: the script left no inspect-ai log" in result.stdout


def test_prompts_and_samples_are_those_of_the_scripts(tmp_path: Path) -> None:
    """Tasks read them from configs, scripts sample GPUs and end with what `wait` says of a killed sampler."""
    scaffold = Scaffold(cell_folders=True, log_dir="./logs", inspect=True, configs=True)
    experiment = make_scaffolded(tmp_path / "experiment", scaffold=scaffold)
    result = snakemake(experiment.path)
    assert result.returncode == 0, result.stdout
    assert "takes no prompt" not in result.stdout
    for run, cell in (("r4", "shout_epoch0"), ("base", "shout_base")):
        log = log_of(experiment, run, cell)
        assert log.eval.task == f"shout_{run}"
        assert log.samples is not None
        assert [message.text for message in log.samples[0].messages] == ["Be loud.", f"{run}: ocean\n"]
        gpu = experiment.record(f"{run}/eval/{cell}.json")["gpu"]
        assert (gpu["samples"], gpu["mean_utilization"], gpu["mean_power_w"]) == (1, 55, 300)
    # Where the other tool's readers look for the logs.
    assert (experiment.path / "logs/run-inspect.log").samefile(experiment.path / "run-inspect.log")
    assert planned(experiment.path) == Counter()


def test_unknown_keys_are_told_and_ignored(tmp_path: Path) -> None:
    experiment = make_scaffolded(tmp_path / "experiment", scaffold=Scaffold(parameters={"lora_ranc": 3}))
    result = snakemake(experiment.path, "-n")
    assert result.returncode == 0, result.stdout
    assert "controls.lora_ranc: unknown key, ignored; did you mean lora_rank?" in result.stdout
