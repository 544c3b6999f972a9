"""A job holds its GPU while it imports: it begins with little, and imports the rest beside its script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_experiment import make_small_experiment
from snakemake_cli import SOURCE
from tiny_jobs import as_it_lies, leaving

from run_experiment.jobs.specs import EvaluationJob

HEAVY = {"numpy", "pandas", "pydantic", "yaml", "torch", "inspect_ai", "safetensors", "snakemake"}
HEAVY |= {"asyncio", "unittest", "importlib.metadata", "run_experiment.slurm.clients"}

# Of verifications, for whose ends evaluations wait.
NEEDED = {"numpy", "safetensors"}


@pytest.mark.parametrize(
    ("script", "needed"),
    [("run_finetune.py", set()), ("run_evaluation.py", set()), ("verify_checkpoint.py", NEEDED)],
)
def test_a_job_begins_without_heavy_imports(script: str, needed: set[str]) -> None:
    code = f"import runpy, sys; runpy.run_path({str(SOURCE / 'scripts' / script)!r}); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    modules = set(result.stdout.split())
    assert "run_experiment.common.paths" in modules
    assert HEAVY & modules == needed


def test_what_reads_logs_is_imported_beside_the_script(evaluation: EvaluationJob, logs: Path) -> None:
    is_there = "grep -q pydantic_core /proc/$PPID/maps && touch imported && break"
    leaving(logs, "success", then=f"for try in {{1..200}}; do {is_there}; sleep 0.05; done")
    job = as_it_lies(evaluation).write(Path())
    command = [sys.executable, SOURCE / "scripts/run_evaluation.py", "--job", job, "--id", "5", "--log", "logs/job.log"]
    subprocess.run(command, timeout=60, check=True)
    assert Path("imported").exists()


PLANNING = """
import sys
from snakemake.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sys.modules)
"""


def test_planning_imports_no_trainer(tmp_path: Path) -> None:
    """A login node may have none, and importing one takes seconds."""
    experiment = make_small_experiment(tmp_path / "experiment")
    # Jobs in another environment: here nothing has to be installed.
    settings = [f"experiment_dir={experiment.path}", "environment=activate"]
    arguments = ["--dry-run", "--profile", "profiles/local", "--config", *settings]
    command = [sys.executable, "-c", PLANNING, *arguments]
    result = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    imported = set(result.stdout.rpartition("imported:")[2].split())
    assert "run_experiment.planning.build" in imported
    assert not imported & {"torch", "torchtune", "trl", "peft", "transformers", "datasets", "inspect_ai"}
