"""What the tests on a GPU share: they refuse to run without one, and say at the end what they measured and left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from gpu_experiment import DEVICE, VLLM, make_gpu_experiment, make_model
from snakemake_cli import snakemake

_FIGURES: list[str] = []


def pytest_sessionstart() -> None:
    """End at once without a GPU that torch can use."""
    import torch

    if DEVICE != "cpu" and not torch.cuda.is_available():
        pytest.exit(f"torch {torch.__version__} finds no NVIDIA GPU that it can use: nothing was tested", returncode=1)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures, and what was not run."""
    terminalreporter.section("measured")
    for line in _FIGURES:
        terminalreporter.write_line(line)
    terminalreporter.section("not run")
    left_out = terminalreporter.stats.get("skipped", [])
    for report in left_out:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
    if not left_out:
        terminalreporter.write_line("nothing: all tests were run")


@pytest.fixture(scope="session")
def measured() -> Callable[[str], None]:
    """Takes a line for the end of the report."""
    return _FIGURES.append


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that all tests train and evaluate."""
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="session")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment whose runs were trained by both trainers, and evaluated by `hf`."""
    folder = tmp_path_factory.mktemp("trained") / "experiment"
    experiment = make_gpu_experiment(folder, model, tasks=[{"name": "shout"}])
    result = snakemake(experiment.path)
    assert result.returncode == 0, result.stdout
    return experiment


@pytest.fixture(scope="session")
def both_backends(trained: ExperimentFolder) -> ExperimentFolder:
    """The same experiment with a second task, which vLLM evaluates."""
    if not VLLM:
        pytest.skip("vLLM is not installed: its server, and its scores beside those of transformers")
    values = trained.read()
    values["evaluation"]["tasks"].append({**values["evaluation"]["tasks"][0], "name": "fast", "backend": "vllm"})
    values["evaluation"]["vllm_options"] = {"gpu-memory-utilization": 0.5, "enforce-eager": True}
    for entry in values["evaluation"]["matrix"]:
        entry["tasks"] = ["shout", "fast"]
    trained.write(values)
    result = snakemake(trained.path, "--config", f"vllm_environment={VLLM}")
    assert result.returncode == 0, result.stdout
    return trained
