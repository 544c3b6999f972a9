"""What a large experiment costs Snakemake, beside a plain Snakefile of the same graph. No job runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of
from tables import Figure

from run_experiment.common import paths
from run_experiment.common.json_files import write_atomically
from run_experiment.planning.plan import Plan
from run_experiment.planning.results_state import Records, results_identity

SOURCE = Path(__file__).parents[1]
RUNS, EPOCHS, TASKS = 1000, 3, 5
RESULTS = (paths.EVALS_TABLE, paths.SUMMARY_PAGE, paths.COMPARISONS_TABLE, "results/provenance.json")
REPETITIONS = 3
# Of the cost of the plain Snakefile.
MOST_CPU, MOST_MEMORY = 1.5, 1.3

# The rules of this workflow as one would write them without it: same files, nothing compared.
PLAIN = """
finals = open("finals.txt").read().split()
rule all:
    input: finals, "results/summary.md"
rule train:
    output: "{run}/finetune.json"
    log: "logs/run_finetune/{run}.log"
    shell: "train {output} > {log}"
rule cache:
    output: "cache/{data_set}.json"
    shell: "cache {output}"
rule verify:
    input: "{run}/finetune.json"
    output: "{run}/checkpoints/{epoch}.json"
    shell: "verify {input} {output}"
rule evaluate:
    input: "cache/t0.json", "{run}/checkpoints/epoch_{epoch}.json"
    output: eval_log="{run}/eval/logs/{task}_epoch{epoch}.eval", record="{run}/eval/{task}_epoch{epoch}.json"
    log: "logs/run_evaluation/{run}/{task}_epoch{epoch}.log"
    shell: "evaluate {input} {output} > {log}"
rule collect:
    input: finals
    output: "results/summary.md", "results/evals.csv", "results/comparisons.csv", "results/provenance.json"
    shell: "collect {output}"
"""
OPTIONS = ("--cores", "1", "--quiet")


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    cpu_s: float
    memory_mb: float


def make_large(folder: Path, runs: int) -> ExperimentFolder:
    """An experiment of many trainings, each evaluated after each of its epochs on all tasks."""
    experiment = make_small_experiment(folder)
    values = experiment.read()
    names = [f"r{number}" for number in range(runs)]
    tasks = [f"t{number}" for number in range(TASKS)]
    values["controls"]["epochs"] = EPOCHS
    values["runs"] = [
        {"name": name, "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": number + 1}}
        for number, name in enumerate(names)
    ]
    values["variables"] = {"lora_rank": [number + 1 for number in range(runs)]}
    task = values["evaluation"]["tasks"][0]
    values["evaluation"]["tasks"] = [{**task, "name": name} for name in tasks]
    values["evaluation"]["matrix"] = [{"run": name, "tasks": tasks, "epochs": list(range(EPOCHS))} for name in names]
    experiment.write(values)
    return experiment


def make_plain(folder: Path, plan: Plan) -> None:
    """A plain Snakefile that makes the same files as a plan."""
    folder.mkdir()
    (folder / "Snakefile").write_text(PLAIN)
    finals = [path for path in plan.finals() if path.startswith("r")]
    (folder / "finals.txt").write_text("\n".join(finals))


def large_figures(folder: Path, runs: int = RUNS) -> list[Figure]:
    """CPU seconds and memory of `snakemake -n` before anything is made, and of a start when everything is."""
    experiment = make_large(folder / "experiment", runs)
    plan = plan_of(experiment)
    make_plain(folder / "plain", plan)
    ours = ["-s", str(SOURCE / "Snakefile"), "--config", f"experiment_dir={experiment.path}"]
    size = f"{len(plan.targets):,} jobs"
    found = _compared(f"`-n`, {size}", folder, [*ours, "-n"], ["-n"])
    del plan
    finish(experiment, folder / "plain")
    return found + _compared(f"nothing to do, {size}", folder, ours, [])


def finish(experiment: ExperimentFolder, plain: Path) -> None:
    """Leave everything that both make."""
    complete(experiment)
    for name in RESULTS:
        write_atomically(experiment.path / name, "")
    write_atomically(
        experiment.path / paths.SUMMARY_PAGE, f"<!-- experiment {results_identity(Records(plan_of(experiment)))} -->\n"
    )
    made = [path for pattern in ("*.json", "*.eval") for path in experiment.path.rglob(pattern)]
    for path in [*made, *map(experiment.path.joinpath, RESULTS)]:
        copy = plain / path.relative_to(experiment.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
        # All as old: none is newer than what is made from it.
        os.utime(copy, (0, 0))


def _compared(what: str, folder: Path, ours: Sequence[str], plain: Sequence[str]) -> list[Figure]:
    costs = [(_snakemake(folder, ours), _snakemake(folder / "plain", plain)) for _ in range(REPETITIONS)]
    cpu = [median(cost.cpu_s for cost in side) for side in zip(*costs, strict=True)]
    memory = [median(cost.memory_mb for cost in side) for side in zip(*costs, strict=True)]
    return [
        Figure(f"{what}: CPU", cpu[0], "s"),
        Figure(f"{what}: CPU of a plain Snakefile", cpu[1], "s"),
        Figure(f"{what}: CPU beside it", cpu[0] / cpu[1], "×", MOST_CPU),
        Figure(f"{what}: memory", memory[0], "MB"),
        Figure(f"{what}: memory of a plain Snakefile", memory[1], "MB"),
        Figure(f"{what}: memory beside it", memory[0] / memory[1], "×", MOST_MEMORY),
    ]


def _snakemake(folder: Path, arguments: Sequence[str]) -> Cost:
    """Run Snakemake in a folder, and measure it with the processes that it waits for."""
    command = [sys.executable, "-m", "snakemake", *arguments, *OPTIONS]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {' '.join(command)}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
