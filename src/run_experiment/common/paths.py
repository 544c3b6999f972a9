"""Paths of all files in an experiment's folder: a contract that other tools rely on.

All paths are relative to the experiment folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SUMMARY = "experiment_summary.yaml"
# Name that torchtune gives to a checkpoint.
CHECKPOINT_NAME = "epoch_{epoch}"
CHECKPOINT_PATTERN = f"{{run}}/artifacts/{CHECKPOINT_NAME}"

# What peft names an adapter's files.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# What transformers generates by where nothing else is said.
GENERATION_CONFIG = "generation_config.json"

# Caches of a session; losing them costs only time.
MEMORY = ".snakemake/run-experiment"
JOBS = f"{MEMORY}/jobs"
# Marks of a session that epochs are trained.
EPOCHS = f"{MEMORY}/epochs"
# Which targets jobs of several have begun with, or are not to.
TURNS = f"{MEMORY}/turns"

# nvidia-smi samples of a job.
GPU_METRICS = "gpu_metrics.csv"

# Copy of a training's record, beside its checkpoints.
KEPT_RECORD = "record.json"
# Beside the checkpoints of an unfinished training: which training they belong to.
UNFINISHED = "unfinished.json"
# In a checkpoint: which job trained its epoch, and when. It appears together with the whole checkpoint.
TRAINED = "trained.json"

# The date that chat templates show, if one asks for it.
TEMPLATE_DATE = "template_date.txt"

# Folder of trainings, beside the output folder of a run, which links to one of them.
TRAININGS = "trainings"

# Names that a run must not have, since folders of ours have them.
RESERVED_RUN_NAMES = frozenset({"cache", "results", "logs", TRAININGS})


def portable(path: Path, folder: Path) -> str:
    """A path as job scripts name it: relative to the experiment's folder if it is inside.

    So a copy of the folder works in the copy; scripts run with the experiment's folder as working directory.
    """
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def told_apart(files: Sequence[Path]) -> list[str]:
    """Names of files, with as many of the folders above them as tell them apart."""
    names: list[str] = []
    for parts in range(1, max((len(file.parts) for file in files), default=0) + 1):
        names = [str(Path(*file.parts[-parts:])) for file in files]
        if len(set(names)) == len(files):
            break
    return names


def cell(task: str, epoch: int | None) -> str:
    """Name of an evaluation within its run: `{task}_epoch{N}`, `{task}_base` without training."""
    return f"{task}_base" if epoch is None else f"{task}_epoch{epoch}"


def subject(run: str, task: str, epoch: int | None) -> str:
    """Name of an evaluation in the logs: `{run}/{task}/epoch{N}`, `{run}/{task}/base` without training."""
    return f"{run}/{task}/base" if epoch is None else f"{run}/{task}/epoch{epoch}"


def subject_of_cell(run: str, cell: str) -> str:
    """The same by the name of the evaluation within its run."""
    task, _, last = cell.rpartition("_")
    return f"{run}/{task}/{last}"


def finetune_config(run: str) -> str:
    """torchtune config of a run."""
    return f"{run}/finetune.yaml"


def dated_tokenizer(run: str) -> str:
    """Tokenizer of a run whose chat template shows the experiment's date."""
    return f"{run}/tokenizer"


def finetune_script(run: str) -> str:
    """Job script of a run's training."""
    return f"{run}/finetune.slurm"


def finetune_record(run: str) -> str:
    """Record of a run's successful training."""
    return f"{run}/finetune.json"


def manifest(run: str, epoch: int | None) -> str:
    """Manifest of a verified checkpoint; `epoch` is None for a checkpoint that was made elsewhere."""
    return f"{run}/checkpoints/{'given' if epoch is None else f'epoch_{epoch}'}.json"


def loadable(run: str, epoch: int | None) -> str:
    """Folder from which transformers loads a verified checkpoint; `epoch` as in `manifest`."""
    return f"{run}/checkpoints/{'given' if epoch is None else f'epoch_{epoch}'}"


def trained_epoch(run: str, epoch: int) -> str:
    """Mark of this session that an epoch is trained while its training goes on; losing it costs nothing."""
    return f"{EPOCHS}/{run}/{CHECKPOINT_NAME.format(epoch=epoch)}.json"


def run_of_epoch(mark: str) -> str:
    """Run of such a mark."""
    return Path(mark).parent.name


def job_name(experiment: str, run: str, task: str | None = None, epoch: int | None = None) -> str:
    """Name of a job on the cluster: of a training, or of a task's evaluation (without epoch: of a given model)."""
    parts = [experiment, run, *([task] if task else []), *([] if epoch is None else [f"e{epoch}"])]
    return ".".join(parts)


def eval_folder(run: str) -> str:
    """Folder of all that belongs to a run's evaluations."""
    return f"{run}/eval"


def eval_script(run: str, cell: str) -> str:
    """Job script of an evaluation, where no other tool left one in a folder of the cell."""
    return f"{run}/eval/{cell}.slurm"


def task_arguments(run: str, cell: str) -> str:
    """Arguments of an evaluation's task, for `--task-config`."""
    return f"{run}/eval/{cell}.args.yaml"


def task_config(run: str, cell: str) -> str:
    """Prompts, scorers and labels of an evaluation, for tasks that read them from a file."""
    return f"{run}/eval/{cell}.config.yaml"


def target_of(record: str) -> tuple[str, str]:
    """Run and name of a record's subject: `finetune`, an evaluation's cell, a checkpoint's name."""
    path = Path(record)
    return path.parts[0], path.stem


def lock(record: str) -> str:
    """File that is locked while a job makes a target. Snakemake must not know it, or it would remove it."""
    run, name = target_of(record)
    return f"{run}/.{name}.lock"


def eval_log(run: str, cell: str) -> str:
    """Finished inspect-ai log of an evaluation."""
    return f"{run}/eval/logs/{cell}.eval"


def unfinished_eval(run: str, cell: str, name: str) -> str:
    """Folder in which `inspect eval-set` continues an evaluation; `name` stands for all that determines its result."""
    return f"{run}/eval/.unfinished/{cell}.{name}"


def eval_gpu_metrics(run: str, cell: str) -> str:
    """nvidia-smi samples of an evaluation; those of a training lie beside its checkpoints."""
    return f"{run}/eval/{cell}.{GPU_METRICS}"


def eval_record(run: str, cell: str) -> str:
    """Record of a successful evaluation."""
    return f"{run}/eval/{cell}.json"


def cache_record(data_set: str) -> str:
    """Record of a prebuilt data-set cache."""
    return f"cache/{data_set}.json"


def model_check(name: str) -> str:
    """Record of a model's check."""
    return f"cache/checks/{name}.json"


def model_check_log(name: str) -> str:
    """Output of a model's check, as its rule names it."""
    return f"logs/check_model/{name}.log"


def training_log(run: str) -> str:
    """Output of a training's script, as its rule names it."""
    return f"logs/run_finetune/{run}.log"


def evaluation_log(run: str, cell: str) -> str:
    """Output of an evaluation's script, as its rule names it."""
    return f"logs/run_evaluation/{run}/{cell}.log"


def verification_log(run: str, checkpoint: str) -> str:
    """Log of a checkpoint's verification, as its rule names it."""
    return f"logs/verify_checkpoint/{run}/{checkpoint}.log"


def cache_log(data_set: str) -> str:
    """Output of the prebuilding of a cache, as its rule names it."""
    return f"logs/prebuild_cache/{data_set}.log"


def attempts(run: str) -> str:
    """Folder of attempts that failed or were cut off, one folder per job."""
    return f"{run}/attempts"


EVALS_TABLE = "results/evals.csv"
COMPARISONS_TABLE = "results/comparisons.csv"
SUMMARY_PAGE = "results/summary.md"
REPORT = "results/report.html"
FIGURES = "results/figures"
