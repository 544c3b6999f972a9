"""Rules whose jobs go to a cluster keep to what works there without a second Snakemake in the job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "rules"
CLUSTER_RULES = ["finetune.smk", "evaluate.smk"]
# Snakemake itself would have to run in the job for these; `benchmark` even removes a finished output, and `retries`
# would repeat what cannot be mended.
IMPOSSIBLE = r"benchmark|conda|container|containerized|singularity|shadow|group|retries|run|script|notebook|wrapper"


def directives(file: str) -> set[str]:
    return set(re.findall(r"^    (\w+):", (RULES / file).read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", CLUSTER_RULES)
def test_cluster_rules_are_plain_commands(file: str) -> None:
    assert "shell" in directives(file)
    assert not {name for name in directives(file) if re.fullmatch(IMPOSSIBLE, name)}


def test_all_other_rules_are_local() -> None:
    rules = {
        name for file in RULES.glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE)
    }
    snakefile = (RULES.parent / "Snakefile").read_text()
    local = set(re.search(r"^localrules:\n((?:    \w+,\n)+)", snakefile, re.MULTILINE)[1].replace(",", "").split())
    # Nothing runs for the third one.
    assert rules - local == {"run_finetune", "run_evaluation", "await_epoch"}


def test_outputs_that_a_failed_job_may_lose_hold_no_checkpoints() -> None:
    """Snakemake removes declared outputs."""
    for file in RULES.glob("*.smk"):
        assert "directory(" not in file.read_text()
