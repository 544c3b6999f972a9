"""A cluster of shims."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_shims import Cluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Cluster(folder, monkeypatch)
