"""The executor fits the one it extends, and its settings are checked."""

from __future__ import annotations

import inspect
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from slurm_shims import Cluster
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm.validation import validate_status_command_settings
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_slurm_attached import Executor, ExecutorSettings

# What the executor overrides, as it was when it was written.
OVERRIDDEN = {
    "__init__": "(self, workflow, logger)",
    "__post_init__": "(self, test_mode)",
    "run_jobs": "(self, jobs)",
    "run_job": "(self, job)",
    "format_job_exec": "(self, job)",
    "check_active_jobs": "(self, active_jobs)",
    "report_job_success": "(self, job_info)",
    "report_job_error": "(self, job_info, msg, kwargs)",
    "cancel": "(self)",
    "shutdown": "(self)",
}


def signature(owner: type, name: str) -> str:
    return f"({', '.join(inspect.signature(getattr(owner, name)).parameters)})"


def test_what_is_overridden_is_there_in_the_pinned_version() -> None:
    assert version("snakemake-executor-plugin-slurm") == "2.8.0"
    inherited = {name for owner in SlurmExecutor.__mro__[:-1] for name in vars(owner)}
    own = {name for name, value in vars(Executor).items() if inspect.isfunction(value)}
    assert own & inherited == set(OVERRIDDEN)
    for name, expected in OVERRIDDEN.items():
        assert (signature(SlurmExecutor, name), signature(Executor, name)) == (expected, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"efficiency_report": True},
        {"partition_config": Path(__file__)},
        {"on_interrupt": "ask"},
        {"max_queued": 0},
        {"poll_seconds": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError):
        ExecutorSettings(**wrong)


def test_the_controller_is_not_asked_for_a_command_that_is_not_used(cluster: Cluster, tmp_path: Path) -> None:
    """As the SLURM executor does before it warns of that command."""
    cluster.shim(tmp_path / "bin", "scontrol", f"touch {tmp_path}/asked; echo MinJobAge = 300 sec")
    validate_status_command_settings(ExecutorSettings(), logging.getLogger())
    assert not (tmp_path / "asked").exists()
