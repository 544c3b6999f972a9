"""Estimates what the jobs of a plan take: each by those that were most like it, with a range and its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from run_experiment.common import paths
from run_experiment.estimate.measurements import Measurement, epochs_of, likeness
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind, Target

# By how much a job may differ from others that are as alike as each of a Measurement's `likeness`.
_WIDER = (1.25, 2.0, 5.0)


@dataclass(frozen=True)
class Seconds:
    """A time in seconds, and the range that it lies in."""

    likely: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        """Both, one after the other."""
        return Seconds(self.likely + other.likely, self.least + other.least, self.most + other.most)

    def after(self, elapsed: float) -> Seconds:
        """What is left of it when so much is over."""
        return Seconds(*(max(0.0, part - elapsed) for part in (self.likely, self.least, self.most)))

    def times(self, factor: float) -> Seconds:
        """As much of it."""
        return Seconds(self.likely * factor, self.least * factor, self.most * factor)


@dataclass(frozen=True)
class Job:
    """A job of the plan that trains or evaluates `run`: its GPUs, how long it will take.

    `seconds` is None if nothing like it was measured; `by_own` is whether jobs of this experiment were.
    """

    subject: str
    run: str
    kind: Kind
    gpus: int = 0
    seconds: Seconds | None = None
    by_own: bool = False


@dataclass(frozen=True)
class Estimate:
    """What the jobs of a plan take."""

    jobs: Sequence[Job]

    @property
    def known(self) -> list[Job]:
        """Jobs like which others were measured."""
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
    sources = (_by_likeness(own), _by_likeness(others))
    rows = [row for row in plan.rows() if row.path in planned]
    targets = [(row.subject, plan[row.path]) for row in rows if row.path]
    return Estimate([_job(subject, target, sources) for subject, target in targets if not target.restored])


def _by_likeness(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for one in measurements:
        for key in one.likeness:
            found.setdefault(key, []).append(one)
    return found


def _job(subject: str, target: Target, sources: Sequence[Mapping[str, list[Measurement]]]) -> Job:
    """A job, judged by those that are most like it; of those as alike, by this experiment's."""
    run, _ = paths.target_of(target.path)
    for key, factor in zip(likeness(target.kind, target.config), _WIDER, strict=True):
        for is_own, source in zip((True, False), sources, strict=True):
            if likes := source.get(key):
                each = [one.seconds_each for one in likes]
                seconds = Seconds(median(each), min(each) / factor, max(each) * factor)
                gpus = max(one.gpus for one in likes)
                return Job(
                    subject, run, target.kind, gpus, seconds.times(epochs_of(target.kind, target.config)), is_own
                )
    return Job(subject, run, target.kind)
