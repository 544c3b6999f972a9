"""What the tests of session logs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from session_logs import Session, plan


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(plan(tmp_path))
