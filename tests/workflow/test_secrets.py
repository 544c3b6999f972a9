"""Values of secret variables stay in what the user's own scripts print."""

from __future__ import annotations

from pathlib import Path

import pytest
from scaffolded import make_scaffolded
from snakemake_cli import snakemake

from run_experiment.attempts.files import LOG

CANARIES = {"HF_TOKEN": "canary-hf-8471", "OPENAI_API_KEY": "canary-oa-8471"}


def test_no_file_but_the_output_of_jobs_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One training prints them and fails, the other prints them and is evaluated."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    experiment = make_scaffolded(tmp_path / "experiment")
    prints = 'echo "tokens $HF_TOKEN $OPENAI_API_KEY" >&2'
    experiment.edit("r4/finetune.slurm", "set -e\n", f"set -e\n{prints}; exit 3\n")
    for script in ("r8/finetune.slurm", "r8/eval/shout_epoch0.slurm"):
        experiment.edit(script, "set -e\n", f"set -e\n{prints}\n")
    result = snakemake(experiment.path, "--keep-going")
    assert result.returncode == 1
    assert "tokens *** ***" in result.stdout
    assert (experiment.path / "r8/eval/shout_epoch0.json").exists()
    assert not any(value in result.stdout for value in CANARIES.values())
    files = [path for path in experiment.path.rglob("*") if path.is_file()]
    told = {path.relative_to(experiment.path) for path in files if b"canary-" in path.read_bytes()}
    own = {path for path in told if path.parts[0] == "logs" or path.name == LOG}
    assert told - own == set()
    assert own
