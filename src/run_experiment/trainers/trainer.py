"""What a trainer is, for the jobs, checks and records of trainings."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from run_experiment.common.json_files import Config

if TYPE_CHECKING:
    # A job holds its GPU while it imports.
    from run_experiment.experiment.hyperparameters import Hyperparameters
    from run_experiment.experiment.model import Training


# The module that starts the processes of a training.
LAUNCHER = "run_experiment.trainers.torchrun"
# How it says which process failed: on each node one that ended it.
RANK_ENDED, RANK_FAILED = "rank {rank} on {host} was ended by {signal}", "rank {rank} on {host} failed: {error}"
_ENDED, _FAILED = (re.compile(re.sub(r"{\w+}", r"\\S+", text)) for text in (RANK_ENDED, RANK_FAILED))


@dataclass(frozen=True)
class Sizes:
    """Samples per batch and batches per step: the product affects the result, the batch alone the memory."""

    batch: int
    accumulation: int

    @property
    def text(self) -> str:
        """`8 × 1`."""
        return f"{self.batch} × {self.accumulation}"

    def shared(self, devices: int) -> Sizes | None:
        """The sizes of each of several devices that share the samples of a step; None if the samples do not divide.

        A device has no more samples at once than it would have alone.
        """
        samples, rest = divmod(self.batch * self.accumulation, devices)
        if rest:
            return None
        batch = next(size for size in range(min(self.batch, samples), 0, -1) if samples % size == 0)
        return Sizes(batch, samples // batch)


@dataclass(frozen=True)
class Resumption:
    """Where a training resumes: how many `epochs` are complete, and the changes to its config that make it resume.

    `state` is its name for the user: `epoch_1`, `step 37`.
    """

    epochs: int
    changes: Config
    state: str


def failed_process(log: Sequence[str]) -> str | None:
    """The line of a log that says which process of a training failed; None if there is none.

    On other nodes processes fail because they lost it: later, or in another way than one that was killed.
    """
    return next((line for said in (_ENDED, _FAILED) for line in log if said.match(line)), None)


class Trainer(ABC):
    """Trains as a config file says: a process that writes `epoch_N` folders with peft adapters and `metrics.csv`.

    Its module is started in the experiment folder with `--config CONFIG`. It reads changes to the config from the file
    that RUN_EXPERIMENT_CHANGES names, and publishes each epoch's folder whole, with `trained.json` for the job that
    RUN_EXPERIMENT_JOB names. Running out of memory it ends with torch's message; a loss that is not finite, data or a
    device that cannot be used end it with a message of one line.
    """

    # Its name in the summary and in records.
    name: ClassVar[str]
    # The package whose version marks a training, and the extra of this project that installs it.
    package: ClassVar[str]
    extra: ClassVar[str]
    # The module that job scripts run.
    module: ClassVar[str]

    # Whether several devices can share a training.
    shares: ClassVar[bool] = False

    def command(self, config: str, processes: int = 1, nodes: int = 1) -> list[str]:
        """The command of a training with a config file, which so many processes on each node share."""
        arguments = ["-m", self.module, "--config", config]
        if processes * nodes == 1:
            return ["python", *arguments]
        where = ["--standalone"] if nodes == 1 else [f"--nnodes={nodes}", "--rdzv-backend=c10d"]
        return ["python", "-m", LAUNCHER, *where, f"--nproc-per-node={processes}", *arguments]

    @abstractmethod
    def render(self, training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> str:
        """The config file of a training that runs in `folder`, in the trainer's own terms.

        `tokenizer` is the folder of its tokenizer, None for the model's own. Raises ModelError.
        """

    @abstractmethod
    def model_problem(self, model_dir: Path) -> str | None:
        """Why a model cannot be loaded or trained exactly; None if nothing is seen.

        Raises ModelError or CheckpointError.
        """

    @abstractmethod
    def option_problems(self, given: Hyperparameters, model_dir: Path) -> Mapping[str, str]:
        """Why options of a training cannot be done, by their key in the summary. Raises ModelError."""

    @abstractmethod
    def max_seq_len(self, training: Training) -> int:
        """Tokens that a sample of a training is cut to. Raises ModelError."""

    @abstractmethod
    def resumption(self, output_dir: Path) -> Resumption | None:
        """How a training resumes from what is in its output folder; None if it has to start from the beginning."""

    @abstractmethod
    def what_is_missing(self, output_dir: Path) -> str | None:
        """Why a training cannot resume from the epochs in its output folder; None if there are none."""

    @abstractmethod
    def states(self, output_dir: Path) -> Iterator[Path]:
        """Files that a training wrote last of what it can resume from."""

    @abstractmethod
    def drop_state(self, output_dir: Path) -> None:
        """Remove what only resuming needs. Raises OSError."""

    @abstractmethod
    def seed(self, config: Mapping[str, Any]) -> int | None:
        """The seed in a config; None if it has none."""

    @abstractmethod
    def sizes(self, config: Mapping[str, Any]) -> Sizes | None:
        """The sizes in a config; None if they are not numbers."""

    @abstractmethod
    def with_sizes(self, sizes: Sizes) -> Config:
        """The changes to a config that make it train with other sizes."""


def whole_numbers(batch: Any, accumulation: Any) -> Sizes | None:
    """Sizes of what a config has; None if they are not numbers."""
    try:
        return Sizes(int(batch), int(accumulation))
    except (TypeError, ValueError):
        return None
