"""The estimate in words, and the refusal of a plan that costs more than it may."""

from __future__ import annotations

from collections.abc import Sequence

from run_experiment.actionlog.entry import duration_text
from run_experiment.common.text import counted
from run_experiment.estimate.cost import Estimate, Job, Source
from run_experiment.estimate.seconds import Seconds
from run_experiment.planning.target import Kind

_HOUR = 3600


def estimate_text(estimate: Estimate) -> str:
    """The lines under the plan's tables; empty if no job is planned."""
    if not estimate.jobs:
        return ""
    if not estimate.known:
        return "\nEstimate: none yet. Nothing like these jobs was measured; after the first of them there is one."
    return "\n".join(["", f"Estimate: {_total(estimate)}", *(f"    {line}" for line in _details(estimate))])


def left_text(estimate: Estimate) -> str:
    """The time that is left, of jobs of which some are under way; empty if nothing like them was measured."""
    if not estimate.known:
        return ""
    unknown = len(estimate.jobs) - len(estimate.known)
    rest = f"; not counted: {counted(unknown, 'job')} unlike any that was measured" if unknown else ""
    path = _spread(_total_of(estimate.longest_path))
    return f"Left: about {_total(estimate)}; the longest path takes {path}{rest}"


def over_budget(estimate: Estimate, gpu_hours: float | None) -> list[str]:
    """Why a plan must not begin if it may take this many GPU-hours; empty if it may, or None is given."""
    if gpu_hours is None or estimate.gpu_seconds.likely <= gpu_hours * _HOUR:
        return []
    return [
        f"gpu_hours={gpu_hours:g} does not suffice: the estimate is {_gpu_hours(estimate.gpu_seconds)}. Nothing is "
        "submitted; choose less with only=, or allow more."
    ]


def beyond_budget(estimate: Estimate, gpu_hours: float | None) -> list[str]:
    """What a number of GPU-hours does not limit; empty if None is given."""
    if gpu_hours is None:
        return []
    found = []
    if unknown := len(estimate.jobs) - len(estimate.known):
        found.append(f"gpu_hours={gpu_hours:g} does not count {counted(unknown, 'job')} unlike any that was measured")
    if without := sum(not job.gpus for job in estimate.known):
        found.append(f"gpu_hours={gpu_hours:g} does not count {counted(without, 'job')} like some that had no GPU")
    return found


def _total(estimate: Estimate) -> str:
    jobs = _jobs(estimate)
    if not estimate.gpu_seconds.likely:
        return f"{_spread(estimate.one_after_another)} of computing for {jobs}"
    return f"{_gpu_hours(estimate.gpu_seconds)} for {jobs}"


def _details(estimate: Estimate) -> list[str]:
    path = estimate.longest_path
    steps = ", then ".join(f"{_verb(job)} {job.subject} ({_about(job)})" for job in path)
    lines = [f"longest path: {_spread(_total_of(path))}: {steps}", f"judged by {_sources(estimate)}"]
    if unknown := len(estimate.jobs) - len(estimate.known):
        lines.append(f"not in it: {counted(unknown, 'job')} unlike any that was measured")
    return lines


def _total_of(jobs: Sequence[Job]) -> Seconds:
    return sum((job.seconds for job in jobs if job.seconds), Seconds())


def _jobs(estimate: Estimate) -> str:
    kinds = [job.kind for job in estimate.known]
    counts = [(kinds.count(Kind.TRAINING), "training"), (kinds.count(Kind.EVALUATION), "evaluation")]
    return " and ".join(counted(number, noun) for number, noun in counts if number)


def _sources(estimate: Estimate) -> str:
    named = {job.source for job in estimate.known}
    return " and ".join(source for source in Source if source in named)


def _verb(job: Job) -> str:
    return "fine-tune" if job.kind is Kind.TRAINING else "evaluate"


def _about(job: Job) -> str:
    return duration_text(job.seconds.likely if job.seconds else 0)


def _spread(seconds: Seconds) -> str:
    likely, least, most = map(duration_text, (seconds.likely, seconds.least, seconds.most))
    return f"{likely} ({least} to {most})"


def _gpu_hours(seconds: Seconds) -> str:
    likely, least, most = (_number(part / _HOUR) for part in (seconds.likely, seconds.least, seconds.most))
    return f"{likely} GPU-hours ({least} to {most})"


def _number(hours: float) -> str:
    """As many digits as an estimate has."""
    digits = 0 if hours >= 10 else 1 if hours >= 1 else 2
    return f"{hours:,.{digits}f}"
