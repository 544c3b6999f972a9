"""SLURM's clients as shims on PATH, and a submitter that calls them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from run_experiment.slurm.events import Event
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.submitting.pacing import Pacing
from snakemake_executor_plugin_slurm_attached.submitting.submitter import Request, Submitter


class Cluster:
    """Shims of SLURM's clients on PATH: sbatch keeps its arguments, squeue says what a file holds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.submitted, self.answers = folder / "submitted", folder / "answers"
        self.answers.mkdir()
        self.shim(folder, "sbatch", f'echo "$*" >> {self.submitted}; wc -l < {self.submitted}')
        self.shim(folder, "squeue", f"cat {self.answers}/squeue 2>/dev/null || true")
        self.shim(folder, "sacct", "true")
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def shim(self, folder: Path, name: str, body: str) -> None:
        # Moved into place: what is being run cannot be written to.
        new = folder / f".{name}"
        new.write_text(f"#!/bin/sh\n{body}\n")
        new.chmod(0o755)
        new.replace(folder / name)

    def queue(self, folder: Path, *jobs: str) -> None:
        """Have squeue print jobs, `id state name`, between marks that differ each time: its format has them."""
        fields = '"$mark$id$mark$state${mark}None$mark$name${mark}comment $name$mark"'
        read = f"while read id state name; do echo {fields}; done"
        lines = "\n".join(jobs)
        self.shim(folder, "squeue", f"for last; do :; done; mark=${{last##*%k}}\n{read} <<'END'\n{lines}\nEND")

    def names(self) -> list[str]:
        return self.submitted.read_text().split() if self.submitted.exists() else []


def request(name: str, priority: float = 0, kind: str = "finetune", stagger: float = 0) -> Request:
    submission = Submission(f"{name}/finetune.json", "hash", name, f"comment {name}", 0, "2025-01-31T10:00:00+01:00")
    return Request(submission, [name], "#!/bin/sh\n", kind, stagger, priority)


class Submitting:
    """A submitter, and what it told."""

    def __init__(self, folder: Path, limit: int = 100, refresh: float = 100) -> None:
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.accepted: dict[str, str] = {}
        # The same by target.
        self.accepted_targets: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.told: list[Event] = []
        self.pacing = Pacing(limit, refresh, lambda: set(self.accepted.values()))
        self.ended: list[Submission] = []
        self.submitter = Submitter(
            folder, self.ledger, self.pacing, self._accept, self._refuse, self.ended.append, self.told.append
        )

    def _accept(self, submission: Submission) -> None:
        self.accepted[submission.name] = str(submission.job_id)
        self.accepted_targets[submission.target] = str(submission.job_id)

    def _refuse(self, submission: Submission, reason: str) -> None:
        self.refused[submission.name] = reason


def wait_for(seconds: float, condition: object) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
