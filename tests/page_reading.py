"""What a page has: its block of data."""

from __future__ import annotations

import json
import re
from typing import Any

from experiments import ExperimentFolder

from run_experiment.common import paths


def data_of(experiment: ExperimentFolder) -> dict[str, Any]:
    """The data in an experiment's page."""
    text = (experiment.path / paths.REPORT).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data
