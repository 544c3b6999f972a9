"""Each distinct submission is tried once, and what SLURM refuses is reported with its line."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from run_experiment.slurm import clients
from run_experiment.slurm.errors import PassingError, SlurmError
from snakemake_executor_plugin_slurm_attached import ExecutorSettings
from snakemake_executor_plugin_slurm_attached.submitting.trial import Planned, refusals

WORKFLOW = SimpleNamespace(
    resource_settings=SimpleNamespace(overwrite_resources={"run_finetune": {"qos": "low"}}, default_resources=None),
    executor_settings=ExecutorSettings(),
)


def planned(name: str, *lines: str, rule: str = "run_evaluation") -> Planned:
    job = SimpleNamespace(rule=SimpleNamespace(name=rule), resources={"qos": "low"})
    return Planned(job, name, "\n".join(["#!/bin/bash", *[f"#SBATCH {line}" for line in lines], "true"]))


class Slurm:
    """Answers tries by what their script holds; keeps them."""

    def __init__(self, answers: dict[str, SlurmError]) -> None:
        self.answers = answers
        self.tried: list[tuple[list[str], str]] = []

    def try_submission(self, arguments: Sequence[str], script: str) -> None:
        self.tried.append((list(arguments), script))
        for text, error in self.answers.items():
            if text in script:
                raise error


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm(
        {
            "unheard-of": SlurmError("sbatch: error: Invalid account or account/partition combination specified"),
            "soon": SlurmError("sbatch: error: Invalid --time specification\nTry sbatch --help"),
            "no-such-node": SlurmError("allocation failure: Invalid feature specification"),
            "queue-is-full": PassingError("sbatch: error: AssocMaxSubmitJobLimit"),
        }
    )
    monkeypatch.setattr(clients, "try_submission", found.try_submission)
    return found


def test_each_distinct_submission_is_tried_once(slurm: Slurm) -> None:
    jobs = [planned("a", "--mem=1"), planned("b", "--mem=1"), planned("c", "--mem=1", rule="run_finetune")]
    assert refusals(jobs, WORKFLOW) == []
    head = "#!/bin/bash\n#SBATCH --mem=1\n"
    assert slurm.tried == [([], head), (["--qos=low"], head)]


def test_every_script_that_is_refused_is_reported_at_the_line_that_slurm_names(slurm: Slurm) -> None:
    bad = "--account=unheard-of"
    jobs = [planned("a", "--mem=1", bad), planned("b", "--mem=1", bad), planned("c", "--time=soon"), planned("d")]
    jobs.append(planned("f", "--mem=1", "--constraint=no-such-node"))
    jobs.append(planned("e", "--wckey=unheard-of", rule="run_finetune"))
    assert [str(error) for error in refusals(jobs, WORKFLOW)] == [
        "a:3: SLURM refuses it: sbatch: error: Invalid account or account/partition combination specified",
        "b:3: SLURM refuses it: sbatch: error: Invalid account or account/partition combination specified",
        "c:2: SLURM refuses it: sbatch: error: Invalid --time specification",
        "f:3: SLURM refuses it: allocation failure: Invalid feature specification",
        "e: SLURM refuses it: sbatch: error: Invalid account or account/partition combination specified"
        " (submitted with --qos=low)",
    ]
    assert len(slurm.tried) == 5


def test_no_line_is_blamed_for_what_overrides_it(slurm: Slurm) -> None:
    slurm.answers["--mem=1"] = SlurmError("Invalid qos specification")
    jobs = [planned("a", "--qos=high", "--mem=1", rule="run_finetune"), planned("b", "--qos=high", "--mem=1")]
    assert [str(error) for error in refusals(jobs, WORKFLOW)] == [
        "a: SLURM refuses it: Invalid qos specification (submitted with --qos=low)",
        "b:2: SLURM refuses it: Invalid qos specification",
    ]


def test_a_script_that_no_job_may_have_is_not_tried(slurm: Slurm) -> None:
    """Only those of wanted targets are checked before; `--forceall` makes others, too."""
    assert [str(error) for error in refusals([planned("a", "--array=1-3")], WORKFLOW)] == [
        "a:2: --array='1-3': not allowed: one script is one job"
    ]
    assert slurm.tried == []


def test_an_error_that_may_pass_refuses_nothing(slurm: Slurm) -> None:
    jobs = [planned("a", "--account=unheard-of"), planned("b", "--wckey=queue-is-full"), planned("c", "--time=soon")]
    assert [error.file for error in refusals(jobs, WORKFLOW)] == ["a"]
    assert len(slurm.tried) == 2
    assert refusals(jobs[1:], WORKFLOW) == []
