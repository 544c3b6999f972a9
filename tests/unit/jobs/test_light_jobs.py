"""A job holds its GPU while it imports: it begins with little, and imports the rest beside its script."""

from __future__ import annotations

import subprocess
import sys

import pytest
from snakemake_cli import SOURCE

HEAVY = {"numpy", "pandas", "pydantic", "yaml", "torch", "inspect_ai", "safetensors", "snakemake"}


@pytest.mark.parametrize("script", ["run_finetune.py", "run_evaluation.py"])
def test_a_job_begins_without_heavy_imports(script: str) -> None:
    code = f"import runpy, sys; runpy.run_path({str(SOURCE / 'scripts' / script)!r}); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    modules = set(result.stdout.split())
    assert "run_experiment.jobs.checks" in modules
    assert not HEAVY & modules
