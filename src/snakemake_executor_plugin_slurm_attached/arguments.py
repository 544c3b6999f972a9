"""Arguments of sbatch, as the SLURM executor that ours extends makes them of a rule's resources."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from snakemake_executor_plugin_slurm import ExecutorSettings
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface


def sbatch_arguments(
    job: JobExecutorInterface, facts: Mapping[str, Any], settings: ExecutorSettings, failed_nodes: Collection[str]
) -> list[str]:
    """Arguments of a job; `facts` are those that no resource tells. Raises WorkflowError."""
    validate_slurm_extra(job)
    call = get_submit_command(job, facts, settings=settings, failed_nodes=failed_nodes)
    # Split as a shell would, and never given to one.
    return shlex.split(call + set_gres_string(job))[1:]
