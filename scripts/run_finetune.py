"""Fine-tune one run: runs `{run}/finetune.slurm`, writes `{run}/finetune.json`."""

from run_experiment.finetune_job import FinetuneJob, finetune
from run_experiment.job_command import run_job

if __name__ == "__main__":
    run_job(__doc__, FinetuneJob, finetune)
