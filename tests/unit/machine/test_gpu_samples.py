"""Samples of the GPUs of a job, taken with a stand-in for nvidia-smi on PATH, and what they come to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_experiment.machine.gpu_samples import GpuSummary, last_sample, sampling, summarize

HEADER = "timestamp,index,utilization_gpu_percent,memory_used_mib,memory_total_mib,power_draw_w,temperature_c"
TWO_GPUS = "0, 93, 30123, 81559, 350.12, 61\n1, 7, 1000, 81559, [N/A], 40\n"
NOTHING = GpuSummary(0, 0, None, None, None, None, None)

Shim = Callable[[str], Path]


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """Put a script in the place of nvidia-smi; it writes its arguments to `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(commands: str) -> Path:
        calls = tmp_path / "calls"
        script = folder / "nvidia-smi"
        script.write_text(f'#!/bin/bash\necho "$@" >> {calls}\n{commands}\n')
        script.chmod(0o755)
        return calls

    return install


def printing(output: str) -> str:
    return f"cat <<'END'\n{output}END"


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def rows(path: Path) -> list[str]:
    """The file's lines without their timestamps."""
    return [line.partition(",")[2] for line in path.read_text().splitlines()]


def test_the_last_sample(tmp_path: Path) -> None:
    path = tmp_path / "gpu_metrics.csv"
    with pytest.raises(FileNotFoundError):
        last_sample(path)
    path.write_text(f"{HEADER}\n")
    assert last_sample(path) == []
    lines = [f"2025-01-31T10:00:{second}+00:00,{gpu},{second},1,2,3,4\n" for second in (10, 40) for gpu in (0, 1)]
    path.write_text("".join([f"{HEADER}\n", *lines, "2025-01-31T10:01:10+00:00,0,9"]))
    assert [(reading.utilization, reading.used, reading.power) for reading in last_sample(path)] == [(40, 1, 3)] * 2


def test_a_sample_at_once_and_then_every_interval(shim: Shim, tmp_path: Path) -> None:
    shim(printing(TWO_GPUS))
    path = tmp_path / "artifacts" / "gpu_metrics.csv"
    with sampling(path, interval=0.15):
        wait_for(lambda: path.exists() and len(rows(path)) >= 7)
    header, first, second, *_ = path.read_text().splitlines()
    assert header == HEADER
    assert first.partition(",")[2] == "0,93,30123,81559,350.12,61"
    assert second.partition(",")[2] == "1,7,1000,81559,,40"
    assert first.partition(",")[0] == second.partition(",")[0]
    found = summarize(path)
    assert found.samples >= 3
    assert (found.gpus, found.mean_utilization, found.max_utilization) == (2, 50, 93)
    assert (found.peak_memory_mib, found.total_memory_mib) == (31123, 163118)
    assert found.mean_power_w == pytest.approx(350.12)


def test_the_shortest_job_has_a_sample(shim: Shim, tmp_path: Path) -> None:
    shim(printing(TWO_GPUS))
    with sampling(tmp_path / "m.csv"):
        pass
    assert len(rows(tmp_path / "m.csv")) == 3


def test_what_an_earlier_job_left_is_not_taken_for_this_one(shim: Shim, tmp_path: Path) -> None:
    shim("exit 9")
    (tmp_path / "m.csv").write_text("old")
    with sampling(tmp_path / "m.csv"):
        pass
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize(
    ("visible", "asked"),
    [
        (None, None),
        ("0", "0"),
        ("2,3", "2,3"),
        ("GPU-8932f937-d72c,1", "GPU-8932f937-d72c,1"),
        ("1,-1,0", "1"),
        ("MIG-aaa", "GPU-111"),
        ("MIG-aaa,MIG-ccc,MIG-bbb", "GPU-111,GPU-222"),
    ],
)
def test_only_the_gpus_of_the_job_are_asked_for(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, asked: str | None
) -> None:
    listing = (
        "GPU 0: NVIDIA A100 (UUID: GPU-111)\n  MIG 1g.5gb  Device 0: (UUID: MIG-aaa)\n"
        "  MIG 1g.5gb  Device 1: (UUID: MIG-bbb)\nGPU 1: NVIDIA A100 (UUID: GPU-222)\n"
        "  MIG 1g.5gb  Device 0: (UUID: MIG-ccc)\n"
    )
    calls = shim(f'if [ "$1" = -L ]; then {printing(listing)}\nexit; fi\n{printing(TWO_GPUS)}')
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with sampling(tmp_path / "m.csv"):
        wait_for(calls.exists)
    call = next(line for line in calls.read_text().splitlines() if line != "-L")
    assert [word for word in call.split() if word.startswith("--id")] == ([f"--id={asked}"] if asked else [])


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "MIG-unknown", "0; rm -rf /"])
def test_a_job_without_gpus_is_not_sampled(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    shim(printing(TWO_GPUS))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with sampling(tmp_path / "m.csv"):
        time.sleep(0.1)
    assert not (tmp_path / "m.csv").exists()


def test_mig_figures_are_unknown_not_zero(shim: Shim, tmp_path: Path) -> None:
    shim(printing("0, [N/A], [Not Supported], 40960, [Unknown Error], ERR!\n"))
    with sampling(tmp_path / "m.csv"):
        pass
    assert rows(tmp_path / "m.csv")[1] == "0,,,40960,,"
    assert summarize(tmp_path / "m.csv") == GpuSummary(1, 1, None, None, None, 40960, None)


@pytest.mark.parametrize(
    "commands",
    [
        "exit 9",
        printing(TWO_GPUS) + "\nexit 1",
        "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'",
        "head -c 3000 /dev/urandom",
        "sleep 60",
        "trap '' TERM INT; sleep 60 & wait",
        "kill -9 $$",
    ],
)
def test_a_bad_nvidia_smi_writes_nothing_and_delays_nobody(
    shim: Shim, tmp_path: Path, commands: str, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = shim(commands)
    with sampling(tmp_path / "m.csv", interval=0.05):
        wait_for(calls.exists)
        end = time.monotonic()
    assert time.monotonic() - end < 1.2
    assert not (tmp_path / "m.csv").exists()
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_of_a_hanging_nvidia_smi(shim: Shim, tmp_path: Path) -> None:
    shim(f"sleep 60 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; wait")
    with sampling(tmp_path / "m.csv"):
        wait_for((tmp_path / "pid").exists)
    process = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    wait_for(lambda: not process.exists() or ") Z " in process.read_text())


def test_without_nvidia_smi_nothing_is_written_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with sampling(tmp_path / "m.csv", interval=0.01):
        time.sleep(0.05)
    assert not (tmp_path / "m.csv").exists()
    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_written_disturbs_nothing(shim: Shim, tmp_path: Path) -> None:
    shim(printing(TWO_GPUS))
    (tmp_path / "file").write_text("")
    with sampling(tmp_path / "file" / "m.csv"):
        time.sleep(0.1)
    assert (tmp_path / "file").read_text() == ""


def test_the_jobs_own_error_comes_through(shim: Shim, tmp_path: Path) -> None:
    shim(printing(TWO_GPUS))
    with pytest.raises(KeyError, match="the job's"), sampling(tmp_path / "m.csv"):
        raise KeyError("the job's")


RAW_HEADER = (
    "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], "
    "power.draw [W], temperature.gpu\n"
)


def raw(tmp_path: Path, text: str) -> GpuSummary:
    path = tmp_path / "raw.csv"
    path.write_bytes(text.encode())
    return summarize(path)


def test_the_csv_of_nvidia_smi_itself(tmp_path: Path) -> None:
    found = raw(
        tmp_path,
        RAW_HEADER
        + "2024/05/01 12:00:00.998, 90 %, 40 %, 30000 MiB, 81559 MiB, 300.00 W, 60\n"
        + "2024/05/01 12:00:01.003, 10 %, 5 %, 10000 MiB, 81559 MiB, [N/A], 40\n"
        + "2024/05/01 12:00:31.000, 100 %, 40 %, 30123 MiB, 81559 MiB, 400.00 W, 61\n"
        + "2024/05/01 12:00:31.005, 0 %, 5 %, 9000 MiB, 81559 MiB, 200.00 W, 40\n"
        + "2024/05/01 12:01:01.000, 100 %, 40 %, 99",
    )
    assert found == GpuSummary(2, 2, 50, 100, 40000, 163118, 300)


def test_memory_of_a_sample_is_unknown_where_that_of_one_gpu_is(tmp_path: Path) -> None:
    found = raw(
        tmp_path,
        RAW_HEADER
        + "2024/05/01 12:00:00.000, 90 %, 40 %, 30000 MiB, 81559 MiB, 300.00 W, 60\n"
        + "2024/05/01 12:00:00.003, [N/A], [N/A], [N/A], 81559 MiB, [N/A], 40\n",
    )
    assert found == GpuSummary(2, 1, 90, 90, None, 163118, 300)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "timestamp, utiliz",
        RAW_HEADER,
        RAW_HEADER + RAW_HEADER,
        RAW_HEADER + "2024/05/01 12:00:00.000, 1 %, 1 %, 1 MiB, 1 MiB, 1 W, 6",
        RAW_HEADER + "2024/05/01 12:00:00.000, 1 %\n\n, , , , , , \n",
        "\0\0,\n\0,\n",
        "NVIDIA-SMI has failed\nsorry\n",
    ],
)
def test_a_file_without_a_whole_row_says_nothing(tmp_path: Path, text: str) -> None:
    assert raw(tmp_path, text) == NOTHING


CELLS = st.sampled_from(["timestamp", "2024-05-01T12:00:00", "0001-01-01", "2024/05/01 12:00:00.000", "9" * 400, "-1"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(CELLS, st.text(max_size=9)), max_size=12))
def test_any_file_can_be_read(tmp_path: Path, cells: list[str]) -> None:
    lines = [HEADER, "2024-05-01T12:00:00+02:00,0,1,2,3,4,5", *[f"{cell},0,{cell},2,{cell},4,5" for cell in cells]]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    assert summarize(tmp_path / "m.csv").samples >= 1


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        summarize(tmp_path / "no.csv")
