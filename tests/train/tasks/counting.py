"""A task without a model: its samples are counted in a file, and trouble comes where another file says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import Generate, Solver, TaskState, solver

# Samples that are at work.
AT_WORK: set[str] = set()


def trouble(word: str) -> None:
    """What `trouble.json` says of a word happens, once; `fits` is how many samples fit into memory, always."""
    path = Path("trouble.json")
    said = json.loads(path.read_text()) if path.exists() else {}
    if len(AT_WORK) > said.get("fits", 1000):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    kind = said.pop(word, None)
    if kind is None:
        return
    path.write_text(json.dumps(said))
    if kind == "error":
        raise RuntimeError("the task broke")
    if kind == "all":
        os.kill(int(os.environ["JOB_PID"]), signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)


@solver
def shouting() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        word = state.input_text
        with Path("computed").open("a") as file:
            file.write(f"{word}\n")
        AT_WORK.add(word)
        await asyncio.sleep(0.05)
        trouble(word)
        AT_WORK.discard(word)
        state.output = ModelOutput.from_content("none", word.upper() if int(word[1:]) % 3 else "no")
        return state

    return solve


@task
def count(data_path: str, ids: bool = True, shuffle: bool = False) -> Task:
    rows = json.loads(Path(data_path).read_text())["test"]
    samples = [
        Sample(id=row["input"] if ids else None, input=row["input"], target=row["input"].upper()) for row in rows
    ]
    dataset = MemoryDataset(samples, shuffled=shuffle)
    return Task(dataset=dataset, solver=shouting(), scorer=match())
