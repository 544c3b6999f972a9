"""Settings of an evaluation: those that its log says it ran with, and those that were asked for.

A `.env` file, a variable or a shell function can change an evaluation without any trace in the summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from run_experiment.common.json_files import Config, canonical
from run_experiment.evaluation.errors import EvalError

if TYPE_CHECKING:
    from inspect_ai import Task

    from run_experiment.evaluation.log_file import Spec

Settings = Mapping[str, Any]

# Our provider for inspect-ai, which asks vLLM with the tokens that `hf` would give to its model.
VLLM = "vllm-tokens"

# Settings that a task can have itself, with what inspect-ai takes if it has none.
_OF_TASKS: dict[str, Any] = {
    "epochs": 1,
    "message_limit": None,
    "token_limit": None,
    "turn_limit": None,
    "time_limit": None,
    "working_limit": None,
    "cost_limit": None,
    "fail_on_error": True,
    "continue_on_fail": False,
    "score_on_error": False,
}
# Settings of a whole evaluation: nothing may be chosen or replaced.
_OF_EVALUATIONS = ("limit", "sample_id", "sample_shuffle")
# Settings of the model that do not change what it answers.
_HARMLESS = frozenset(
    {"max_connections", "adaptive_connections", "max_retries", "timeout", "attempt_timeout", "stream", "batch"}
)
_ARGUMENT = "task argument "
_HINT = "INSPECT_EVAL_… variables of a .env file or of the environment do that"


def task_settings(task: Task) -> dict[str, Any]:
    """Settings that a loaded task has itself."""
    return {name: _or_default(name, getattr(task, name, None)) for name in _OF_TASKS}


def log_settings(spec: Spec) -> dict[str, Any]:
    """Settings that an evaluation ran with, by name; those that are not set are left out."""
    evaluation = {name: spec.config.get(name) for name in _OF_EVALUATIONS}
    tasks = {name: _or_default(name, spec.config.get(name)) for name in _OF_TASKS}
    model = {name: value for name, value in spec.model_generate_config.items() if name not in _HARMLESS}
    provider = spec.model.partition("/")[0]
    others = {"solver": spec.solver, "do_sample": spec.model_args.get("do_sample"), "model provider": provider}
    found = {**evaluation, **tasks, **model, **others, **_arguments(spec.task_args_passed)}
    return {name: value for name, value in found.items() if value is not None}


def require_as_asked(used: Settings, config: Config, of_task: Settings, arguments: Iterable[str] | None) -> None:
    """Raise EvalError, with all differences, unless an evaluation ran with the settings that were asked for.

    `config` is its configuration, `arguments` are the names that its task was to be given, `of_task` the task's own
    settings; None or empty if they are not known, and then not compared.
    """
    generation = config.get("generation")
    if arguments is None:
        used = {name: value for name, value in used.items() if not name.startswith(_ARGUMENT)}
    asked = {**of_task, **_generation(generation or {}), **_arguments(arguments or ())}
    ignored = {*(() if of_task else _OF_TASKS), *(() if generation else ("do_sample", "max_tokens", "model provider"))}
    if "seed" not in (generation or {}):
        # Answers that are not sampled do not depend on it.
        ignored.add("seed")
    names = [name for name in {**asked, **used} if name not in ignored]
    wrong = [name for name in names if canonical(used.get(name)) != canonical(asked.get(name))]
    if wrong:
        listed = ", ".join(f"{name} is {_text(used.get(name))} instead of {_text(asked.get(name))}" for name in wrong)
        raise EvalError(f"the evaluation is not the one that was asked for: {listed}; {_HINT}")


def _generation(generation: Config) -> dict[str, Any]:
    """What the model is to be asked with; temperature and seed only count if answers are sampled."""
    samples = bool(generation.get("do_sample")) and generation.get("temperature") != 0
    temperature = generation.get("temperature") if samples else None
    asked = {name: generation.get(name) for name in ("max_tokens", "seed", "logprobs", "top_logprobs")}
    provider = VLLM if generation.get("backend") == "vllm" else "hf"
    return {**asked, "do_sample": samples, "temperature": temperature, "model provider": provider}


def _arguments(names: Iterable[str]) -> dict[str, Any]:
    return {f"{_ARGUMENT}{name}": "given" for name in names}


def _or_default(name: str, value: Any) -> Any:
    return _OF_TASKS[name] if value is None else value


def _text(value: Any) -> str:
    return "not set" if value is None else canonical(value)
