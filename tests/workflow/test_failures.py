"""Failures cost only what failed, and are told; bad input is refused before anything is done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from experiments import ExperimentFolder, make_experiment
from scaffolded import Scaffold, make_scaffolded
from small_experiment import make_small_experiment, plan_of
from snakemake_cli import planned, ran, snakemake

from run_experiment.actionlog.reader import read_action_log
from run_experiment.common.json_files import write_record
from run_experiment.inputs.file_hashes import file_facts


@pytest.fixture
def fresh(tmp_path: Path) -> ExperimentFolder:
    """An experiment of quick job scripts, not yet run."""
    return make_scaffolded(tmp_path / "experiment")


def test_failed_training_stops_no_other_run(fresh: ExperimentFolder) -> None:
    fresh.set_parameters("r4", lr=13.0)
    result = snakemake(fresh.path)
    assert result.returncode == 1
    assert ran(result.stdout) == Counter(run_finetune=1, verify_checkpoint=1, run_evaluation=2, prebuild_cache=1)
    assert "r4 failed: r4/finetune.slurm ended with exit status 1" in result.stdout
    assert "ValueError: unlucky learning rate" in result.stdout

    evals = pd.read_csv(fresh.path / "results/evals.csv")
    assert list(evals["run"]) == ["r8", "base"]
    page = (fresh.path / "results/summary.md").read_text()
    assert "2 of 3 evaluations are done." in page
    assert "- `r4`: failed as job local-" in page
    assert "- `r4/shout/epoch0`: its training failed as job local-" in page
    (attempt,) = (fresh.path / "r4/attempts").iterdir()
    assert "unlucky" in (attempt / "job.log").read_text()

    fresh.set_parameters("r4", lr=0.01)
    expected = Counter(run_finetune=1, verify_checkpoint=1, run_evaluation=1, collect_results=1)
    assert planned(fresh.path) == expected
    result = snakemake(fresh.path)
    assert result.returncode == 0
    assert ran(result.stdout) == expected
    assert "Missing" not in (fresh.path / "results/summary.md").read_text()


def test_a_page_that_cannot_be_written_fails_no_session(fresh: ExperimentFolder) -> None:
    """Nor does one whose logs are broken."""
    (fresh.path / "results/report.html/something").mkdir(parents=True)
    result = snakemake(fresh.path)
    assert result.returncode == 0, result.stdout
    assert "results/report.html could not be made: " in result.stdout
    assert f"Results: {fresh.path}/results/summary.md" in result.stdout
    for log in fresh.path.glob("*/eval/logs/*.eval"):
        log.write_bytes(b"broken")
        # It is that of the record all the same, as if the disk lost it: another one would be made again.
        record = f"{log.parent.parent.relative_to(fresh.path)}/{log.stem}.json"
        write_record(fresh.path / record, fresh.record(record) | {"log": file_facts(log)})
    (fresh.path / "results/report.html/something").rmdir()
    (fresh.path / "results/report.html").rmdir()
    (fresh.path / "results/summary.md").unlink()
    result = snakemake(fresh.path)
    assert result.returncode == 0, result.stdout
    assert "could not be read" in (fresh.path / "results/report.html").read_text()


def test_results_that_cannot_be_written_hide_no_failure(fresh: ExperimentFolder) -> None:
    fresh.set_parameters("r4", lr=13.0)
    (fresh.path / "results/evals.csv/in_the_way").mkdir(parents=True)
    result = snakemake(fresh.path)
    assert result.returncode == 1
    end = result.stdout.partition("Not done:")[2]
    assert "    r4: failed as job local-" in end
    assert "The results could not be written: " in end
    assert "Run the same command again to make only what is missing." in end
    assert "Traceback" not in end


def test_failed_evaluation_leaves_no_log_at_its_target(tmp_path: Path) -> None:
    """inspect-ai exits with 0 after a failed evaluation."""
    fresh = make_scaffolded(tmp_path / "experiment", scaffold=Scaffold(inspect=True))
    fresh.edit("shout.py", "state.input_text.upper()", "{'apple': 'APPLE'}[state.input_text]")
    only = ["--config", "only=r4/shout/epoch0,base/shout/base"]
    result = snakemake(fresh.path, *only)
    assert result.returncode == 1
    assert ran(result.stdout) == Counter(run_finetune=1, verify_checkpoint=1, prebuild_cache=1)
    assert "base/shout/base failed: evaluation ended with status error" in result.stdout
    assert not list(fresh.path.glob("*/eval/logs/*"))
    attempts = list(fresh.path.glob("*/attempts/*"))
    assert len(attempts) == 2
    assert all(list(attempt.glob("*.eval")) for attempt in attempts)
    assert planned(fresh.path, *only) == Counter(run_evaluation=2, collect_results=1)


def test_model_that_fails_its_check_costs_only_its_runs_and_no_gpu(fresh: ExperimentFolder) -> None:
    for path in (fresh.path / "r4").glob("finetune.*"):
        path.unlink()
    fresh.set_parameters("r4", max_seq_len=12)
    assert planned(fresh.path)["check_model"] == 1
    result = snakemake(fresh.path)
    assert result.returncode == 1
    assert ran(result.stdout) == Counter(run_finetune=1, verify_checkpoint=1, run_evaluation=2, prebuild_cache=1)
    reason = "8 of 8 rows are too long for max_seq_len 12: the longest prompt has"
    what = "tokenizer, chat_completion prompts 'Shout: {input}' and all rows of words.json (train)"
    assert result.stdout.count(f"Model tiny failed its check ({what}): {fresh.path}/words.json: {reason}") == 1
    assert not (fresh.path / "r4/attempts").exists()
    assert f"- `r4`: its model failed the check: {fresh.path}/words.json: {reason}" in (
        (fresh.path / "results/summary.md").read_text()
    )
    log = read_action_log(fresh.path / "run-torchtune.log")
    (check,) = log[log["action"] == "MODEL_CHECK"].to_dict("records")
    assert (check["subject"], check["result"].partition(": ")[0]) == ("tiny", "failed")
    assert set(log[log["action"] == "SUBMIT_JOB"]["subject"]) == {"r8"}

    fresh.set_parameters("r4", max_seq_len=200)
    (name,) = plan_of(fresh).model_checks.by_name
    result = snakemake(fresh.path, f"cache/checks/{name}.json")
    assert ran(result.stdout) == Counter(check_model=1)
    assert planned(fresh.path)["check_model"] == 0
    assert fresh.record(f"cache/checks/{name}.json")["rows"] == 8


def test_broken_checkpoint_costs_only_its_evaluations(fresh: ExperimentFolder) -> None:
    fresh.edit("train.py", "tensors = {", "tensors = {} if run == 'r4' else {")
    result = snakemake(fresh.path)
    assert result.returncode == 1
    assert "Checkpoint of r4 failed verification" in result.stdout
    assert ran(result.stdout) == Counter(run_finetune=2, verify_checkpoint=1, run_evaluation=2, prebuild_cache=1)


def test_unreadable_data_is_told_once_and_fails_no_training(fresh: ExperimentFolder) -> None:
    fresh.edit("shout.py", "    data = ", "    raise KeyError('tset')\n    data = ")
    result = snakemake(fresh.path)
    assert result.returncode == 1
    assert "Task shout failed to load its data: KeyError: 'tset'" in result.stdout
    assert ran(result.stdout) == Counter(run_finetune=2, verify_checkpoint=2)


def test_bad_input_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    fresh = make_experiment(tmp_path / "experiment")
    fresh.edit("experiment_summary.yaml", "lora_rank: 4", "lora_ranc: 4")
    before = sorted(fresh.path.rglob("*"))
    result = snakemake(fresh.path)
    assert result.returncode == 2
    assert "runs[0].parameters.lora_ranc: unknown key; did you mean lora_rank?" in result.stdout
    assert sorted(fresh.path.rglob("*")) == before


def test_misspelt_setting_is_refused(fresh: ExperimentFolder) -> None:
    result = snakemake(fresh.path, "--config", "acount=me")
    assert result.returncode == 2
    assert "--config: acount: no such setting; did you mean account?" in result.stdout


def test_edited_configs_that_the_summary_left_behind_are_named_and_nothing_runs(tmp_path: Path) -> None:
    experiment = make_small_experiment(tmp_path / "place/experiment")
    plan_of(experiment).write_scripts()
    for run in ("r4", "r8"):
        with (experiment.path / run / "finetune.yaml").open("a") as file:
            file.write("own: 1\n")
        experiment.set_parameters(run, lora_rank=2)
    result = snakemake(experiment.path, "-n")
    assert result.returncode == 2
    lines = result.stdout.strip().splitlines()[-2:]
    assert [line.partition(": remove it")[0] for line in lines] == [
        f"{run}/finetune.yaml: was edited, and the summary or the data changed since" for run in ("r4", "r8")
    ]
