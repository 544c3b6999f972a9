"""The speed that a running training is expected to have, from measurements alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import median

from run_experiment.common import paths
from run_experiment.estimate.cost import Source
from run_experiment.estimate.likeness import likeness
from run_experiment.estimate.measurements import Measurement, all_known
from run_experiment.estimate.sizes import training_size_now
from run_experiment.planning.plan import Plan

# How many of `likeness` say how fast a step is: all that decides the time, or the same model and settings of speed.
_LIKE = 2


@dataclass(frozen=True)
class Speed:
    """Tokens per second, those that the loss is of, as `source` had them on `gpu` (empty without one)."""

    tokens_per_second: float
    source: Source
    gpu: str


class ExpectedSpeeds:
    """The expected speeds of a plan's trainings; what is needed for them is read when the first is asked for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, target: str) -> Speed | None:
        """The speed of the training that makes a target; None if none like it was measured."""
        run = self._plan.experiment.run_by_name[paths.target_of(target)[0]]
        planned = self._plan[target]
        for key in likeness(planned.kind, planned.config)[:_LIKE]:
            for source, known in self._known.items():
                found = [one for one in known if key in one.likeness and one.tokens_per_second]
                if found and (size := training_size_now(self._plan, run)):
                    speed = median(one.tokens_per_second or 0 for one in found) * size.loss_tokens / size.tokens
                    return Speed(speed, source, found[-1].gpu)
        return None

    @cached_property
    def _known(self) -> dict[Source, list[Measurement]]:
        own, others = all_known(self._plan)
        return {Source.OWN: own, Source.OTHERS: others}
