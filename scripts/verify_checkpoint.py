"""Verify a checkpoint: writes its manifest and the adapter folder that evaluations load."""

import sys

from run_experiment.checkpoints import CheckpointError
from run_experiment.verification import verify

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as log:
        try:
            verify(**snakemake.params.job)
        except CheckpointError as error:
            log.write(f"{error}\n")
            sys.exit(f"Checkpoint of {snakemake.wildcards.run} failed its verification: {error}")
