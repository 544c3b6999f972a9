"""The action logs of a run on this machine."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
from experiments import ExperimentFolder, make_experiment
from scaffolded import make_scaffolded
from snakemake_cli import snakemake

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log, read_action_logs
from run_experiment.report.jobs import used as what_was_used

# What happens on a cluster only, only with a GPU, or only if it is asked for.
ELSEWHERE = {
    Action.REUSE_EVAL,
    Action.RESOURCE_STATUS,
    Action.MONITOR_DETACHED,
    Action.JOB_REATTACHED,
    Action.OOM_RETRY,
    Action.RESUME_TRAINING,
    Action.EVAL_RETRY,
    Action.STALE_CACHE,
    Action.QUEUE_FULL,
    # Scripts of another tool have their own encoding.
    Action.MODEL_CHECK,
    # Needs a training slower than others like it.
    Action.THROUGHPUT_STATUS,
}


def of(table: pd.DataFrame, action: Action) -> pd.DataFrame:
    return table[table["action"] == action.value]


def logs(experiment: ExperimentFolder) -> list[Path]:
    return [experiment.path / log.file for log in Log]


def test_a_run_with_failures_is_told_whole(tmp_path: Path) -> None:
    """r4's training fails, r8's last checkpoint is broken; then r4 is mended."""
    experiment = make_scaffolded(tmp_path / "experiment", epochs=2)
    experiment.set_parameters("r4", lr=13.0)
    train = experiment.path / "train.py"
    spoil = 'if run == "r8":\n    (output / "epoch_1/adapter_model.safetensors").write_bytes(b"short")\n'
    # Until there was time for a STATUS_CHECK.
    wait = "import time\nwhile 'STATUS_CHECK' not in Path('run-torchtune.log').read_text():\n    time.sleep(0.05)\n"
    train.write_text(train.read_text().replace("run, epochs =", f"{wait}run, epochs =", 1) + spoil)
    # So quiet, Snakemake by itself would tell no plugin of ends.
    quiet = ["--quiet", "progress", "rules"]
    result = snakemake(experiment.path, *quiet, "--logger-action-log-status-seconds", "1")
    assert result.returncode == 1
    table = read_action_logs(experiment.path)
    assert not table["truncated"].any()
    assert set(table["action"]) == {action.value for action in set(Action) - ELSEWHERE}

    training = read_action_log(experiment.path / "run-torchtune.log")
    submitted = dict(of(training, Action.SUBMIT_JOB)[["subject", "job_id"]].to_numpy())
    assert set(of(training, Action.SUBMIT_JOB)["details"]) == {"local execution of finetune.slurm"}
    # The id is that of the record.
    assert experiment.record("r8/finetune.json")["job_id"] == submitted["r8"]
    changes = of(training, Action.STATE_CHANGE)
    assert set(zip(changes["subject"], changes["details"], changes["job_id"], strict=True)) == {
        *((run, "PENDING → RUNNING", job_id) for run, job_id in submitted.items()),
        ("r4", "RUNNING → FAILED", submitted["r4"]),
        ("r8", "RUNNING → COMPLETED", submitted["r8"]),
    }
    failed = changes[changes["details"] == "RUNNING → FAILED"]["result"].item()
    assert f"its log is {experiment.path}/logs/run_finetune/r4.log\nValueError: unlucky learning rate" in failed
    assert of(training, Action.ALL_COMPLETE)["result"].item() == "1 COMPLETED, 1 FAILED"
    used = [used for details in of(table, Action.COMPUTE_METRICS)["details"] if (used := what_was_used(details))]
    assert len(used) == 4
    # They compute for less than a second, with less memory than the log has digits for.
    assert all({"cpu_percent", "memory_gb"} <= set(figures) for figures in used)
    assert experiment.record("r8/finetune.json")["usage"]["peak_memory_mib"] > 10

    missing = of(table, Action.CHECKPOINT_MISSING).set_index("subject")
    assert set(missing.index) == {"r4/epoch_0", "r4/epoch_1", "r8/epoch_1"}
    assert missing.loc["r8/epoch_1", "details"] == f"Expected path: {experiment.path}/r8/artifacts/epoch_1"
    assert "adapter_model.safetensors" in missing.loc["r8/epoch_1", "explanation"]
    (submission,) = of(table, Action.ALL_SUBMITTED)["details"]
    assert submission == "2 evaluations submitted (0 failures); 3 cannot be submitted: what they need failed"
    ended = table[table["action"] == "ALL_COMPLETE"].set_index("log")
    assert ended.loc["inspect", "result"] == "2 COMPLETED, 0 FAILED"

    before = [path.read_bytes() for path in logs(experiment)]
    told = {log: len(read_action_log(experiment.path / log.file)) for log in Log}
    experiment.set_parameters("r4", lr=0.01)
    assert snakemake(experiment.path, "r4/finetune.json").returncode == 0
    after = [path.read_bytes() for path in logs(experiment)]
    assert all(new.startswith(old) for old, new in zip(before, after, strict=True))
    # In one table of both logs, entries of two sessions can share a second and be mixed.
    added = pd.concat([read_action_log(experiment.path / log.file).iloc[count:] for log, count in told.items()])
    assert of(added, Action.IDENTIFY_RUNS)["details"].item() == (
        "2 fine-tuning runs with finetune.slurm; skipping r8 (already complete), base (control, no training)"
    )
    skipped = of(added, Action.IDENTIFY_EVALS)["details"].item()
    assert "base/shout/base (already complete)" in skipped.replace("r8/shout/epoch0, ", "")
    assert re.search(r"r4/shout/epoch0, r4/shout/epoch1.* \(not asked for\)", skipped)
    assert Counter(added["action"])["ALL_COMPLETE"] == 1
    assert of(added, Action.ALL_COMPLETE)["details"].item() == "All 1 job reached a terminal state; 1 complete before"


def test_nothing_is_written_by_a_session_that_does_nothing(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "experiment")
    for arguments in (["-n"], ["--lint"], ["--summary"], ["--unlock"], ["--dag"], ["--rulegraph"]):
        snakemake(experiment.path, *arguments)
        assert not any(path.exists() for path in logs(experiment)), arguments
    experiment.edit("experiment_summary.yaml", "lora_rank: 4", "lora_ranc: 4")
    assert snakemake(experiment.path).returncode == 2
    assert not any(path.exists() for path in logs(experiment))


def test_nothing_is_written_where_all_is_done(experiment: ExperimentFolder) -> None:
    before = [path.read_bytes() for path in logs(experiment)]
    for arguments in ([], ["-n"], ["--report", str(experiment.path.parent / "report.html")]):
        snakemake(experiment.path, *arguments)
    assert [path.read_bytes() for path in logs(experiment)] == before


def test_an_unwritable_log_costs_nothing_but_itself(tmp_path: Path) -> None:
    experiment = make_scaffolded(tmp_path / "experiment")
    log, script = experiment.path / "run-inspect.log", experiment.path / "r4/finetune.slurm"
    # At the start it is one that can be written.
    script.write_text(f"{script.read_text()}\nrm -f {log}\nmkdir -p {log}\n")
    result = snakemake(experiment.path)
    assert result.returncode == 0
    assert re.search(
        r"The action logs are incomplete: run-inspect.log lacks \d+ entries: Is a directory", result.stdout
    )
    assert "ALL_COMPLETE" in (experiment.path / "run-torchtune.log").read_text()
