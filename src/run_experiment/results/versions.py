"""What the results of an experiment were made with, read from their records: what differs, also from today."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from run_experiment.common.json_files import mapping
from run_experiment.common.text import shortened
from run_experiment.experiment.records import DEFAULT_BACKEND, FACTS, EvaluationRecord, JobRecord, TrainingRecord
from run_experiment.machine.provenance import PACKAGES, versions
from run_experiment.trainers.known import TRAINERS, trainer_of

# An evaluation (or a training, by its trainer's package) is marked if it was made with another version of this package.
EVALUATOR = "inspect-ai"
_TRAINERS = tuple(trainer.package for trainer in TRAINERS.values())

# Packages that neither a training nor an evaluation is made by.
_NOT_OF_TRAINING = frozenset({"peft", "datasets", EVALUATOR})
_NOT_OF_EVALUATION = frozenset(_TRAINERS)
# What goes without saying.
_USUAL = {"backend": DEFAULT_BACKEND, "experiment": "this one"}


def made_with(record: JobRecord) -> dict[str, Any]:
    """What a record says of how it was made; an older one says less."""
    return {name: record.provenance.get(name) for name in FACTS}


def number_of_attempts(record: JobRecord) -> int:
    """How many attempts a result took."""
    return 1 + sum(bool(mapping(attempt).get("failure")) for attempt in record.attempts)


def provenance_file(trainings: Mapping[str, JobRecord], evaluations: Mapping[str, JobRecord]) -> dict[str, Any]:
    """What `results/provenance.json` holds: of every training and evaluation, by its name, what it was made with."""
    return {
        "trainings": {name: _entry(record) for name, record in trainings.items()},
        "evaluations": {name: _entry(record) for name, record in evaluations.items()},
    }


def _entry(record: JobRecord) -> dict[str, Any]:
    facts = {name: getattr(record, name) for name in ("job_id", "config_hash", "started", "ended")}
    facts |= {"backend": record.backend} if isinstance(record, EvaluationRecord) else {}
    made = {**made_with(record), **({"earlier": earlier} if (earlier := _earlier(record)) else {})}
    made |= {"taken_from": dict(record.taken_from)} if record.taken_from else {}
    attempts = {"tries": number_of_attempts(record), "attempts": list(record.attempts)}
    return {**facts, **made, **attempts, "changes": dict(record.changes)}


def todays_versions(records: Iterable[JobRecord], elsewhere: bool = False) -> dict[str, str]:
    """Versions of the marking packages that a result made now would have.

    Those installed beside this process; if a package is not, since only jobs have it, that of the newest record.
    Always the latter if results may be made `elsewhere`, in an environment that job scripts activate.
    """
    made = sorted(records, key=lambda record: str(record.ended))
    packages = (*dict.fromkeys(trainer_of(record.config).package for record in made), EVALUATOR)
    known: dict[str, str] = {}
    for record in made:
        known |= _versions(record)
    known |= {} if elsewhere else versions(packages)
    return {package: known[package] for package in packages if package in known}


def other_versions(evaluation: JobRecord, training: JobRecord | None, today: Mapping[str, str]) -> str:
    """Versions that made an evaluation, or its run's training, and are not today's: `torchtune 0.5.0`, or empty."""
    trainer = trainer_of(training.config).package if training else ""
    made = [(trainer, number) for number in (_all_versions(training, trainer) if training else [])]
    made += [(EVALUATOR, number) for number in _all_versions(evaluation, EVALUATOR)]
    return ", ".join(f"{name} {number}" for name, number in made if number != today.get(name))


def versions_note(marks: Sequence[str]) -> str:
    """The footnote of evaluations with these marks, each its other versions or empty; empty if all are."""
    others = [mark for mark in marks if mark]
    if not others:
        return ""
    were = f"{len(others)} of {len(marks)} evaluations were made with other versions than are installed now"
    return f"{were}: {'; '.join(dict.fromkeys(others))} (column `versions`)."


def training_note(record: TrainingRecord) -> str:
    """What is unusual about a training: it diverged, a smaller batch, several attempts; empty if it went as asked."""
    diverged = any(isinstance(loss, float) and not math.isfinite(loss) for loss in record.losses.values())
    notes = ["diverged: its loss is not a finite number"] if diverged else []
    if "batch_size" in (changes := record.changes):
        asked = mapping(record.config.get("hyperparameters"))
        notes.append(f"batch {_batch({**asked, **changes})} instead of {_batch(asked)}: memory")
    if (count := number_of_attempts(record)) > 1:
        notes.append(f"{count} attempts")
    return "; ".join(notes)


def _batch(parameters: Mapping[str, Any]) -> str:
    """Samples a batch × batches a step."""
    return f"{parameters.get('batch_size')} × {parameters.get('gradient_accumulation_steps')}"


def shared_and_differing(
    trainings: Mapping[str, JobRecord], evaluations: Mapping[str, JobRecord]
) -> tuple[list[str], list[list[str]]]:
    """What all results that say it have in common, and rows of what differs: fact, value, results made with it."""
    made: dict[str, dict[str, list[str]]] = {package: {} for package in PACKAGES}
    for results, unused in ((trainings, _NOT_OF_TRAINING), (evaluations, _NOT_OF_EVALUATION)):
        for name, record in results.items():
            for fact, value in _comparable(record, unused).items():
                made.setdefault(fact, {}).setdefault(value, []).append(name)
    for fact, usual in _USUAL.items():
        values = made.pop(fact, {})
        made |= {fact: values} if set(values) - {usual} else {}
    shared = [f"{fact} {value}" for fact, values in made.items() for value in values if len(values) == 1]
    different = {fact: values for fact, values in made.items() if len(values) > 1}
    differing = [
        [fact, value, shortened(names, most=4)] for fact, values in different.items() for value, names in values.items()
    ]
    return shared, differing


def _comparable(record: JobRecord, unused: Iterable[str]) -> dict[str, str]:
    """By name, the facts of a record that may change a result; those that it does not say are left out."""
    facts = made_with(record)
    found = {name: number for name, number in _versions(record).items() if name not in unused}
    found |= {
        "Python": facts["python"],
        "commit": _commit(facts["project"]),
        "task's commit": _commit(facts["task"]),
        "GPU": _gpus(facts["gpus"]),
        "backend": record.backend if isinstance(record, EvaluationRecord) else "",
        "experiment": record.taken_from.get("experiment", _USUAL["experiment"]),
    }
    return {name: str(value) for name, value in found.items() if value}


def _commit(facts: Any) -> str:
    known = mapping(facts)
    return f"{str(known['commit'])[:10]}{' (dirty)' if known.get('dirty') else ''}" if known.get("commit") else ""


def _gpus(found: Any) -> str:
    """Kinds of GPUs, each with its number: `2 × NVIDIA L40S`."""
    names = [str(mapping(gpu).get("name")) for gpu in found] if isinstance(found, Sequence) else []
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def _versions(record: JobRecord) -> dict[str, str]:
    return {str(package): str(number) for package, number in mapping(made_with(record)["versions"]).items()}


def _all_versions(record: JobRecord, package: str) -> list[str]:
    """Versions of a package that a result was made with, in order: one that went on may have had several."""
    found = [mapping(mapping(one).get("versions")).get(package) for one in _earlier(record)]
    found.append(_versions(record).get(package))
    return list(dict.fromkeys(str(number) for number in found if number))


def _earlier(record: JobRecord) -> list[Any]:
    """Earlier environments of a result that was resumed in another one."""
    earlier = record.provenance.get("earlier")
    return earlier if isinstance(earlier, list) else []
