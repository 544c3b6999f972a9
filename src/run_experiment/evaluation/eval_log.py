"""inspect-ai logs: what an evaluation came to."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.secret_values import without_secrets
from run_experiment.common.text import counted
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.settings import log_settings

if TYPE_CHECKING:
    from run_experiment.evaluation.log_file import Header, Results, Score, Summary

# Metrics of inspect-ai that are computed from numbers.
_OF_NUMBERS = frozenset({"accuracy", "mean", "std", "stderr", "var", "bootstrap_stderr"})
# What inspect-ai's metrics take for numbers.
_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
# Styles that inspect-ai writes into messages for the terminal; other brackets are part of the text.
_STYLE = "bold|dim|italic|underline|black|red|green|yellow|blue|magenta|cyan|white"
_MARKUP = re.compile(rf"\[/?(?:{_STYLE})(?: (?:{_STYLE}))*\]|\[/\]")


@dataclass(frozen=True)
class EvalOutcome:
    """What a log says. Metrics are named `{scorer}/{metric}`; None where they are not a number.

    `{scorer}/{key}/{metric}` for scores with keys, `{scorer}@{reducer}/{metric}` where there are several reducers.
    `seed` is that of sampled answers, None without one.
    Times are ISO 8601, empty if unknown; `completed_samples` are those without an error, `scored_samples` those that
    have a value, by what metrics' names begin with; empty if the log does not have its samples. With
    `tolerant` the task itself allows samples with errors; `left_out` are samples that it decided not to compute.
    `settings` are those that it ran with, `vllm_version` is that of the server that answered, empty without one.
    """

    status: str
    error: str | None
    completed_samples: int
    total_samples: int
    metrics: Mapping[str, float | None]
    model: str
    started: str
    completed: str
    inspect_version: str
    seed: int | None = None
    scored_samples: Mapping[str, int] = field(default_factory=dict)
    tolerant: bool = False
    left_out: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    vllm_version: str = ""


def load_reader() -> None:
    """Import what reads logs: this takes a tenth of a second of CPU time."""
    from run_experiment.evaluation import log_file  # noqa: F401


def read_outcome(path: Path) -> EvalOutcome:
    """Read what an evaluation came to from its log. Raises EvalError for a missing or torn file."""
    # Here, since a job starts faster without pydantic.
    from run_experiment.evaluation.log_file import read_header, read_summaries

    log, samples = read_header(path), read_summaries(path)
    completed, total = _sample_counts(log, samples)
    return EvalOutcome(
        status=log.status,
        error=_error(log, samples),
        completed_samples=completed,
        total_samples=total,
        metrics=_metrics(log.results, samples) if log.results else {},
        model=log.eval.model,
        started=log.stats.started_at or log.eval.created,
        completed=log.stats.completed_at,
        inspect_version=log.eval.packages.get("inspect_ai", ""),
        seed=log.eval.model_generate_config.get("seed"),
        scored_samples=_scored(log, samples),
        tolerant=log.eval.config.get("fail_on_error") not in (None, True),
        left_out=_left_out(log),
        settings=log_settings(log.eval),
        vllm_version=str(log.eval.model_args.get("vllm_version", "")),
    )


def require_success(outcome: EvalOutcome) -> None:
    """Raise EvalError unless an evaluation finished with all of its samples, or with as many as its task demands."""
    count = counted(outcome.completed_samples, "sample", of=outcome.total_samples)
    reason = f": {outcome.error}" if outcome.error else ""
    if outcome.status != "success":
        raise EvalError(f"evaluation ended with status {outcome.status} after {count}{reason}")
    if outcome.total_samples == outcome.left_out:
        raise EvalError("evaluation had no samples")
    enough = outcome.tolerant and outcome.completed_samples > 0
    if outcome.completed_samples + outcome.left_out < outcome.total_samples and not enough:
        raise EvalError(f"evaluation completed only {count}{reason}")


def number(value: Any) -> float | None:
    """A score as inspect-ai's metrics count it; None if it is none: unscored, not a number, or a list."""
    if isinstance(value, str):
        known = _WORDS.get(value, _WORDS.get(value.lower()) if len(value) > 1 else None)
        if known is not None:
            return known
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _sample_counts(log: Header, samples: list[Summary]) -> tuple[int, int]:
    # Those of a log that was recovered only count the samples that it has.
    if log.results and log.status == "success":
        return log.results.completed_samples, log.results.total_samples
    dataset = log.eval.dataset
    chosen = len(dataset.sample_ids) if dataset.sample_ids else dataset.samples or 0
    completed = sum(sample.completed and not sample.error for sample in samples)
    return completed, chosen * (log.eval.config.get("epochs") or 1)


def _left_out(log: Header) -> int:
    stopping = log.results.early_stopping if log.results else None
    return len(stopping.early_stops) if stopping else 0


def _scored(log: Header, samples: list[Summary]) -> dict[str, int]:
    """How many samples have a value, by the names that metrics begin with.

    inspect-ai leaves the others out of a metric, and of several epochs of a sample it counts one. A failed sample that
    was scored (the task's `score_on_error`, or by a scorer before another one failed) is in the metric.
    """
    if not samples or not log.results:
        return {}
    return {
        name: sum(_has_value(sample, score) for sample in samples) for name, score in _named_scores(log.results).items()
    }


def _has_value(sample: Summary, score: Score) -> bool:
    value = _value(sample, score)
    if isinstance(value, Mapping):
        value = list(value.values())
    values = value if isinstance(value, list) else [value]
    return not any(one is None or (isinstance(one, float) and math.isnan(one)) for one in values)


def _value(sample: Summary, score: Score) -> Any:
    """What a sample got of a score, or of its key; None if nothing."""
    given = (sample.scores or {}).get(score.scorer)
    value = None if given is None else given.value
    return value[score.name] if isinstance(value, Mapping) and score.name in value else value


def _error(log: Header, samples: list[Summary]) -> str | None:
    """First line of the error and last line of its traceback, of the first failed sample where the log has none."""
    if log.error is None:
        return next((f"sample {item.id}: {_first_line(item.error)}" for item in samples if item.error), None)
    first = _first_line(log.error.message)
    last = _first_line(log.error.traceback.strip().rpartition("\n")[2])
    return first if last in ("", first) else f"{first} ({last})"


def _first_line(text: str) -> str:
    """The first line as it may be recorded: without secrets and without the markup that inspect-ai's display uses."""
    return _MARKUP.sub("", without_secrets(text).strip().partition("\n")[0].strip())


def _metrics(results: Results, samples: list[Summary]) -> dict[str, float | None]:
    return {
        f"{name}/{key}": None if key in _OF_NUMBERS and not counts else _finite(metric.value)
        for name, score in _named_scores(results).items()
        for counts in [_counts(samples, score)]
        for key, metric in score.metrics.items()
    }


def _counts(samples: list[Summary], score: Score) -> bool:
    """Whether the mean of a score means something: inspect-ai counts texts and lists as 0.

    Metrics that are not 0 have been given a conversion of the task's own.
    """
    given = [value for sample in samples if (value := _value(sample, score)) is not None]
    is_zero = all(metric.value == 0 for key, metric in score.metrics.items() if key in _OF_NUMBERS)
    return not (given and is_zero) or any(number(value) is not None for value in given)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _named_scores(results: Results) -> dict[str, Score]:
    """Scores by the name that their metrics begin with."""
    reducers = Counter((score.scorer, score.name) for score in results.scores)
    named = {}
    for score in results.scores:
        name = score.scorer
        if score.reducer and reducers[score.scorer, score.name] > 1:
            name = f"{name}@{score.reducer}"
        named[name if score.name == score.scorer else f"{name}/{score.name}"] = score
    return named
