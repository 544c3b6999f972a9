"""What makes jobs alike: hashes of what decides how long they take, from all of it to the model alone."""

from __future__ import annotations

from typing import Any

from run_experiment.common.json_files import Config, config_hash, mapping
from run_experiment.experiment.costs import IF_ON, OF_SPEED
from run_experiment.planning.target import Kind


def likeness(kind: Kind, config: Config) -> tuple[str, ...]:
    """Hashes by which a job of a configuration is compared with others, the most alike first.

    Of trainings: all that decides their time; model and what decides the time of a step, whatever the data; model and
    data; the model alone. Of evaluations: all, model and task, the model alone.
    """
    return tuple(config_hash({"kind": kind, "of": level}) for level in _levels(kind, config))


def _levels(kind: Kind, config: Config) -> list[Any]:
    model = config.get("model")
    if kind is Kind.EVALUATION:
        task = config.get("task")
        work = {"model": model, "task": task, "data": config.get("data"), "generation": config.get("generation")}
        return [work, {"model": model, "task": mapping(task).get("script")}, model]
    given = mapping(config.get("hyperparameters"))
    speed = {name: given.get(name) for name in OF_SPEED}
    # Absent for most trainings, and in what older versions measured.
    speed |= {name: given[name] for name in IF_ON if given.get(name)}
    speed |= {"trainer": config["trainer"]} if "trainer" in config else {}
    work = {"model": model, "data": config.get("data"), "steps": given.get("max_steps_per_epoch")}
    return [{**work, **speed}, {"model": model, "speed": speed}, work, model]


def epochs_of(kind: Kind, config: Config) -> int:
    """How many epochs a job of a configuration trains; 1 for an evaluation."""
    return int(mapping(config.get("hyperparameters")).get("epochs") or 1) if kind is Kind.TRAINING else 1
