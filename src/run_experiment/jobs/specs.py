"""Job specifications: plain values that the main process writes and the node reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from run_experiment.common import paths
from run_experiment.common.json_files import Config, canonical, config_hash, mapping, write_atomically
from run_experiment.inputs.data_files import data_files
from run_experiment.jobscripts.own_recipe import given_config, trainer_in


@dataclass(frozen=True)
class Input:
    """Something that a result depends on, with the SHA-256 that was planned with: a file or folder, or the rows of a
    `split` of joined data files, of which the `first` count (all with None).
    """

    files: tuple[Path, ...]
    sha256: str
    split: str | None = None
    first: int | None = None


def inputs_of(config: Config, script: str, data: str | None) -> list[Input]:
    """Script, imported and named files and data of a task, given their hashes."""
    files = config.get("files", {})
    beside = {Path(script).parent / name: facts for name, facts in config["imports"].items()}
    beside |= {Path(script).parent / Path(name).expanduser(): facts for name, facts in files.items()}
    rows = [Input((Path(data),), config["data"]["sha256"], config["data"]["split"])] if data and config["data"] else []
    read = {Path(script): config["script"], **beside}
    return [*(Input((path,), facts["sha256"]) for path, facts in read.items()), *rows]


@dataclass(frozen=True)
class Job:
    """What a job has to know: its run, what determines its result, and fingerprints of its script and configs by path.

    `target` is the record that it makes, `name` its name on the cluster, `script` its job script, which runs in
    `folder`. All paths are relative to the experiment's folder. `retries` is how many more times it is tried where that
    can mend a failure; `keys` say where the summary decides on the `time` and `mem` that it requests.
    """

    run: str
    config: dict[str, Any]
    files: dict[str, str]
    target: str = field(kw_only=True)
    name: str = field(kw_only=True)
    script: str = field(kw_only=True)
    folder: str = field(kw_only=True, default=".")
    retries: int = field(kw_only=True, default=3)
    keys: dict[str, str] = field(kw_only=True, default_factory=dict)

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return self.run

    @property
    def task_files(self) -> list[Path]:
        """Files of the user's code that it runs, the called one first."""
        return []

    @property
    def inputs(self) -> list[Input]:
        """Data and code that its result depends on."""
        return []

    @property
    def seeds(self) -> dict[str, int]:
        """Seeds that its result depends on, by what draws from them."""
        return {}

    @property
    def config_hash(self) -> str:
        """Hash of the configuration; the job's file and record have it under this name too."""
        return config_hash(self.config)

    @classmethod
    def read(cls, path: str) -> Self:
        """Read what the main process wrote, perhaps one of another version, which wrote more. Raises ValueError."""
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{one.name: facts[one.name] for one in fields(cls) if one.name in facts})
        except (OSError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {error}") from error

    @cached_property
    def _text(self) -> str:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return canonical({**values, "config_hash": self.config_hash})

    @property
    def file_name(self) -> str:
        """Name of the job's file, by its content, which therefore never changes."""
        return f"{hashlib.sha256(self._text.encode()).hexdigest()[:16]}.json"

    def write(self, folder: Path) -> Path:
        """Write the job to its file in a folder; return the file's path."""
        path = folder / self.file_name
        if not path.exists():
            write_atomically(path, self._text)
        return path


@dataclass(frozen=True)
class FinetuneJob(Job):
    """A fine-tune: its data files (absolute; a text if it is one) and the folders of its checkpoints, one an epoch.

    `output_dir` is the folder that the trainer writes all of them to, None if another tool's script has its own way.
    `elsewhere` are the folders that another tool's script may write its checkpoints to instead.
    """

    data: str | list[str]
    checkpoints: list[str]
    output_dir: str | None
    elsewhere: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> list[Input]:
        """The rows that it is trained on and validated with."""
        first = {"train": mapping(self.config.get("hyperparameters")).get("training_samples")}
        files, splits = tuple(data_files(self.data)), self.config["data"].items()
        return [Input(files, facts["sha256"], split, first.get(split)) for split, facts in splits]

    @property
    def seeds(self) -> dict[str, int]:
        """The seed of adapters, dropout and data order; none if only the script knows."""
        script = Path(self.script)
        trainer = trainer_in(script)
        seed = trainer.seed(given_config(script, Path(self.folder), self.run)) if trainer else None
        return {} if seed is None else {"training": seed}


@dataclass(frozen=True)
class EvaluationJob(Job):
    """An evaluation: its cell, its task's file and its data file if any (absolute), its checkpoint's manifest if any,
    its cache folder, its epoch if any, the folders of the model that it evaluates, that of its base model.

    `task_name` is the name that inspect-ai knows the task by, `arguments` are the names of what a rendered script gives
    to it; None if that is not known.
    """

    cell: str
    task: str
    data: str | None
    manifest: str | None
    cache: str
    epoch: int | None = None
    models: list[str] = field(default_factory=list)
    base: str | None = None
    max_connections: int = 32
    task_name: str | None = None
    arguments: list[str] | None = None

    @property
    def inputs(self) -> list[Input]:
        """The task, the files beside it that it imports, and its data."""
        task = self.config["task"]
        return inputs_of({"imports": {}, **task, "data": self.config["data"]}, self.task, self.data)

    @property
    def split(self) -> str | None:
        """The split of its data that it evaluates; None if that is not known."""
        return self.config["data"].get("split") if self.config["data"] else None

    @property
    def task_files(self) -> list[Path]:
        """The task's file and the files beside it that it imports."""
        script = Path(self.task)
        return [script, *(script.parent / name for name in self.config["task"].get("imports", {}))]

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return paths.subject_of_cell(self.run, self.cell)
