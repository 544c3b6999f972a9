"""Caches of evaluation data, one folder for each content: inspect-ai's own cache and that of Hugging Face datasets.

inspect-ai keys its cache by the arguments of a data set, not by its content, and writes it in place; so a changed file
would be evaluated in its old version, and evaluations that start together would read half of it.
`prebuild` is train side: it calls the task.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.json_files import write_record
from run_experiment.common.text import clipped, counted, shortened
from run_experiment.evaluation.environment import cache_environment
from run_experiment.evaluation.model_stand_ins import model_stand_ins
from run_experiment.evaluation.settings import task_settings
from run_experiment.machine.exit_status import with_hint

if TYPE_CHECKING:
    from inspect_ai import Task

FACTS = "cache.json"
# Folders in a cache of `datasets` that hold downloads, or what was made of files: those are read anew.
_NOT_OF_THE_HUB = frozenset(
    {"downloads", "arrow", "audiofolder", "cache", "csv", "generator", "imagefolder", "json", "parquet", "pandas"}
    | {"sql", "text", "webdataset", "xml"}
)
# `datasets` makes the whole path of a data set a lock's name, and shortens it by characters, not by bytes.
LONG_PATH = (
    "Hugging Face datasets cannot work in a folder with so long a path that is not ASCII: move the experiment to a "
    "shorter or plain path, or read the data with json_dataset of inspect-ai"
)
# The model that tasks are loaded for.
_ANY_MODEL = "none/none"
# Scorers that take every answer for right where the target is empty.
_TAKE_ALL = ("inspect_ai/match", "inspect_ai/includes")
_LONGEST_NAME, _HASH_AND_ENDING = 255, 28
_WITHIN = f"/huggingface/datasets/json/default-{16 * '0'}/0.0.0/{64 * '0'}.lock"
# Of errors of tasks that load their data: what to do.
_HINTS = {
    r"No module named '[^']*/|attempted relative import": "a task is loaded as a file, not as a part of a "
    "package: import modules beside it without the dot",
    r"ValidationError: Sample: ": "the task has to make text of it, as by str()",
    r"FileNotFoundError: .*: '[^/'][^']*'$": "a task reads relative paths from the folder of its script",
    r"\bKeyError: ": "does the data have a split or a column of that name?",
    r"File name too long.*\.lock": LONG_PATH,
    r"object has no attribute '(__registry_info__|attribs|dataset)'": "the task's function has to return a Task of "
    "inspect-ai",
}


class CacheError(Exception):
    """A cache cannot be built; the message says why."""


@dataclass(frozen=True)
class CacheFacts:
    """What a prebuilt cache holds, how many seconds it took, and the settings that the task has itself.

    `odd` is what its evaluations will do unexpectedly.
    """

    samples: int
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    odd: Sequence[str] = ()


def is_too_long(folder: Path) -> bool:
    """Whether Hugging Face `datasets` cannot lock the data sets in a cache folder."""
    name = f"{folder.absolute()}{_WITHIN}"
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - _HASH_AND_ENDING] + _HASH_AND_ENDING * "_"
    return len(name.encode()) > _LONGEST_NAME


def failure_text(error: BaseException, script: Path = Path()) -> str:
    """Why the task in a script did not load its data, with what to do if that is known."""
    if isinstance(error, KeyError) and _raised_in(error) == "os":
        return f"the task asks for the environment variable {error}, which is not set"
    if package := _own_package(error, script):
        return f"{error} (a task finds the modules beside its script: import them without {package!r} before them)"
    text = f"{type(error).__name__}: {_first_of(error) or error}"
    # `datasets` says only that something went wrong.
    if (cause := error.__cause__) and type(error).__name__ == "DatasetGenerationError":
        text = f"{text}: {type(cause).__name__}: {cause}"
    return with_hint(text, _HINTS)


def _raised_in(error: BaseException) -> str:
    """The module whose code raised an error; empty if it was not raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")) if frames else ""


def _own_package(error: BaseException, script: Path) -> str | None:
    """The folder of a task's script that an import takes for a package, if that is why it failed."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    first = error.name.partition(".")[0]
    return next((folder.name for folder in script.absolute().parents if folder.name == first), None)


def _first_of(error: BaseException) -> str:
    """The first value that pydantic found wrong, as in a `Sample`; its own text is a paragraph for each."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ""
    first = error.errors()[0]
    return f"{error.title}: {first['loc'][0]}: {first['msg']}, not {clipped(repr(first['input']), 60)}"


def prebuild(
    script: Path,
    function: str,
    arguments: Mapping[str, Any],
    folder: Path,
    check: Callable[[], None] = lambda: None,
) -> CacheFacts:
    """Fill `folder` with the caches that a task's data set needs, by calling the task with its arguments.

    The folder appears when it is whole, with the facts in its `cache.json`; one that is whole already is kept.
    Sets the process's environment, so it needs a process that has not imported `datasets`.
    Raises CacheError there, and for a data set without samples. `check` is called before and after: it raises where
    the data is not what the folder is named by.
    """
    check()
    if known := known_facts(folder):
        return known
    if "datasets" in sys.modules:
        raise CacheError("a cache is built in a process of its own: `datasets` was imported before")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        facts = _fill(beside, f"{script.absolute()}@{function}", arguments)
        check()
        write_record(beside / FACTS, asdict(facts))
        _move(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return facts


def known_facts(folder: Path) -> CacheFacts | None:
    """Facts of a prebuilt cache; None if it was not prebuilt."""
    try:
        return CacheFacts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def known_settings(folder: Path) -> Mapping[str, Any]:
    """Settings that the task of a cache has itself; empty if it was not prebuilt."""
    facts = known_facts(folder)
    return facts.settings if facts else {}


def _fill(folder: Path, task: str, arguments: Mapping[str, Any]) -> CacheFacts:
    users = _users_data_sets()
    os.environ.update(cache_environment(folder))
    # A task may ask for the model that it is to evaluate; none is needed to read its data.
    os.environ["INSPECT_EVAL_MODEL"] = _ANY_MODEL
    # As `inspect eval` does it: in the script's folder, with the same handling of arguments.
    from inspect_ai._eval.loader import load_tasks

    started = time.monotonic()
    with model_stand_ins():
        try:
            load_tasks([task], dict(arguments))
        # No internet, or a data set that is not on the Hub any more: what the user has downloaded before will do.
        except OSError:
            if not _link_data_sets(users, Path(os.environ["HF_DATASETS_CACHE"])):
                raise
            load_tasks([task], dict(arguments))
        # Again, now from the cache as evaluations will: a shuffled data set keeps its order beside what it was read
        # from.
        loaded = load_tasks([task], dict(arguments))
    samples = sum(len(one.dataset) for one in loaded)
    if samples == 0:
        raise CacheError(f"{task} has no samples")
    for one in loaded:
        _require_unique_ids(task, [sample.id for sample in one.dataset])
        _require_no_model(task, one)
    odd = [message for one in loaded for message in _without_targets(one)]
    return CacheFacts(samples, round(time.monotonic() - started, 3), task_settings(loaded[0]), odd)


def _require_unique_ids(task: str, ids: Sequence[str | int | None]) -> None:
    """Raise CacheError if samples share an id, which inspect-ai refuses; as text, since it compares them so, too."""
    # Samples without one are numbered from 1.
    counts = Counter(str(number if one is None else one) for number, one in enumerate(ids, start=1))
    shared = [one for one, count in counts.items() if count > 1]
    if shared:
        many = f"{len(shared)} ids are of several samples each" if len(shared) > 1 else "several samples have one id"
        raise CacheError(f"{task}: {many} ({shortened(shared)}): give each sample an id of its own, or none")


def _require_no_model(task: str, loaded: Task) -> None:
    """Raise CacheError if a task has a model, which inspect-ai evaluates in place of the one that it is told to."""
    own = str(loaded.model) if loaded.model else _ANY_MODEL
    if own != _ANY_MODEL:
        message = f"the task has a model of its own, {own}, which would be evaluated in place of the run's"
        raise CacheError(f"{task}: {message}: leave out model=; a judge is a scorer's or one of model_roles")


def _without_targets(loaded: Task) -> Iterator[str]:
    """Samples for which a scorer takes every answer for right."""
    from inspect_ai._util.registry import registry_info

    names = {registry_info(scorer).name for scorer in loaded.scorer or []}
    lenient = [name.rpartition("/")[2] for name in _TAKE_ALL if name in names]
    empty = sum(not "".join(sample.target).strip() for sample in loaded.dataset)
    if lenient and empty:
        samples = f"{empty:,} of {counted(len(loaded.dataset), 'sample')} {'has' if empty == 1 else 'have'} no target"
        yield f"{samples}: the scorer {lenient[0]} takes every answer for right there"


def _users_data_sets() -> Path:
    """The user's own cache of Hugging Face data sets, before the environment is changed."""
    home = cache_environment(Path())["HF_HOME"]
    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(home, "datasets"))


def _link_data_sets(source: Path, cache: Path) -> bool:
    """Add the data sets in a user's cache to ours; returns whether there are any.

    Only files are links: `datasets` writes locks beside them.
    """
    found = [folder for folder in source.glob("*") if folder.is_dir() and folder.name not in _NOT_OF_THE_HUB]
    for folder in found:
        shutil.copytree(folder, cache / folder.name, copy_function=os.symlink, dirs_exist_ok=True)
    return bool(found)


def _move(source: Path, folder: Path, tries: int = 10) -> None:
    """Put a whole cache in its place, unless another process was first; several may try at once."""
    aside = source.with_name(f"{source.name}.old{tries}")
    try:
        if known_facts(folder) is None:
            # Left by an evaluation that ran without a prebuilt cache. Renamed, since removing it takes time.
            with suppress(FileNotFoundError):
                folder.rename(aside)
            source.rename(folder)
    except OSError:
        if tries == 1:
            raise
        _move(source, folder, tries - 1)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
