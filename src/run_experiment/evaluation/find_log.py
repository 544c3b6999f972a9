"""Which inspect-ai log is of which job, wherever its script wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.common.files import Stamps, stamps
from run_experiment.evaluation.environment import METADATA
from run_experiment.evaluation.errors import EvalError

if TYPE_CHECKING:
    from run_experiment.evaluation.log_file import Spec

_TAG = "run-experiment:"


@dataclass(frozen=True)
class Wanted:
    """What a log must be of: the attempt by its tag, the task's registered name, the epoch (None without training).

    `models` are the folders of the model that is evaluated, `experiment` is the experiment's folder and `cell` the
    one of the evaluation alone, all absolute. With `epoch_is_told` the script gives its logs the epoch as metadata;
    else that of a log with our tag is the task's own.
    """

    tag: str
    function: str | None
    epoch: int | None
    models: tuple[Path, ...]
    experiment: Path
    cell: Path
    epoch_is_told: bool = True


def tag(attempt: str) -> str:
    """Tag of the logs of an attempt, by a name that no other attempt ever has."""
    return f"{_TAG}{attempt}"


def logs_in(folders: Iterable[Path], trees: Iterable[Path] = ()) -> Stamps:
    """Logs that lie in folders, and anywhere in trees but for their hidden folders."""
    paths = [path for folder in folders for path in folder.glob("*.eval")]
    paths += [path for tree in trees for path in tree.rglob("*.eval") if not _is_hidden(path, tree)]
    return {path.resolve(): stamp for path, stamp in stamps(paths).items() if path.is_file()}


def _is_hidden(path: Path, tree: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(tree).parts)


def own_logs(wanted: Wanted, folders: Iterable[Path], before: Stamps, now: Stamps) -> list[Path]:
    """New logs of an attempt's script, newest last: those in folders of its own, else those with its tag.

    If there are none, new ones whose headers say that they are of this evaluation.
    Raises EvalError if there are only new logs that could be of any.
    """
    new = sorted((path for path, stamp in now.items() if before.get(path) != stamp), key=lambda path: now[path])
    own = [path for path in new if _within(path, folders)]
    if own:
        return own
    specs = {path: spec for path in new if (spec := spec_of(path))}
    tagged = [path for path, spec in specs.items() if wanted.tag in _tags_of(spec)]
    if tagged:
        return tagged
    untagged = {path: spec for path, spec in specs.items() if not _tags_of(spec)}
    known = [path for path, spec in untagged.items() if _tells(wanted, path, spec)]
    others = [path for path, spec in untagged.items() if not contradiction(wanted, spec)]
    if others and not known:
        raise EvalError(f"new logs do not tell which evaluation they are of: {_listed(others)}")
    return known


def the_log(wanted: Wanted, logs: list[Path]) -> Path:
    """The one log of an evaluation among those that its script left, oldest first; the newest of one that was retried.

    Raises EvalError if there are several, or if it is of another evaluation.
    """
    specs = {path: spec_of(path) for path in logs}
    if specs[logs[-1]] is None:
        return logs[-1]
    why = {path: contradiction(wanted, spec) for path, spec in specs.items() if spec}
    fitting = [path for path in why if not why[path]]
    if not fitting:
        raise EvalError("; ".join(f"{path} is {reason}" for path, reason in why.items()))
    if len({spec.task_id for path in fitting if (spec := specs[path])}) > 1:
        raise EvalError(f"the script left logs of several evaluations: {_listed(fitting)}")
    return fitting[-1]


def contradiction(wanted: Wanted, spec: Spec) -> str | None:
    """What a log says it is of, if that is not what is wanted."""
    function = _function(spec)
    if wanted.function and function and function != wanted.function:
        return f"of task {function}, not {wanted.function}"
    epoch = (spec.metadata or {}).get("epoch") if _tells_epoch(wanted, spec) else None
    if epoch is not None and wanted.epoch is not None and str(epoch) != str(wanted.epoch):
        return f"of epoch {epoch}, not {wanted.epoch}"
    model = _model(wanted, spec)
    roots = [wanted.experiment, *(path.parent for path in wanted.models)]
    if model and wanted.models and not _within(model, wanted.models) and _within(model, roots):
        return f"of the model in {model}, not in {wanted.models[0]}"
    return None


def _tells_epoch(wanted: Wanted, spec: Spec) -> bool:
    """Whether `epoch` in a log's metadata is that of the model, and not something of the task's own."""
    return wanted.epoch_is_told or wanted.tag not in _tags_of(spec)


def _tells(wanted: Wanted, path: Path, spec: Spec) -> bool:
    """Whether a log without any tag is surely of the evaluation: by its model, its epoch, or the cell's own folder."""
    if contradiction(wanted, spec):
        return False
    model, run = _model(wanted, spec), wanted.cell.parent.parent
    if model and _within(model, wanted.models):
        return True
    epoch = (spec.metadata or {}).get("epoch")
    return path.is_relative_to(wanted.cell) or (epoch is not None and path.is_relative_to(run))


def _function(spec: Spec) -> str:
    # A task may give itself another name, and a package puts its own before it.
    return (spec.task_registry_name or "").rpartition("/")[2]


def _model(wanted: Wanted, spec: Spec) -> Path | None:
    """Folder of the model that was evaluated; None if it is gone or unknown."""
    path = spec.model_args.get("model_path")
    if not isinstance(path, str):
        return None
    # A log has a relative path as it was written, and does not say from where.
    places = (wanted.experiment, wanted.cell.parent.parent, wanted.cell)
    return next(((place / path).resolve() for place in places if (place / path).exists()), None)


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder.resolve()) for folder in folders)


def job_of(spec: Spec) -> str | None:
    """Id of the job that wrote a log, by its tag; None for a log without one."""
    return next((item.removeprefix(_TAG).rpartition(":")[0] for item in _tags_of(spec)), None)


def _tags_of(spec: Spec) -> list[str]:
    """Tags of ours that a log carries, for which attempts it was made."""
    given = [*(spec.tags or []), str((spec.metadata or {}).get(METADATA, ""))]
    return [item for item in given if item.startswith(_TAG)]


def spec_of(path: Path) -> Spec | None:
    """What a log's header says; None if it cannot be read, like that of a log which is still being written."""
    # Here, since a job starts faster without pydantic.
    from run_experiment.evaluation.log_file import read_header

    try:
        return read_header(path).eval
    except EvalError:
        return None


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(str(path) for path in paths)
