"""Evaluate one model on one task: runs `{run}/eval/{cell}.slurm`, writes `{run}/eval/{cell}.json` and its log."""

from run_experiment.evaluation_job import EvaluationJob, evaluate
from run_experiment.job_command import run_job

if __name__ == "__main__":
    run_job(__doc__, EvaluationJob, evaluate)
