from __future__ import annotations

from pathlib import Path

import pytest
from good_summary import FILES, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment's folder with all files that the good summary names, and without the summary."""
    for name, text in FILES.items():
        write(tmp_path, name, text)
    return tmp_path
