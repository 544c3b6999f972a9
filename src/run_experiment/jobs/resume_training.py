"""What a try at a training begins from: the last whole epoch that is there, and a batch size that fits into memory.

Only a script that runs our recipe can be told: another tool's begins anew, with the batch size that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.attempts.files import Failure
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.finetuning.batch_sizes import halved_limit, smaller_batch
from run_experiment.finetuning.resume_state import CHANGES, last_whole_epoch, resume_changes, what_is_missing
from run_experiment.jobs.batch_limits import LearnedBatches, TooBig
from run_experiment.jobs.checks import JobError
from run_experiment.jobs.own_recipe import runs_our_recipe
from run_experiment.jobs.run import Attempt
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.machine.memory import log_says_too_large

_BATCH, _ACCUMULATION = "batch_size", "gradient_accumulation_steps"
# What else decides whether a batch fits.
_OF_MEMORY = (
    "max_seq_len",
    "dtype",
    "compile",
    "enable_activation_checkpointing",
    "enable_activation_offloading",
)
_LARGER = (
    "ask for a larger GPU or more memory in its #SBATCH lines, cut max_seq_len, or set enable_activation_checkpointing"
)


@dataclass(frozen=True)
class Sizes:
    """Samples a batch, and batches a step: their product determines the result, the batch the memory."""

    batch: int
    accumulation: int

    @property
    def text(self) -> str:
        """`8 × 1`."""
        return f"{self.batch} × {self.accumulation}"


@dataclass(frozen=True)
class Start:
    """What a try begins from: so many `trained` epochs, and sizes where they differ from those that were asked for."""

    trained: int = 0
    asked: Sizes | None = None
    used: Sizes | None = None

    @property
    def changed_sizes(self) -> dict[str, int]:
        """What a record says of other sizes; empty where they are as asked for."""
        if self.used is None or self.used == self.asked:
            return {}
        return {_BATCH: self.used.batch, _ACCUMULATION: self.used.accumulation}

    def environment(self, folder: Path) -> dict[str, str]:
        """Environment of the training's script, with the changes in a file of the try's folder. Raises OSError."""
        resumed = resume_changes(self.trained - 1) if self.trained else {}
        if not (changes := self.changed_sizes | resumed):
            return {}
        # JSON, which is YAML too.
        file = folder / "changes.json"
        write_record(file, changes)
        return {CHANGES: str(file.absolute())}


def plan_start(job: FinetuneJob, current: Attempt, goes_on: bool) -> Start:
    """What a try begins from, told in the action log."""
    if job.output_dir is None or not runs_our_recipe(Path(job.script)):
        return Start()
    output = Path(job.output_dir)
    epoch = last_whole_epoch(output) if goes_on else None
    before = current.earlier(job)
    asked = _asked(job)
    start = Start(0 if epoch is None else epoch + 1, asked, _fitting(job, current, before, asked) if asked else None)
    if not goes_on:
        facts = ("experiment", "job_id", "config", "redo")
        write_record(output / paths.UNFINISHED, {fact: current.begun[fact] for fact in facts})
    current.begin(**({_BATCH: start.used.batch} if start.used else {}))
    if start.trained:
        _tell_where(job, current, start.trained, next(iter(before), None))
    elif goes_on and (missing := what_is_missing(output)):
        details = f"Cannot continue from the epochs in {output}: {missing}"
        current.tell(Action.RESUME_TRAINING, details, "Begins anew with epoch 0")
    return start


@contextmanager
def learning(job: FinetuneJob, current: Attempt, start: Start) -> Iterator[None]:
    """Learn from a try that runs out of memory meanwhile. Raises JobError, final where nothing smaller is left."""
    try:
        yield
    except JobError as error:
        if error.failure is not Failure.OUT_OF_MEMORY:
            raise
        if start.used is None:
            raise JobError(f"{error}\nIts script has a batch size of its own: {_LARGER}.") from error
        if start.used.batch == 1:
            raise _too_large(job, current, str(error)) from error
        # Of a node's memory, more may be asked for the next time.
        if log_says_too_large(current.log):
            with suppress(OSError):
                _learned(job, current).learn(TooBig(start.used.batch, job.run, current.job_id))
        raise


def _asked(job: FinetuneJob) -> Sizes | None:
    """Sizes in the training's config; None where they are not there as numbers, or the script has others."""
    try:
        config = job.given_config()
        return Sizes(int(config[_BATCH]), int(config.get(_ACCUMULATION, 1)))
    except (KeyError, TypeError, ValueError):
        return None


def _learned(job: FinetuneJob, current: Attempt) -> LearnedBatches:
    hyperparameters = job.config.get("hyperparameters", {})
    kind = {"model": job.config["model"]} | {name: hyperparameters.get(name) for name in _OF_MEMORY}
    return LearnedBatches(kind, [gpu["name"] for gpu in current.provenance.result().get("gpus", [])])


def _fitting(job: FinetuneJob, current: Attempt, earlier: list[history.Attempt], asked: Sizes) -> Sizes:
    """Sizes that did not run out of memory yet, told where they are news."""
    known = _learned(job, current).too_big()
    # One that ended before it trained says nothing of sizes.
    before = next((one for one in earlier if _BATCH in one.begun), None)
    last = before.begun[_BATCH] if before else None
    if before and isinstance(last, int) and before.failure is Failure.OUT_OF_MEMORY:
        # With 1, whoever starts again gave it more memory.
        if last > 1 and (known is None or last <= known.batch_size):
            known = TooBig(last, job.run, before.job_id)
    elif isinstance(last, int) and last < min(asked.batch, known.batch_size if known else asked.batch):
        # As before: what cut it off was something else.
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


def _too_large(job: FinetuneJob, current: Attempt, why: str) -> JobError:
    # The next one begins with what is asked for: it may have a larger GPU.
    current.begin(**{_BATCH: None})
    _learned(job, current).forget()
    return JobError(f"out of memory even with batch size 1: {_LARGER}\n{why}")


def _tell_where(job: FinetuneJob, current: Attempt, trained: int, before: history.Attempt | None) -> None:
    total = len(job.checkpoints)
    details = f"Continues from epoch_{trained - 1}" + (f", after job {before.job_id}" if before else "")
    rest = f"{total - trained} to do" if trained < total else "none to do"
    current.tell(Action.RESUME_TRAINING, details, f"{trained} of {total} epochs are trained, {rest}")
