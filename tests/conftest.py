"""What all tests share: this environment's tools first on PATH, and no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from once import begin_test_run

os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests run side by side: torch's threads would only get in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
begin_test_run()
