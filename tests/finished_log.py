"""The log of a finished evaluation, to be copied by `leave_log.py`: a real one costs seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LEAVE_LOG = Path(__file__).with_name("leave_log.py")


def make_log(experiment: Path, target: Path) -> None:
    """Evaluate the task of shout.py on words.json, and leave the log in a form that Python's own zipfile reads."""
    # inspect-ai teaches zipfile the compression of its logs.
    import inspect_ai.log  # noqa: F401

    with tempfile.TemporaryDirectory() as logs:
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["inspect", "eval", "shout.py@shout", "--model", "mockllm/model", "--display", "none"]
        # As rendered scripts say it.
        command += ["-M", "do_sample=false", "--max-tokens", "3"]
        environment = {**os.environ, "PATH": tools, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": logs}
        environment |= {"HF_DATASETS_CACHE": f"{logs}/datasets", "INSPECT_LOG_FORMAT": "eval"}
        run = [*command, "--log-dir", logs, "-T", f"data_path={experiment / 'words.json'}"]
        subprocess.run(run, cwd=experiment, env=environment, check=True, capture_output=True, timeout=120)
        (log,) = Path(logs).glob("*.eval")
        with zipfile.ZipFile(log) as made, zipfile.ZipFile(target, "w") as stored:
            for member in made.namelist():
                # As rendered scripts name the model.
                stored.writestr(member, made.read(member).replace(b"mockllm/model", b"hf/tiny"))
    # It wrote beside the task, too.
    shutil.rmtree(experiment / "__pycache__", ignore_errors=True)
