"""Experiments whose page is made once for all tests that read it."""

from __future__ import annotations

import pytest
from experiments import ExperimentFolder
from page_cases import make_page_cases
from whole_experiment import make_whole_experiment

from run_experiment.report.collect import collect


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """A task for each kind of scores."""
    experiment = make_page_cases(tmp_path_factory.mktemp("cases"))
    collect(experiment.path)
    return experiment


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """Seeds, losses, jobs on a cluster, failures."""
    experiment = make_whole_experiment(tmp_path_factory.mktemp("whole"))
    collect(experiment.path)
    return experiment
