"""`run-experiment status` only looks, at torn and at changing files too, once or again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_small_experiment, train, verify_all
from status_cases import TRAIN_R4, fail, snapshot, states, submit

from run_experiment.cli import main
from run_experiment.common.experiment_lock import claim, observe
from run_experiment.inputs.file_hashes import file_hash


def test_nothing_is_written(done: ExperimentFolder, status: Callable[..., Any]) -> None:
    submit(done, TRAIN_R4, "tiny.r4", "41")
    claim(done.path, observe(done.path)).release()
    done.set_parameters("r8", lr=0.001)
    before = snapshot(done.path)
    status(done)
    status(done, "--missing", exit_status=3)
    assert snapshot(done.path) == before


def test_a_folder_that_may_only_be_read() -> None:
    with tempfile.TemporaryDirectory() as place:
        experiment = make_small_experiment(Path(place) / "experiment")
        train(experiment, "r4", seed=0)
        train(experiment, "r8", seed=10)
        verify_all(experiment)
        for path in [Path(place), *Path(place).rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        # To root nothing is forbidden; and Python may lie where nobody else may read, so first it loads all it needs.
        drop = "os.setuid(65534)" if os.getuid() == 0 else "pass"
        look = f"main(['status', {str(experiment.path)!r}])"
        code = "import contextlib, io, os, sys\nfrom run_experiment.cli import main\n"
        code += f"with contextlib.redirect_stdout(io.StringIO()): {look}\n"
        code += f"{drop}\nassert not os.access({str(experiment.path)!r}, os.W_OK)\nsys.exit({look})"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        for path in [Path(place), *Path(place).rglob("*")]:
            path.chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert "r4     done" in result.stdout


def test_hashes_of_verified_checkpoints_are_taken_from_their_manifests_unless_they_changed(
    done: ExperimentFolder, status: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return file_hash(path)

    monkeypatch.setattr("run_experiment.inputs.file_hashes.file_hash", reading)
    for path in sorted((done.path / "r4/checkpoints").glob("*.json")):
        path.touch()
    assert states(status(done))["r4/epoch_1"] == "done"
    assert not [path for path in read if path.parts[-4:-2] == ("r4", "artifacts")]
    weights = done.path / "r4/artifacts/epoch_1/adapter_model.safetensors"
    stat, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    time.sleep(0.02)
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert states(status(done))["r4/epoch_1"] == "stale"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\0\0\0", '{"target": "finetune"}'])
def test_torn_records_are_no_reason_to_fail(done: ExperimentFolder, text: str) -> None:
    fail(done, TRAIN_R4)
    submit(done, TRAIN_R4, "tiny.r4", "41")
    claim(done.path, observe(done.path)).release()
    paths = [path for path in done.path.rglob("*.json*") if "/artifacts/" not in str(path) and path.stem != "words"]
    paths = [path for path in paths if not path.parts[-2].startswith(("epoch_", "given"))]
    assert len(paths) > 10
    for path in paths:
        whole = path.read_bytes()
        path.write_text(text)
        assert main(["status", str(done.path)]) == 0, path
        path.write_bytes(whole)


def test_a_bad_folder_and_a_bad_summary(new: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(new.path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"{new.path}/nowhere: there is no such folder\n"
    values = new.read()
    values["runs"][0]["parameters"] = {"lora_ranc": 4}
    new.write(values)
    assert main(["status", str(new.path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "unknown key; did you mean lora_rank?" in error


@pytest.fixture
def watching(new: ExperimentFolder) -> Iterator[subprocess.Popen[str]]:
    claimed = claim(new.path, observe(new.path))
    arguments = ["status", str(new.path), "--json", "--watch", "1"]
    code = f"import sys; from run_experiment.cli import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    with suppress(ValueError):
        claimed.release()


def test_watching_ends_with_ctrl_c_and_not_with_an_edit(new: ExperimentFolder, watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
    assert lines[0]["time"] < lines[1]["time"]
    whole = new.summary.read_text()
    new.summary.write_text("runs: [")
    time.sleep(1.5)
    new.summary.write_text(whole)
    lines.append(json.loads(watching.stdout.readline()))
    assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0


def test_watching_ends_where_there_is_nothing_to_wait_for(
    new: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(new.path), "--watch", "--missing"]) == 3
    assert capsys.readouterr().out.endswith("Nothing is running any more.\n")
