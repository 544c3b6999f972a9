"""Snakemake executor plugin `slurm-attached`: the SLURM executor whose jobs outlive the main process.

The job is the rule's own command, ends are noticed within seconds, one query a minute asks about all jobs, and jobs of
a main process that died are found again. Begin with `executor`, then `submitting`, `following`, `ends` and `earlier`.
"""

from dataclasses import replace

from snakemake_executor_plugin_slurm import common_settings as slurm_settings

from snakemake_executor_plugin_slurm_attached.executor import Executor
from snakemake_executor_plugin_slurm_attached.settings import ExecutorSettings

# Without a pause, Snakemake's thread that looks at jobs begins before the executor is ready, and then waits for long.
common_settings = replace(slurm_settings, init_seconds_before_status_checks=1)

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
