"""Snakemake executor plugin `slurm-attached`: the SLURM executor whose jobs outlive the main process.

Beyond the executor it extends: the job is the rule's own command, not a second Snakemake; ends are noticed from records
within seconds; one query a minute asks accounting for all jobs; jobs of a main process that died are found again.
"""

from dataclasses import replace

from snakemake_executor_plugin_slurm import common_settings as slurm_settings

from snakemake_executor_plugin_slurm_attached.executor import Executor
from snakemake_executor_plugin_slurm_attached.settings import ExecutorSettings

# Without a pause, Snakemake's thread that looks at jobs begins before the executor is ready, and then waits for long.
common_settings = replace(slurm_settings, init_seconds_before_status_checks=1)

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
