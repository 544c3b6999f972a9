"""inspect-ai logs with the parts that results are made from: summaries and reductions of their samples."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def sample(name: int | str, value: Any, *, epoch: int = 1, scorer: str = "match", **facts: Any) -> dict[str, Any]:
    """The summary of a sample; without a score if it has an error."""
    scores = {} if "error" in facts else {scorer: {"value": value, "answer": "an answer", "history": []}}
    return {"id": name, "epoch": epoch, "input": f"say {name}", "target": f"T{name}", "scores": scores, **facts}


def samples_of(values: Sequence[Any], **facts: Any) -> list[dict[str, Any]]:
    """Samples 1, 2, … with these scores."""
    return [sample(number, value, **facts) for number, value in enumerate(values, start=1)]


def write_log(path: Path, samples: Sequence[Mapping[str, Any]], reductions: Sequence[Any] | None = None) -> None:
    """Write a log; without reductions if there are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("summaries.json", json.dumps(samples))
        if reductions is not None:
            log.writestr("reductions.json", json.dumps(reductions))
