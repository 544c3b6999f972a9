"""Where scripts that run nvidia-smi themselves write its samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.jobscripts.own_samples import sample_files, samples_itself

QUERY = "nvidia-smi --query-gpu=timestamp,utilization.gpu \\\n    --format=csv -l 30"


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (
            f'GPU_DIR="/x/r4/artifacts/epoch_0"\n{QUERY} > "${{GPU_DIR}}/gpu.csv" 2>/dev/null &\n',
            ["/x/r4/artifacts/epoch_0/gpu.csv"],
        ),
        (f"{QUERY} > /x//a/gpu.csv 2>/dev/null &\nPID=$!\n", ["/x/a/gpu.csv"]),
        (f"cd eval\n{QUERY} >>gpu.csv &\n", ["DIR/eval/gpu.csv"]),
        (f"{QUERY} -f smi.csv &\n", ["DIR/smi.csv"]),
        (f"/usr/bin/{QUERY} --filename=smi.csv &\n", ["DIR/smi.csv"]),
        (f"{QUERY} 1> smi.csv &\n", ["DIR/smi.csv"]),
        (f"PATH=/x:$PATH nohup {QUERY} > smi.csv &\n", ["DIR/smi.csv"]),
        (f"{QUERY} > $(date).csv &\n", []),
        (f"{QUERY} > /dev/null\n", []),
        ("# nvidia-smi > smi.csv\npython train.py > out\n", []),
    ],
)
def test_files_of_samples(tmp_path: Path, text: str, files: list[str]) -> None:
    found = sample_files(f"#!/bin/bash\n{text}", {"PWD": str(tmp_path)})
    assert [str(path) for path in found] == [file.replace("DIR", str(tmp_path)) for file in files]


def test_a_script_that_samples_itself_is_known() -> None:
    assert samples_itself("set -e\nnvidia-smi --query-gpu=power.draw --format=csv -l 30 > m.csv &\n")
    assert samples_itself("/usr/bin/nvidia-smi dmon #x\n")
    assert not samples_itself("# nvidia-smi -l\npython train.py  # no nvidia-smi\n")
