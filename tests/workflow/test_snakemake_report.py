"""`snakemake --report`: one file with the page, its figures and the tables, each with its caption."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from experiments import ExperimentFolder
from small_experiment import make_small_experiment
from snakemake_cli import planned, snakemake

CAPTIONS = Path(__file__).parents[2] / "report"
TABLES = ["evals.csv", "comparisons.csv", "summary.md", "provenance.json"]


def report(experiment: ExperimentFolder) -> str:
    path = experiment.path.parent / "report.html"
    result = snakemake(experiment.path, "--report", str(path))
    assert result.returncode == 0, result.stdout
    return path.read_text()


def embedded(text: str) -> set[bytes]:
    """The files in a report."""
    return {base64.b64decode(found) for found in re.findall(r"data:[^,\"]*;base64,([A-Za-z0-9+/=]+)", text)}


def test_it_has_all_results_and_their_captions(experiment: ExperimentFolder) -> None:
    figures = sorted((experiment.path / "results/figures").glob("*.svg"))
    assert figures
    text = report(experiment)
    files = embedded(text)
    for path in [*(experiment.path / "results" / name for name in (*TABLES, "report.html")), *figures]:
        assert path.read_bytes() in files, path
    for caption in CAPTIONS.glob("*.rst"):
        words = caption.read_text().split("``")[0].split()[:4]
        assert re.search(r"\s+".join(map(re.escape, words)), text), caption
    assert planned(experiment.path) == {}


def test_it_is_made_of_what_is_there(experiment: ExperimentFolder) -> None:
    """Without a page, and after a failure."""
    (experiment.path / "results/report.html").unlink()
    experiment.set_parameters("r4", lr=13.0)
    assert snakemake(experiment.path).returncode == 1
    (experiment.path / "results/report.html").unlink()
    assert (experiment.path / "results/summary.md").read_bytes() in embedded(report(experiment))


def test_an_experiment_that_never_ran_has_none(tmp_path: Path) -> None:
    never = make_small_experiment(tmp_path / "never")
    result = snakemake(never.path, "--report", str(tmp_path / "report.html"))
    assert result.returncode == 2
    assert "Nothing to report yet: run the experiment first, without --report" in result.stdout
    assert "Missing metadata" not in result.stdout
    assert not (tmp_path / "report.html").exists()
