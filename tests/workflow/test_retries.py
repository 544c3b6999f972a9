"""On one machine, too: what another try can mend is tried again, and the action log says so."""

from __future__ import annotations

from pathlib import Path

from experiments import OUT_OF_MEMORY, before_python, make_experiment
from snakemake_cli import snakemake

from run_experiment.action_log_reader import read_action_logs


def test_a_batch_that_does_not_fit_is_halved_for_every_run_of_the_model(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "experiment", epochs=1)
    for run in ("r4", "r8"):
        experiment.set_parameters(run, batch_size=8)
    fitting = before_python(tmp_path, OUT_OF_MEMORY.replace("r4/finetune.yaml", "$4"), 4)
    config = ["--config", fitting, "only=r4,r8"]

    result = snakemake(experiment.path, *config)

    assert result.returncode == 0, result.stdout
    assert (experiment.path / "tries").read_text().split() == ["8", "4", "4"]
    told = read_action_logs(experiment.path)
    told = told[told["action"] == "OOM_RETRY"]
    first, second = told["subject"]
    assert {first, second} == {"r4", "r8"}
    assert all(f"8 ran out of memory in job {told['job_id'].iloc[0]} of {first}" in text for text in told["details"])
    for run, failed in ((first, 1), (second, 0)):
        record = experiment.record(f"{run}/finetune.json")
        assert record["changes"] == {"batch_size": 4, "gradient_accumulation_steps": 2}
        assert len(record["attempts"]) == failed
    assert snakemake(experiment.path, *config).stdout.count("Nothing to be done") == 1
