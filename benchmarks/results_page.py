"""How long the results of a large experiment take: made from logs, made again, and opened in a browser. No job runs."""

from __future__ import annotations

import json
import random
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from browser import browser
from experiments import ExperimentFolder
from planning import write_session
from sample_logs import samples_of
from small_experiment import complete, make_small_experiment, plan_of
from tables import Figure

from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record
from run_experiment.experiment.model import Evaluation
from run_experiment.finetuning.metrics import COLUMNS, METRICS_FILE
from run_experiment.report.collect import collect
from run_experiment.results.analysis.analyse import analyse

RUNS, EPOCHS, SAMPLES = 200, 5, 200
# Of a sample in a log, in all: its messages, which only `inspect view` reads.
_BYTES = 1_500
_MEGABYTE = 1_000_000


def results_figures(folder: Path) -> list[Figure]:
    """Seconds to make the page the first time and again, its size, and seconds until a browser shows it."""
    experiment = make_large_experiment(folder)
    first, again = (_seconds(lambda: _collect(experiment)) for _ in range(2))
    page = experiment.path / paths.REPORT
    size = f"{RUNS * EPOCHS:,} evaluations of {SAMPLES} samples"
    return [
        Figure(f"{size}: results made from logs", first, "s", 60),
        Figure(f"{size}: results made again", again, "s", 10),
        Figure(f"{size}: the page", page.stat().st_size / _MEGABYTE, "MB", 10),
        Figure(f"{size}: the page opened", _opened(page, folder), "s", 3),
    ]


def make_large_experiment(folder: Path) -> ExperimentFolder:
    """An experiment with all trainings and evaluations done; the higher the rank, the better."""
    experiment = make_small_experiment(folder / "experiment")
    values = experiment.read()
    names = [f"r{number}" for number in range(RUNS)]
    values["controls"]["epochs"] = EPOCHS
    values["runs"] = [{"name": "base", "type": "control", "model": "tiny"}] + [
        {"name": name, "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": number + 1}}
        for number, name in enumerate(names)
    ]
    values["evaluation"]["matrix"] = [{"run": "base", "tasks": ["shout"]}] + [
        {"run": name, "tasks": ["shout"], "epochs": list(range(EPOCHS))} for name in names
    ]
    experiment.write(values)
    complete(experiment)
    draw, plan = random.Random(7), plan_of(experiment)
    for place, item in enumerate(plan.experiment.evaluations):
        right = [draw.random() < 0.5 + place / 4_000 for _ in range(SAMPLES)]
        _write_evaluation(experiment.path, item, right, draw)
    for run in plan.experiment.fine_tuned:
        _write_curve(experiment.path / run.name / "artifacts" / METRICS_FILE)
    write_session(plan)
    return experiment


def _write_evaluation(folder: Path, item: Evaluation, right: Sequence[bool], draw: random.Random) -> None:
    """Give an evaluation these samples, with texts and a file a sample as inspect-ai's logs have them."""
    samples = samples_of(["C" if one else "I" for one in right])
    for one in samples:
        one["input"] = f"Repeat after me, in capitals: {'word ' * 40}"
    with zipfile.ZipFile(folder / paths.eval_log(item.run.name, item.cell), "w") as log:
        log.writestr("summaries.json", json.dumps(samples), zipfile.ZIP_DEFLATED)
        for one in samples:
            log.writestr(f"samples/{one['id']}_epoch_1.json", draw.randbytes(_BYTES))
    path = folder / paths.eval_record(item.run.name, item.cell)
    record = read_record(path) or {}
    counts = dict.fromkeys(("completed_samples", "total_samples"), SAMPLES)
    write_record(path, {**record, "results": {"metrics": {"match/accuracy": sum(right) / SAMPLES}, **counts}})


def _write_curve(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{step // 200},{step},{2 / (1 + step / 100)},,,,,\r\n" for step in range(1, 200 * EPOCHS)]
    path.write_text(",".join(COLUMNS) + "\r\n" + "".join(rows))


def _collect(experiment: ExperimentFolder) -> None:
    # As another process does.
    analyse.cache_clear()
    collect(experiment.path)


def _opened(page: Path, folder: Path) -> float:
    home = folder / "browser"
    home.mkdir()
    with browser(home) as opened:
        opened.look(1280)
        # The first page that a browser opens pays for its start.
        opened.open(page)
        return opened.open(page)


def _seconds(call: Callable[[], None]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started
