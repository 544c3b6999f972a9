"""CPU time and memory of a process and of all that it started."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from run_experiment.machine.process_usage import Usage, usage_from

# Holds memory in its own process and in a child of a child, both at a time, and computes in the latter.
SCRIPT = """
import json, os, subprocess, sys
from run_experiment.machine.process_usage import counted_usage

HOLD = '''
import time
held = b"x" * (60 * 2**20)
end = time.process_time() + 0.5
while time.process_time() < end: pass
print("held", flush=True)
input()
'''
with counted_usage() as usage:
    shell = ["sh", "-c", 'exec 3<&0; "$0" -c "$1" <&3 & wait $!', sys.executable, HOLD]
    child = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    held = b"x" * (50 * 2**20)
    usage.look()
    child.communicate("\\n")
    del held
    print(json.dumps(usage.figures()))
"""


@pytest.fixture(scope="module")
def usage() -> Usage:
    """What a process counts that has a child with a child."""
    output = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    found = usage_from({"usage": json.loads(output.stdout)})
    assert found is not None
    return found


def test_cpu_time_of_descendants_counts(usage: Usage) -> None:
    assert 0.5 <= usage.cpu_seconds < 10
    assert usage.cpus >= 1


def test_memory_of_all_processes_at_a_time_counts(usage: Usage) -> None:
    # Neither of them had this much alone.
    assert 110 <= usage.peak_memory_mib < 250


def test_peak_that_is_over_before_anyone_looks_counts() -> None:
    script = SCRIPT.replace("    usage.look()\n", "")
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert 60 <= json.loads(output.stdout)["peak_memory_mib"] < 110


@pytest.mark.parametrize("record", [{}, None, {"usage": None}, {"usage": {"cpus": 2}}, {"usage": {"cpus": "many"}}])
def test_records_without_figures_have_none(record: object) -> None:
    assert usage_from(record) is None
