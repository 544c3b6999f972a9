"""Records and manifests of an experiment folder as typed values; files of older versions have defaults.

A record that is torn, or that does not say what it is of, is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import Config, mapping, read_record

# What a record says of how it was made; an older one has these beside each other, not under `provenance`.
FACTS = ("host", "gpus", "project", "task", "python", "platform", "versions", "seeds")
# What evaluations were computed by before there was a choice.
DEFAULT_BACKEND = "hf"
# Names of metrics that say how uncertain another one is.
ERROR_SUFFIXES = ("/stderr", "/std", "/var")


@dataclass(frozen=True)
class Record:
    """What was made of which configuration."""

    config: Config


@dataclass(frozen=True)
class CheckRecord(Record):
    """A model that passed its check, with what an epoch of its training goes through.

    `samples` are packs if they are packed; `answer_tokens` are those of `tokens` that are no prompt. All are 0 if that
    is not known, or if nothing is trained.
    """

    samples: int = 0
    tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Allocation:
    """The start of a SLURM job that left a record; `restarts` is how many came before it.

    Times are by the job's own clock, but `started` is SLURM's if `start_known_to_slurm`.
    """

    restarts: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    start_known_to_slurm: bool = False


@dataclass(frozen=True)
class JobRecord(Record):
    """What a job says of its result. Times are as written (ISO 8601 with offset).

    `attempts` are the earlier attempts in short, `changes` the parameters that had to be smaller than asked for;
    `restored_by` is the job that found this result and restored its record; `allocation` is of the job that left it.
    """

    job_id: str | None = None
    restored_by: str | None = None
    allocation: Allocation = Allocation()
    config_hash: str | None = None
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Any, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def taken_from(self) -> Mapping[str, Any]:
        """The `experiment` and `run` that it was made in, if it was taken from another one; else empty."""
        return mapping(self.provenance.get("taken_from"))

    @property
    def end(self) -> datetime | None:
        """When it ended."""
        return moment_of(self.ended)


@dataclass(frozen=True)
class TrainingRecord(JobRecord):
    """A successful training: folders of its checkpoints, final losses by name.

    `epochs` says which job trained each epoch, and when; empty if that is not known. `tokens_per_second` counts those
    that the loss is of. `earlier_seconds` are those of the attempts that the last one, of which `seconds` are, went on
    from; 0 in older records.
    """

    checkpoints: tuple[str, ...] = ()
    epochs: tuple[Mapping[str, Any], ...] = ()
    losses: Mapping[str, float | None] = field(default_factory=dict)
    tokens_per_second: float | None = None
    earlier_seconds: float = 0.0

    @property
    def total_seconds(self) -> float | None:
        """Seconds of all attempts whose work it holds; None if those of the last one are not known."""
        return None if self.seconds is None else self.seconds + self.earlier_seconds


@dataclass(frozen=True)
class EvaluationRecord(JobRecord):
    """A successful evaluation: its metrics by name, and how many of how many samples were completed.

    `scored` is how many samples have a value, by what metrics' names begin with; empty if that is not known.
    `backend` is what computed the model: `hf`, `vllm`, or another provider of inspect-ai that an edited script names.
    `log` has size, time and hash of its log; empty in older records.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    samples: int | None = None
    total: int | None = None
    scored: Mapping[str, int] = field(default_factory=dict)
    backend: str = DEFAULT_BACKEND
    log: Mapping[str, Any] = field(default_factory=dict)

    def counted(self, metric: str) -> int | None:
        """How many samples a metric is of."""
        return self.scored.get(metric.rpartition("/")[0], self.samples)


@dataclass(frozen=True)
class Manifest(Record):
    """A verified checkpoint: its folder, its files with size, times and hash, the base model that it belongs to."""

    files: Mapping[str, Mapping[str, Any]]
    checkpoint: str | None = None
    base_model: str | None = None
    verified: datetime | None = None

    @property
    def hashes(self) -> dict[str, Any]:
        """SHA-256 of the files by name, as configurations have them."""
        return {name: {"sha256": facts["sha256"]} for name, facts in self.files.items()}


def read_training(path: Path) -> TrainingRecord | None:
    """Read the record of a training."""
    return training_record(read_record(path))


def training_record(values: Mapping[str, Any] | None) -> TrainingRecord | None:
    """The values of a training's record."""
    if not (facts := _job_facts(values)) or values is None:
        return None
    checkpoints = tuple(map(str, _list(values.get("checkpoints"))))
    epochs = tuple(map(mapping, _list(values.get("epochs"))))
    speed = values.get("tokens_per_second")
    return TrainingRecord(
        **facts,
        checkpoints=checkpoints,
        epochs=epochs,
        losses=mapping(values.get("losses")),
        tokens_per_second=speed if isinstance(speed, int | float) else None,
        earlier_seconds=earlier if isinstance(earlier := values.get("earlier_seconds"), int | float) else 0.0,
    )


def read_evaluation(path: Path) -> EvaluationRecord | None:
    """Read the record of an evaluation."""
    values = read_record(path)
    if not (facts := _job_facts(values)) or values is None:
        return None
    results = mapping(values.get("results"))
    return EvaluationRecord(
        **facts,
        metrics=mapping(results.get("metrics")),
        samples=results.get("completed_samples"),
        total=results.get("total_samples"),
        scored=mapping(results.get("scored_samples")),
        backend=_backend(facts["config"], results.get("model")),
        log=log if "sha256" in (log := mapping(values.get("log"))) else {},
    )


def _backend(config: Config, model: Any) -> str:
    """The backend of an evaluation, by the model as its log names it: an edited script may have used another one.

    Records that do not say it are of the default one.
    """
    provider, _, name = model.partition("/") if isinstance(model, str) else ("", "", "")
    if not name:
        return str(mapping(config.get("generation")).get("backend") or DEFAULT_BACKEND)
    # `vllm-tokens` is our provider, `vllm` and others are inspect-ai's.
    return "vllm" if provider.startswith("vllm") else provider


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest of a checkpoint; None also if it does not have the hashes of its files."""
    values = read_record(path) or {}
    config, files = values.get("config"), mapping(values.get("files"))
    if not isinstance(config, dict) or not files or not all("sha256" in mapping(facts) for facts in files.values()):
        return None
    checkpoint, model = _text(values.get("checkpoint")), _text(values.get("base_model"))
    return Manifest(config, files, checkpoint, model, moment_of(values.get("verified")))


def read_config(path: Path) -> Record | None:
    """Read a record of which only the configuration counts."""
    config = (read_record(path) or {}).get("config")
    return Record(config) if isinstance(config, dict) else None


def read_check(path: Path) -> CheckRecord | None:
    """Read the record of a model's check."""
    values = read_record(path) or {}
    config, train = values.get("config"), mapping(values.get("train"))
    if not isinstance(config, dict):
        return None
    amounts = [train.get(name) for name in ("samples", "tokens", "answer_tokens")]
    known = [amount for amount in amounts if isinstance(amount, int) and amount > 0]
    return CheckRecord(config, *known) if len(known) == len(amounts) else CheckRecord(config)


def _job_facts(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a record of any job says; None if it does not say what it is of."""
    if values is None or not isinstance(values.get("config"), dict):
        return None
    seconds, older = values.get("seconds"), {name: values[name] for name in FACTS if name in values}
    texts = ("job_id", "restored_by", "config_hash", "started", "ended")
    return {
        "config": values["config"],
        **{name: _text(values.get(name)) for name in texts},
        "allocation": allocation_of(values),
        "seconds": seconds if isinstance(seconds, int | float) else None,
        "provenance": {**older, **mapping(values.get("provenance"))},
        "attempts": tuple(_list(values.get("attempts"))),
        "changes": mapping(values.get("changes")),
    }


def allocation_of(values: Mapping[str, Any]) -> Allocation:
    """The start of a job that left a record with these values; of an older record, when the attempt began and ended."""
    found = values.get("allocation")
    if isinstance(found, Mapping):
        restarts = found.get("restarts")
        times = (moment_of(found.get("started")), moment_of(found.get("ended")))
        by_slurm = found.get("start_known_to_slurm") is True
        return Allocation(restarts if isinstance(restarts, int) else 0, *times, by_slurm)
    if values.get("restored_by"):
        # Its times are those of the job that made it.
        return Allocation()
    return Allocation(0, moment_of(values.get("started")), moment_of(values.get("ended")))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
