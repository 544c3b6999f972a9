"""Two jobs never share a folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run_experiment.jobs.checks import make_unused


def test_jobs_of_one_id_make_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: make_unused(tmp_path / "attempts" / "17"), range(64)))
    assert len(set(made)) == 64
