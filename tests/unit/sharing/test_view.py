"""`run-experiment view`: inspect-ai's own viewer shows the logs of the results, and no other."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from finished_log import make_log
from small_experiment import make_small_experiment, plan_of

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.planning.results_state import Records
from run_experiment.sharing.view import HOST, PORT, ShownLogs, result_logs

# Seconds until the viewer answers on a full machine.
PATIENCE = 120.0


@pytest.fixture
def port() -> int:
    """A port that nobody uses."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        number: int = one.getsockname()[1]
        return number


def get(port: int, path: str, viewer: subprocess.Popen[str]) -> Any:
    """What the viewer answers, as soon as it does."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE) as answer:
                return json.load(answer)
        except OSError:
            assert viewer.poll() is None, viewer.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture
def viewer(done: ExperimentFolder, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The viewer of an experiment with a failed attempt and an outdated result beside the results."""
    (done.path / "r4/attempts/17").mkdir(parents=True)
    template = tmp_path / "template.eval"
    make_log(done.path, template)
    for place in [*done.path.glob("*/eval/logs/*.eval"), done.path / "r4/attempts/17/shout_epoch0.eval"]:
        place.write_bytes(template.read_bytes())
    done.set_parameters("r8", lr=0.5)
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    command = ["run-experiment", "view", str(done.path), "--port", str(port)]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    yield viewer
    viewer.terminate()
    viewer.communicate(timeout=PATIENCE)


def test_the_viewer_lists_the_logs_of_the_results_until_ctrl_c(
    done: ExperimentFolder, port: int, viewer: subprocess.Popen[str]
) -> None:
    found = get(port, "/api/log-files", viewer)["files"]
    names = sorted("/".join(Path(one["name"]).parts[-2:]) for one in found)
    assert names == ["base/shout_base.eval", "given/shout_base.eval", "r4/shout_epoch0.eval", "r4/shout_epoch1.eval"]
    served = Path(found[0]["name"].removeprefix("file://")).parents[1]
    log = get(port, f"/api/logs/{found[0]['name']}?header-only=1", viewer)
    assert log["eval"]["task"] == "shout"
    # The viewer may edit what it shows, which must not be the logs of the results.
    own = done.path / paths.eval_log("r4", "shout_epoch0")
    assert not (served / "r4/shout_epoch0.eval").samefile(own)
    assert (served / "r4/shout_epoch0.eval").read_bytes() == own.read_bytes()
    viewer.send_signal(signal.SIGINT)
    output = viewer.communicate(timeout=PATIENCE)[0]
    assert viewer.returncode == 0
    assert f"4 logs of tiny: http://{HOST}:{port}. Ctrl-C ends this." in output
    assert "Traceback" not in output
    assert not served.exists()


def test_logs_that_are_new_or_made_again_are_shown_without_a_restart(tmp_path: Path) -> None:
    one, other = tmp_path / "one.eval", tmp_path / "other.eval"
    one.write_text("first")
    other.write_text("other")
    shown = ShownLogs(tmp_path / "shown")
    shown.folder.mkdir()
    shown.update({"r4/one.eval": one})
    copied = shown.folder / "r4/one.eval"
    copied.write_text("edited in the viewer")
    shown.update({"r4/one.eval": one, "r4/other.eval": other})
    assert copied.read_text() == "edited in the viewer"
    assert one.read_text() == "first"
    assert (shown.folder / "r4/other.eval").read_text() == "other"
    one.write_text("again")
    os.utime(one, ns=(0, 0))
    shown.update({"r4/one.eval": one})
    assert copied.read_text() == "again"
    assert [path.name for path in copied.parent.iterdir()] == ["one.eval"]


def test_results_whose_log_is_gone_are_left_out(done: ExperimentFolder) -> None:
    (done.path / paths.eval_log("r4", "shout_epoch0")).unlink()
    names = list(result_logs(Records(plan_of(done))))
    assert names == ["r4/shout_epoch1.eval", "r8/shout_epoch1.eval", "base/shout_base.eval", "given/shout_base.eval"]


def test_before_the_first_evaluation_there_is_nothing_to_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    assert main(["view", str(experiment.path)]) == 2
    said = capsys.readouterr().err
    assert "no evaluation is done yet, so there is no log to show." in said
    assert f"run-experiment status {experiment.path}" in said


def test_a_port_that_is_in_use_is_refused(done: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        assert main(["view", str(done.path), "--port", str(taken)]) == 2
    said = capsys.readouterr().err
    assert re.search(rf"Port {taken} of {HOST} cannot be used \(.+\): choose another one, --port N", said)


def test_without_inspect_ai_the_command_says_what_to_install(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["view", str(done.path), "--port", str(PORT)]) == 2
    assert "pip install inspect-ai" in capsys.readouterr().err
