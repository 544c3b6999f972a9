"""Verify a checkpoint: writes its manifest and the adapter folder that evaluations load."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.checkpoints.manifest import verify
from run_experiment.common.errors import VerificationError
from run_experiment.common.json_files import failed_at

if TYPE_CHECKING:
    from snakemake.script import snakemake

if __name__ == "__main__":
    job, wildcards = snakemake.params.job, snakemake.wildcards
    with open(snakemake.log[0], "w") as log:
        try:
            verify(**job)
        except VerificationError as error:
            # Here, since evaluations wait for this script, which seldom needs them.
            from run_experiment.actionlog.entry import ActionLogs, Log
            from run_experiment.session.entries.steps import checkpoint_missing

            log.write(f"{failed_at(error.config)}{error}\n")
            folder = Path(job["checkpoint"]).absolute()
            trained, logs = job["training"] is not None, ActionLogs(Path())
            logs.write(Log.INSPECT, checkpoint_missing(wildcards.run, wildcards.epoch, folder, str(error), trained))
            lost = f"\n{logs.incomplete()}" if logs.incomplete() else ""
            sys.exit(f"Checkpoint of {wildcards.run} failed verification: {error}{lost}")
