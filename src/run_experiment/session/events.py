"""What a workflow engine reports of its rules, as events; those of a cluster's jobs are in `slurm.events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RuleStarted:
    """A rule's job is started, or waits for its turn to be submitted; `stagger` are seconds between submissions."""

    number: int
    outputs: Sequence[str]
    logs: Sequence[str]
    stagger: float = 0


@dataclass(frozen=True)
class RuleFinished:
    """A rule's job made its outputs."""

    number: int


@dataclass(frozen=True)
class RuleFailed:
    """A rule's job failed, in the words of `message` if there are any."""

    number: int
    message: str = ""


@dataclass(frozen=True)
class Tick:
    """It is time to look at the jobs that run on this machine."""


# Name under which the plan of a session travels as an attribute of a log record.
RECORD_ATTRIBUTE = "session_plan"
