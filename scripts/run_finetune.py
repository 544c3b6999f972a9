"""Fine-tune one run: runs `{run}/finetune.slurm`, writes `{run}/finetune.json`."""

from run_experiment.jobs.finetune import finetune
from run_experiment.jobs.main import run_job
from run_experiment.jobs.specs import FinetuneJob

if __name__ == "__main__":
    run_job(__doc__, FinetuneJob, finetune)
