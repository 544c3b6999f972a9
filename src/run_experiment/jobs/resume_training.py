"""How an attempt at a training starts: after the last complete epoch, with a batch size that fits into memory.

Only for scripts that run one of our trainers: others start from the beginning, with their own batch size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from run_experiment.actionlog.entry import Action
from run_experiment.attempts.files import Failure
from run_experiment.common import paths
from run_experiment.common.json_files import Config, merged, write_record
from run_experiment.experiment.costs import IF_ON, OF_MEMORY
from run_experiment.finetuning.resume_state import CHANGES
from run_experiment.jobs.batch_sizes import LearnedBatches, TooBig, halved_limit, smaller_batch
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.run import Attempt
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.jobscripts.own_recipe import given_config
from run_experiment.machine.memory import log_says_too_large
from run_experiment.trainers.trainer import Resumption, Sizes, Trainer

_BATCH, _ACCUMULATION = "batch_size", "gradient_accumulation_steps"
_LARGER = (
    "ask for a larger GPU or more memory in its #SBATCH lines, cut max_seq_len, or set enable_activation_checkpointing"
)


@dataclass(frozen=True)
class Start:
    """How an attempt starts: `resumed` from a state or None, with the sizes configured (`asked`) and `used`.

    `limits` are those of batches that ran out of memory; None if the sizes are not known. `changes` are those of the
    config that the sizes used need.
    """

    resumed: Resumption | None = None
    asked: Sizes | None = None
    used: Sizes | None = None
    limits: LearnedBatches | None = None
    changes: Config = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """How many epochs are complete."""
        return self.resumed.epochs if self.resumed else 0

    @property
    def changed_sizes(self) -> dict[str, int]:
        """The sizes used, as the summary's keys; empty if they are as configured."""
        if self.used is None or self.used == self.asked:
            return {}
        return {_BATCH: self.used.batch, _ACCUMULATION: self.used.accumulation}

    def environment(self, folder: Path) -> dict[str, str]:
        """Write config changes to a file in the attempt's folder; return the script's environment. Raises OSError."""
        if not (changes := merged(self.changes, self.resumed.changes if self.resumed else {})):
            return {}
        # JSON is valid YAML.
        file = folder / "changes.json"
        write_record(file, changes)
        return {CHANGES: str(file.absolute())}


def plan_start(job: FinetuneJob, trainer: Trainer, current: Attempt, folder: Path, resumes: bool) -> Start:
    """Decide how an attempt at a training in a folder starts, and write it to the action log."""
    resumed = trainer.resumption(folder) if resumes else None
    asked = trainer.sizes(given_config(Path(job.script), Path(job.folder), job.run))
    limits = _known_limits(job.config, current) if asked else None
    used = _choose_sizes(current, limits.too_big(), asked) if asked and limits else None
    changes = trainer.with_sizes(used) if used and used != asked else {}
    if not resumes:
        facts = ("experiment", "job_id", "config")
        write_record(folder / paths.UNFINISHED, {fact: current.begun[fact] for fact in facts})
    current.begin(**({_BATCH: used.batch} if used else {}))
    if resumed:
        _log_resumption(current, resumed, len(job.checkpoints))
    elif resumes and (missing := trainer.what_is_missing(folder)):
        details = f"Cannot continue from the epochs in {job.output_dir}: {missing}"
        current.tell(Action.RESUME_TRAINING, details, "Starting again from epoch 0")
    return Start(resumed, asked, used, limits, changes)


@contextmanager
def learning(current: Attempt, start: Start) -> Iterator[None]:
    """Remember the batch size if the attempt runs out of memory. Raises JobError, final if no smaller size is left."""
    try:
        yield
    except JobError as error:
        if error.failure is not Failure.OUT_OF_MEMORY:
            raise
        if start.used is None or start.limits is None:
            raise JobError(f"{error}\nIts script has a batch size of its own: {_LARGER}.") from error
        if start.used.batch == 1:
            raise _give_up(start.limits, current, str(error)) from error
        # Only for GPU memory: a retry may request more memory of the node.
        if log_says_too_large(current.log):
            with suppress(OSError):
                start.limits.learn(TooBig(start.used.batch, current.begun["run"], current.job_id))
        raise


def _known_limits(config: Config, current: Attempt) -> LearnedBatches:
    hyperparameters = config.get("hyperparameters", {})
    kind = {"model": config["model"]} | {name: hyperparameters.get(name) for name in OF_MEMORY}
    kind |= {name: hyperparameters[name] for name in IF_ON if hyperparameters.get(name)}
    return LearnedBatches(kind, lambda: [gpu["name"] for gpu in current.provenance().result().get("gpus", [])])


def _choose_sizes(current: Attempt, known: TooBig | None, asked: Sizes) -> Sizes:
    """Choose sizes that have not run out of memory yet, and log a change."""
    # An attempt that ended before training has no sizes.
    before = next((one for one in current.earlier if _BATCH in one.begun), None)
    last = before.begun[_BATCH] if before else None
    if before and isinstance(last, int) and before.failure is Failure.OUT_OF_MEMORY:
        # After failing with 1, a new start implies that the user gave it more memory.
        if last > 1 and (known is None or last <= known.batch_size):
            known = TooBig(last, current.begun["run"], before.job_id)
    elif isinstance(last, int) and last < min(asked.batch, known.batch_size if known else asked.batch):
        # The same size again: the last attempt did not end for lack of memory.
        return _smaller(asked, last + 1)
    if known is None or asked.batch < known.batch_size:
        return asked
    used = _smaller(asked, halved_limit(known.batch_size))
    why = f"Batch size {known.batch_size} ran out of memory in job {known.job_id} of {known.run}"
    details = f"{why}: {asked.text} → {used.text} (batch size × gradient accumulation)"
    current.tell(Action.OOM_RETRY, details, f"Effective batch size {used.batch * used.accumulation} as before")
    return used


def _smaller(asked: Sizes, below: int) -> Sizes:
    """The largest batch size below a limit that keeps the product; at least 1."""
    found = smaller_batch(asked.batch, asked.accumulation, below)
    return Sizes(*(found or (1, asked.batch * asked.accumulation)))


def _give_up(limits: LearnedBatches, current: Attempt, why: str) -> JobError:
    # The next attempt uses the configured size: it may have a larger GPU.
    current.begin(**{_BATCH: None})
    limits.forget()
    return JobError(f"out of memory even with batch size 1: {_LARGER}\n{why}")


def _log_resumption(current: Attempt, resumed: Resumption, total: int) -> None:
    before = f", after job {current.earlier[0].job_id}" if current.earlier else ""
    details, trained = f"Continues from {resumed.state}{before}", resumed.epochs
    rest = f"{total - trained} to do" if trained < total else "none to do"
    current.tell(Action.RESUME_TRAINING, details, f"{trained} of {total} epochs are trained, {rest}")
