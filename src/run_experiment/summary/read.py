"""Reading `experiment_summary.yaml`: checked before jobs are made of it, or only resolved to look at what is there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from run_experiment.common.errors import InputError, Problem
from run_experiment.common.yaml_lines import KeyPath, Source, load
from run_experiment.experiment.model import Experiment
from run_experiment.experiment.resolve import UnresolvableError, resolve
from run_experiment.experiment.schema import ExperimentSummary
from run_experiment.jobscripts.foreign import is_scaffolded
from run_experiment.summary.backends import check_backends
from run_experiment.summary.checks.files import check_files
from run_experiment.summary.checks.references import check_references
from run_experiment.summary.checks.types import check_types
from run_experiment.summary.devices import check_devices
from run_experiment.summary.draft import Finding, draft_of, errors_of, warnings_of


def read_experiment(path: Path) -> Experiment:
    """The experiment of a summary whose files are not checked, for commands that only look at it.

    Raises InputError: for keys and types with all problems, for what does not fit together with one line.
    """
    folder = path.absolute().parent
    source = _load(path)
    summary, findings = check_types(source, strict=not is_scaffolded(folder))
    if errors := errors_of(source, findings):
        raise InputError(path.name, errors)
    assert summary is not None
    try:
        return resolve(summary, folder)
    except UnresolvableError as error:
        raise InputError(path.name, [Problem(0, "", f"{error}; `snakemake -n` lists every problem")]) from error


def read_summary(path: Path, *, strict: bool | None = None) -> tuple[ExperimentSummary, list[Problem]]:
    """Read and check a summary and the files it names (relative to its folder); returns it with its warnings.

    Unless `strict`, unknown keys are warnings: by default in a folder that another tool scaffolded.
    Raises InputError with all problems of the file.
    """
    folder = path.absolute().parent
    strict = not is_scaffolded(folder) if strict is None else strict
    source = _load(path)
    summary, findings = check_types(source, strict)
    draft = draft_of(source, summary)
    # In this order: what is wrong with a value by itself is said, and not what follows from it.
    findings += _elsewhere(check_references(draft, folder, strict), findings)
    findings += _elsewhere(check_files(draft, folder), findings)
    findings += _elsewhere(check_backends(draft, folder), findings)
    findings += _elsewhere(check_devices(draft, folder), findings)
    if errors := errors_of(source, findings):
        raise InputError(path.name, errors)
    assert summary is not None
    return summary, warnings_of(source, findings)


def _load(path: Path) -> Source:
    if os.path.isdir(path):
        raise InputError(str(path), [Problem(0, "", f"is a folder; expected the file {path.name}")])
    try:
        return load(path)
    except NotADirectoryError:
        raise InputError(str(path.parent), [Problem(0, "", "is a file; write the folder that it is in")]) from None
    except FileNotFoundError:
        if not os.path.exists(path.parent):
            raise InputError(str(path.parent), [Problem(0, "", "there is no such folder")]) from None
        other = path.with_suffix(".yml")
        hint = f"; rename {other.name} to it" if other.is_file() else ""
        hint = f": it is a link to {os.readlink(path)}, which is not there" if path.is_symlink() else hint
        raise InputError(str(path), [Problem(0, "", f"there is no such file{hint}")]) from None
    except OSError as error:
        raise InputError(str(path), [Problem(0, "", f"cannot be read: {error.strerror}")]) from error


def _elsewhere(found: Iterable[Finding], before: Iterable[Finding]) -> list[Finding]:
    """Findings at places that had no error before."""
    faulty = {finding.path for finding in before if not finding.warning}
    return [finding for finding in found if not _is_within(finding.path, faulty)]


def _is_within(path: KeyPath, faulty: set[KeyPath]) -> bool:
    return any(path[:length] in faulty for length in range(len(path) + 1))
