"""Estimates what the jobs of a plan take: each by those that were most like it, with a range and its source."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median

from run_experiment.common import paths
from run_experiment.common.json_files import mapping
from run_experiment.estimate.likeness import epochs_of, likeness
from run_experiment.estimate.measurements import Measurement, all_known
from run_experiment.estimate.model_size import guess
from run_experiment.estimate.seconds import Seconds
from run_experiment.estimate.sizes import Sizes
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind, Target

# By how much a job may differ from others that are as alike as each of `likeness`; and from those of which it is not
# known how much more or less they were of (infinite: they say nothing).
_WIDER = {
    Kind.TRAINING: ((1.25, 1.25), (1.5, math.inf), (2.0, 2.0), (3.0, 5.0)),
    Kind.EVALUATION: ((1.25, 1.25), (2.0, 2.0), (3.0, 5.0)),
}


class Source(enum.StrEnum):
    """What a job's time is judged by."""

    OWN = "jobs of this experiment"
    OTHERS = "jobs of your other experiments"
    SIZE = "the size of the model and its data alone"


@dataclass(frozen=True)
class Job:
    """A job of the plan that trains or evaluates `run`: its GPUs, how long it will take.

    `seconds` is None if nothing is known that it could be judged by.
    """

    subject: str
    run: str
    kind: Kind
    gpus: int = 0
    seconds: Seconds | None = None
    source: Source = Source.OWN


@dataclass(frozen=True)
class Estimate:
    """What the jobs of a plan take."""

    jobs: Sequence[Job]

    @property
    def known(self) -> list[Job]:
        """Jobs whose time can be judged."""
        return [job for job in self.jobs if job.seconds]

    @property
    def gpu_seconds(self) -> Seconds:
        """GPU-seconds of the known jobs."""
        return sum((job.seconds.times(job.gpus) for job in self.jobs if job.seconds), Seconds())

    @property
    def one_after_another(self) -> Seconds:
        """Time of the known jobs, each alone."""
        return sum((job.seconds for job in self.jobs if job.seconds), Seconds())

    @property
    def longest_path(self) -> list[Job]:
        """The jobs that wait for each other longest, if none waits for a GPU: a training and then an evaluation."""
        chains = [[job for job in (training, last) if job] for training, last in self._by_run()]
        return max(chains, key=lambda chain: sum(job.seconds.likely for job in chain if job.seconds), default=[])

    def _by_run(self) -> Iterator[tuple[Job | None, Job | None]]:
        """The training and the longest evaluation of each run."""
        runs: dict[str, list[Job]] = {}
        for job in self.known:
            runs.setdefault(job.run, []).append(job)
        for jobs in runs.values():
            training = next((job for job in jobs if job.kind is Kind.TRAINING), None)
            evaluations = [job for job in jobs if job.kind is Kind.EVALUATION]
            yield training, max(evaluations, key=lambda job: job.seconds.likely if job.seconds else 0, default=None)


def estimate(
    plan: Plan, planned: Collection[str], own: Iterable[Measurement], others: Iterable[Measurement]
) -> Estimate:
    """What making the `planned` targets takes, by measurements of this experiment (`own`) and of others."""
    return Judge(plan, list(own), list(others)).estimate(planned)


def judge_of(plan: Plan) -> Judge:
    """Judges by all that is known here: the records of the plan's experiment, and the store."""
    return Judge(plan, *all_known(plan))


class Judge:
    """Judges jobs by those that are most like them; of those as alike, by this experiment's; else by their size."""

    def __init__(self, plan: Plan, own: list[Measurement], others: list[Measurement]) -> None:
        self._sources = {Source.OWN: _by_likeness(own), Source.OTHERS: _by_likeness(others)}
        self._plan, self._sizes = plan, Sizes(plan)
        self._jobs: dict[str, Job] = {}
        # Most jobs of a plan are alike.
        self._each = cache(self._seconds_each)
        # The one used last, None if all ran without one: which one a job gets is known only when it runs.
        known = [*others, *own]
        self._gpu = next((one.gpu for one in reversed(known) if one.gpus), None if known else "")

    def estimate(self, planned: Collection[str]) -> Estimate:
        """What making these targets takes."""
        rows = [row for row in self._plan.rows() if row.path in planned]
        targets = [(row.subject, self._plan[row.path]) for row in rows if row.path]
        return Estimate([self.job(subject, target) for subject, target in targets if not target.restored])

    def job(self, subject: str, target: Target) -> Job:
        """A job with its time, if that can be judged."""
        if target.path not in self._jobs:
            self._jobs[target.path] = self._judged(target)
        return replace(self._jobs[target.path], subject=subject)

    def _judged(self, target: Target) -> Job:
        subject = target.path
        run, _ = paths.target_of(target.path)
        amount, epochs = self._sizes.planned(target), epochs_of(target.kind, target.config)
        for key, wider in zip(likeness(target.kind, target.config), _WIDER[target.kind], strict=True):
            for source, by_key in self._sources.items():
                if found := self._each(source, key, amount, wider):
                    had = max(one.gpus for one in by_key[key])
                    gpus = self._gpus(run, target, had)
                    # GPUs that share a training take as many GPU-seconds as one.
                    share = had / gpus if gpus else 1
                    return Job(subject, run, target.kind, gpus, found.times(epochs * share), source)
        return self._guessed(subject, run, target, amount * epochs)

    def _seconds_each(self, source: Source, key: str, amount: int, wider: tuple[float, float]) -> Seconds | None:
        return _seconds_each(self._sources[source].get(key, []), amount, wider)

    def _guessed(self, subject: str, run: str, target: Target, tokens: int) -> Job:
        """A job unlike any that was measured; what an evaluation generates is not known before."""
        is_cpu = mapping(target.config.get("hyperparameters")).get("device") == "cpu" or self._gpu is None
        model = self._plan.experiment.run_by_name[run].model.path
        seconds = guess(model, tokens, None if is_cpu else self._gpu) if target.kind is Kind.TRAINING else None
        gpus = self._gpus(run, target, int(not is_cpu))
        return Job(subject, run, target.kind, gpus, seconds and seconds.times(1 / max(gpus, 1)), Source.SIZE)

    def _gpus(self, run: str, target: Target, usual: int) -> int:
        """GPUs of a job: those that a training asks for, else as many as usual."""
        compute = self._plan.experiment.run_by_name[run].compute
        is_given = compute and compute.gpus and target.kind is Kind.TRAINING
        return compute.devices if usual and compute and is_given else usual


def _seconds_each(likes: Sequence[Measurement], amount: int, wider: tuple[float, float]) -> Seconds | None:
    """Time of an epoch of a job, or of an evaluation, of such an amount; None if the others say nothing of it."""
    known = [one for one in likes if amount and one.amount]
    each = [one.seconds_each * amount / one.amount for one in known] or [one.seconds_each for one in likes]
    factor = wider[0] if known else wider[1]
    if not each or factor == math.inf:
        return None
    return Seconds(median(each), min(each) / factor, max(each) * factor)


def _by_likeness(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for one in measurements:
        for key in one.likeness:
            found.setdefault(key, []).append(one)
    return found
