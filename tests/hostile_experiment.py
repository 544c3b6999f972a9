"""An experiment whose texts would do harm where they are shown: those of its summary, of samples, of errors."""

from __future__ import annotations

from pathlib import Path

from experiments import ExperimentFolder
from report_data import HOSTILE
from sample_logs import sample, write_log
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import write_record

# What spreadsheets take for formulas.
FORMULAS = ('=HYPERLINK("http://example.org","x")', "+1+1", "-1+1", "@SUM(1)", "\t=1+1")
LONG = "x" * 1_000_000


def make_hostile_experiment(folder: Path) -> ExperimentFolder:
    """A complete experiment but for an evaluation that failed; all that models, data and errors say is hostile."""
    experiment = make_small_experiment(folder / "experiment")
    texts = [*HOSTILE, *FORMULAS, LONG]
    values = experiment.read()
    values["experiment"] |= {"question": "".join(HOSTILE).replace("\ud800", "")}
    values["variables"] = {"system_prompt": [HOSTILE[0], HOSTILE[1]]}
    for run, prompt in zip(values["runs"], HOSTILE, strict=False):
        run["parameters"] = {"system_prompt": prompt} if run.get("type") == "fine-tuned" else {}
    values["evaluation"]["matrix"][0]["vis_label"] = HOSTILE[3]
    experiment.write(values)
    complete(experiment)
    for item in plan_of(experiment).experiment.evaluations:
        samples = [_sample(number, text) for number, text in enumerate([*texts, *texts])]
        write_log(experiment.path / paths.eval_log(item.run.name, item.cell), samples)
    (experiment.path / paths.eval_record("r8", "shout_epoch1")).unlink()
    attempt = {"target": "shout_epoch1", "error": "".join(HOSTILE) + LONG, "job_id": "17"}
    write_record(experiment.path / "r8/attempts/17/attempt.json", {**attempt, "ended": "2026-01-31T12:00:00+01:00"})
    return experiment


def _sample(number: int, text: str) -> dict[str, object]:
    one = sample(f"{number} {text}", "CI"[number % 2], input=text, target=text, metadata={"story": text, text: "s"})
    one["scores"]["match"]["answer"] = text
    return one
