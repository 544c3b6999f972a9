"""How long jobs took: of an experiment's own records, and of all experiments of a user, kept in a small file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_data_path
from pydantic import Field, TypeAdapter, ValidationError

from run_experiment.common.json_files import Config, config_hash, mapping, write_atomically
from run_experiment.experiment.records import JobRecord
from run_experiment.planning.plan import Plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import Kind

# Hyperparameters that change how long a step takes, besides those that the model and the data decide.
_OF_SPEED = (
    "apply_lora_to_mlp",
    "batch_size",
    "compile",
    "device",
    "dtype",
    "enable_activation_checkpointing",
    "enable_activation_offloading",
    "gradient_accumulation_steps",
    "lora_attn_modules",
    "lora_rank",
    "max_seq_len",
)
# The oldest beyond these are forgotten.
_MOST_KEPT = 5000


@dataclass(frozen=True)
class Measurement:
    """How long one job took with how many GPUs: `seconds`, of which each epoch of a training took its share.

    `likeness` are hashes of what it was of, from all that decides its time to the model alone: two jobs are as alike
    as the first of them that is equal in both. `job` names it among all of this user's.
    """

    kind: str
    seconds: Annotated[float, Field(gt=0)]
    epochs: Annotated[int, Field(gt=0)]
    gpus: Annotated[int, Field(ge=0)]
    likeness: tuple[str, ...]
    job: str = field(default="", compare=False)

    @property
    def seconds_each(self) -> float:
        """Seconds of an epoch; of the whole job for an evaluation."""
        return self.seconds / self.epochs


_LINE = TypeAdapter(Measurement)


def epochs_of(kind: Kind, config: Config) -> int:
    """How many epochs a job of a configuration trains; 1 for an evaluation."""
    return int(mapping(config.get("hyperparameters")).get("epochs") or 1) if kind is Kind.TRAINING else 1


def likeness(kind: Kind, config: Config) -> tuple[str, ...]:
    """What a job of a configuration is compared by, see Measurement."""
    model = config.get("model")
    if kind is Kind.TRAINING:
        given = mapping(config.get("hyperparameters"))
        work = {"model": model, "data": config.get("data"), "steps": given.get("max_steps_per_epoch")}
        work |= {"packed": True} if given.get("packed") else {}
        levels: list[Any] = [{**work, **{name: given.get(name) for name in _OF_SPEED}}, work, model]
    else:
        task = config.get("task")
        work = {"model": model, "task": task, "data": config.get("data"), "generation": config.get("generation")}
        levels = [work, {"model": model, "task": mapping(task).get("script")}, model]
    return tuple(config_hash({"kind": kind, "of": level}) for level in levels)


def measured(plan: Plan, snapshot: Snapshot | None = None) -> list[Measurement]:
    """What the records of an experiment say, as the plan read them or by a newer `snapshot`.

    The time of a job that was resumed or restored is only a part, so it is left out.
    """
    records = snapshot or plan.snapshot
    jobs = [target for target in plan.targets.values() if target.kind in (Kind.TRAINING, Kind.EVALUATION)]
    found = [(target, records.record(target.kind, target.path)) for target in jobs]
    return [
        Measurement(
            kind=target.kind,
            seconds=record.seconds,
            epochs=epochs_of(target.kind, record.config),
            gpus=_number_of_gpus(record),
            likeness=likeness(target.kind, record.config),
            job=f"{plan.experiment.folder / target.path} {record.ended}",
        )
        for target, record in found
        if isinstance(record, JobRecord) and record.seconds and not (record.attempts or record.restored_by)
    ]


def _number_of_gpus(record: JobRecord) -> int:
    found = record.provenance.get("gpus")
    return len(found) if isinstance(found, list) else 0


class Store:
    """The measurements of all experiments of this user, a line each; without it estimates are only wider."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or user_data_path("run-experiment") / "measurements.jsonl"

    def read(self) -> list[Measurement]:
        """All that are readable, oldest first."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return []
        return [found for line in lines if (found := _parsed(line))]

    def add(self, new: Iterable[Measurement]) -> None:
        """Keep those that are not there yet. A folder that cannot be written to keeps none."""
        kept = self.read()
        known = {one.job for one in kept}
        added = [one for one in new if one.job not in known]
        if added:
            text = "".join(f"{json.dumps(asdict(one))}\n" for one in [*kept, *added][-_MOST_KEPT:])
            with suppress(OSError):
                write_atomically(self._file, text)


def _parsed(line: str) -> Measurement | None:
    try:
        return _LINE.validate_json(line)
    # Torn, of a later version, or edited.
    except ValidationError:
        return None
