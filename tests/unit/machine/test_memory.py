"""How running out of memory is recognised, and what is learned from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.machine.memory import log_says_out_of_memory, log_says_too_large, memory_kills


@pytest.mark.parametrize(
    "words",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 2 oom-kill event(s) in step 17.0 cgroup.",
        "srun: error: n1: task 0: Out Of Memory",
        "srun: error: n1: tasks 0-3: Out Of Memory",
    ],
)
def test_words_of_torch_and_slurm(tmp_path: Path, words: str) -> None:
    log = tmp_path / "log"
    log.write_text("step 1\n" * 20_000 + words + "\nsome more lines\n")

    assert log_says_out_of_memory(log)
    assert log_says_too_large(log) == ("srun" not in words and "slurmstepd" not in words)


@pytest.mark.parametrize("words", ["", "KeyError: 'memory'", "Triton Error [CUDA]: invalid argument"])
def test_other_words(tmp_path: Path, words: str) -> None:
    log = tmp_path / "log"
    log.write_text(words)

    assert not log_says_out_of_memory(log)
    assert not log_says_out_of_memory(tmp_path / "no log")


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/slurm/job_17/step_batch", "slurm/job_17/step_batch/memory.events"),
        ("7:cpu,memory:/slurm/job_17", "memory/slurm/job_17/memory.oom_control"),
    ],
)
def test_kills_of_the_kernel(tmp_path: Path, line: str, file: str) -> None:
    (tmp_path / "cgroup").write_text(f"9:pids:/other\n{line}\n")
    counts = tmp_path / "cgroups" / file
    counts.parent.mkdir(parents=True)
    counts.write_text("low 0\noom 3\noom_kill 2\n")

    assert memory_kills(tmp_path, tmp_path / "cgroups") == 2
    assert memory_kills(tmp_path, tmp_path / "nothing") == 0
    assert memory_kills(tmp_path / "no process") == 0
