"""inspect-ai logs: what an evaluation came to. Needs inspect-ai where a log is read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.common.secret_values import without_secrets

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSampleSummary

# Styles that inspect-ai writes into messages for the terminal; other brackets are part of the text.
_STYLE = "bold|dim|italic|underline|black|red|green|yellow|blue|magenta|cyan|white"
_MARKUP = re.compile(rf"\[/?(?:{_STYLE})(?: (?:{_STYLE}))*\]|\[/\]")


class EvalError(Exception):
    """An evaluation did not succeed, or its log cannot be read; the message says why."""


@dataclass(frozen=True)
class EvalOutcome:
    """What a log says. Metrics are named `{scorer}/{metric}`; None where they are not a number.

    `{scorer}/{key}/{metric}` for scores with keys, `{scorer}@{reducer}/{metric}` where there are several reducers.
    `limited` says that only a part of the data set was chosen, `seed` is that of sampled answers, None without one.
    Times are ISO 8601, empty where unknown; `completed_samples` are those without an error.
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
    limited: bool
    seed: int | None = None


def read_outcome(path: Path) -> EvalOutcome:
    """Read what an evaluation came to from its log. Raises EvalError for a missing or torn file."""
    from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries

    try:
        log = read_eval_log(str(path), header_only=True)
        samples = read_eval_log_sample_summaries(str(path))
    # A torn file fails in the reader's zip, zlib, JSON or pydantic layer, each with an exception of its own.
    except Exception as error:
        raise EvalError(f"cannot read {path}: {error}") from error
    completed, total = _sample_counts(log, samples)
    return EvalOutcome(
        status=log.status,
        error=_error(log, samples),
        completed_samples=completed,
        total_samples=total,
        metrics=_metrics(log.results) if log.results else {},
        model=log.eval.model,
        started=log.stats.started_at or log.eval.created,
        completed=log.stats.completed_at,
        inspect_version=log.eval.packages.get("inspect_ai", ""),
        limited=log.eval.config.limit is not None or log.eval.config.sample_id is not None,
        seed=log.eval.model_generate_config.seed,
    )


def require_success(outcome: EvalOutcome) -> None:
    """Raise EvalError unless an evaluation finished with all of its samples and without an error."""
    count = f"{outcome.completed_samples} of {outcome.total_samples} samples"
    reason = f": {outcome.error}" if outcome.error else ""
    if outcome.status != "success":
        raise EvalError(f"evaluation ended with status {outcome.status} after {count}{reason}")
    if outcome.total_samples == 0:
        raise EvalError("evaluation had no samples")
    if outcome.completed_samples < outcome.total_samples:
        raise EvalError(f"evaluation completed only {count}{reason}")


def _sample_counts(log: EvalLog, samples: list[EvalSampleSummary]) -> tuple[int, int]:
    # Those of a log that was recovered only count the samples that it has.
    if log.results and log.status == "success":
        return log.results.completed_samples, log.results.total_samples
    dataset = log.eval.dataset
    chosen = len(dataset.sample_ids) if dataset.sample_ids else dataset.samples or 0
    completed = sum(sample.completed and not sample.error for sample in samples)
    return completed, chosen * (log.eval.config.epochs or 1)


def _error(log: EvalLog, samples: list[EvalSampleSummary]) -> str | None:
    """First line of the error and last line of its traceback, of the first failed sample where the log has none."""
    if log.error is None:
        return next((f"sample {item.id}: {_first_line(item.error)}" for item in samples if item.error), None)
    first = _first_line(log.error.message)
    last = _first_line(log.error.traceback.strip().rpartition("\n")[2])
    return first if last in ("", first) else f"{first} ({last})"


def _first_line(text: str) -> str:
    """The first line as it may be recorded: without secrets and without the markup that inspect-ai's display uses."""
    return _MARKUP.sub("", without_secrets(text).strip().partition("\n")[0].strip())


def _metrics(results: EvalResults) -> dict[str, float | None]:
    reducers = Counter((score.scorer, score.name) for score in results.scores)
    metrics: dict[str, float | None] = {}
    for score in results.scores:
        scorer = score.scorer
        if score.reducer and reducers[score.scorer, score.name] > 1:
            scorer = f"{scorer}@{score.reducer}"
        if score.name != score.scorer:
            scorer = f"{scorer}/{score.name}"
        for name, metric in score.metrics.items():
            metrics[f"{scorer}/{name}"] = float(metric.value) if math.isfinite(metric.value) else None
    return metrics
