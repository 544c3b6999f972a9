"""Evaluate one model on one task, or several: runs `{run}/eval/{cell}.slurm`, writes `{run}/eval/{cell}.json` and its
log.
"""

from run_experiment.jobs.evaluate import run_evaluations

if __name__ == "__main__":
    run_evaluations(__doc__)
