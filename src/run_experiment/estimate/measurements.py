"""How long jobs took: of an experiment's own records, and of all experiments of a user, kept in a small file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from platformdirs import user_data_path
from pydantic import Field, TypeAdapter, ValidationError

from run_experiment.common import paths
from run_experiment.common.json_files import mapping, write_atomically
from run_experiment.estimate.likeness import epochs_of, likeness
from run_experiment.estimate.sizes import Sizes
from run_experiment.experiment.records import JobRecord
from run_experiment.planning.plan import Plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import Kind, Target

# The oldest beyond these are forgotten.
_MOST_KEPT = 5000


@dataclass(frozen=True)
class Measurement:
    """How long one job took with how many GPUs: `seconds`, of which each epoch of a training took its share.

    `likeness` are hashes of what it was of, see there: two jobs are as alike as the first of them that is equal in
    both. `amount` is how much it was of: tokens of an epoch, samples of an evaluation; 0 if that is not known. `gpu` is
    the name of its GPUs, empty without one, `tokens_per_second` that of a training's last steps, prompts included; None
    if it is not known. `job` names it among all of this user's.
    """

    kind: str
    seconds: Annotated[float, Field(gt=0)]
    epochs: Annotated[int, Field(gt=0)]
    gpus: Annotated[int, Field(ge=0)]
    likeness: tuple[str, ...]
    job: str = field(default="", compare=False)
    amount: Annotated[int, Field(ge=0)] = 0
    gpu: str = ""
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None

    @property
    def seconds_each(self) -> float:
        """Seconds of an epoch; of the whole job for an evaluation."""
        return self.seconds / self.epochs


_LINE = TypeAdapter(Measurement)


def measured(plan: Plan, snapshot: Snapshot | None = None) -> list[Measurement]:
    """What the records of an experiment say, as the plan read them or by a newer `snapshot`.

    The time of a job that was resumed or restored is only a part, so it is left out.
    """
    records = snapshot or plan.snapshot
    jobs = [target for target in plan.targets.values() if target.kind in (Kind.TRAINING, Kind.EVALUATION)]
    found = [(target, records.record(target.kind, target.path)) for target in jobs]
    sizes = Sizes(plan, records)
    return [
        _measurement(target, record, record.seconds, sizes)
        for target, record in found
        if isinstance(record, JobRecord) and record.seconds and not (record.attempts or record.restored_by)
    ]


def _measurement(target: Target, record: JobRecord, seconds: float, sizes: Sizes) -> Measurement:
    gpus = _gpus(record)
    return Measurement(
        kind=target.kind,
        seconds=seconds,
        epochs=epochs_of(target.kind, record.config),
        gpus=len(gpus) * _nodes(target, sizes.plan),
        likeness=likeness(target.kind, record.config),
        job=f"{sizes.plan.experiment.folder / target.path} {record.ended}",
        amount=sizes.measured(target, record),
        gpu=gpus[0] if gpus else "",
        tokens_per_second=sizes.tokens_per_second(target, record),
    )


def _nodes(target: Target, plan: Plan) -> int:
    """Nodes of a job, of which its record knows the first one's GPUs."""
    run, _ = paths.target_of(target.path)
    compute = plan.experiment.run_by_name[run].compute if target.kind is Kind.TRAINING else None
    return (compute and compute.nodes) or 1


def _gpus(record: JobRecord) -> list[str]:
    """Names of a job's GPUs."""
    found = record.provenance.get("gpus")
    return [str(mapping(gpu).get("name") or "") for gpu in found] if isinstance(found, list) else []


def all_known(plan: Plan) -> tuple[list[Measurement], list[Measurement]]:
    """What the records and the store say, of the plan's experiment and of others."""
    return told_apart(plan.experiment.folder, measured(plan), Store().read())


def told_apart(
    experiment: Path, own: Iterable[Measurement], kept: Iterable[Measurement]
) -> tuple[list[Measurement], list[Measurement]]:
    """The measurements of an experiment, also those of which only the store knows, and those of others."""
    known = {one.job: one for one in own}
    folder = f"{experiment}/"
    others = []
    for one in kept:
        if not one.job.startswith(folder):
            others.append(one)
        else:
            known.setdefault(one.job, one)
    return list(known.values()), others


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
        """Keep those that are not there yet. A folder that cannot be written to keeps none.

        Lines are appended, each whole, since other sessions may add theirs at the same time.
        """
        kept = self.read()
        known = {one.job for one in kept}
        added = [one for one in new if one.job not in known]
        with suppress(OSError):
            if len(kept) + len(added) > 2 * _MOST_KEPT:
                write_atomically(self._file, _lines([*kept, *added][-_MOST_KEPT:]))
            elif added:
                self._append(_lines(added))

    def _append(self, text: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # After a line that a full disk cut off.
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, ("\n" * is_torn + text).encode())
        finally:
            os.close(descriptor)


def _lines(measurements: Iterable[Measurement]) -> str:
    return "".join(f"{json.dumps(asdict(one))}\n" for one in measurements)


def _parsed(line: str) -> Measurement | None:
    try:
        return _LINE.validate_json(line)
    # Torn, of a later version, or edited.
    except ValidationError:
        return None
