"""Evaluate one model on one task: runs `{run}/eval/{cell}.slurm`, writes `{run}/eval/{cell}.json` and its log."""

from run_experiment.jobs.evaluate import evaluate
from run_experiment.jobs.main import run_job
from run_experiment.jobs.specs import EvaluationJob

if __name__ == "__main__":
    run_job(__doc__, EvaluationJob, evaluate)
