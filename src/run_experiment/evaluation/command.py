"""The `inspect eval-set` command of an evaluation."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

import yaml

from run_experiment.common.errors import InputError, Problem
from run_experiment.common.paths import SUMMARY
from run_experiment.evaluation.settings import VLLM

if TYPE_CHECKING:
    from run_experiment.experiment.model import Evaluation, Generation

# Options of vLLM by which GPUs share a model.
_SHARING = {"tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"}

# Paths that YAML reads as the text that they are; of others it is asked, which takes longer.
_PATH = re.compile(r"[A-Za-z/.][\w.-]*/[\w./-]*", re.ASCII)


def eval_command(
    evaluation: Evaluation,
    *,
    task: str,
    model_path: str,
    tokenizer_path: str,
    task_config: str,
    vllm_environment: str | None = None,
    gpus: int = 1,
) -> list[str]:
    """Argument list that evaluates the model at `model_path`: a whole model's folder or a published adapter's.

    `task` is `file.py@function`: with the function named, a path is taken as it is; without, it is a glob pattern.
    The tokenizer is the base model's; a whole model may have its own. `task_config` is the file of the task's
    arguments: `-T` values would be read as YAML. INSPECT_LOG_DIR says where the log goes, INSPECT_EVAL_MAX_CONNECTIONS
    how many samples are computed at once. Paths may be relative to the folder where the command runs.
    `vllm_environment` is a line that activates the environment of a vLLM server, if that has one of its own.
    `gpus` share the model. Raises InputError for a model path that inspect-ai cannot be given.
    """
    paths = [*model_argument("model_path", model_path), *model_argument("tokenizer_path", tokenizer_path)]
    if evaluation.generation.backend == "vllm":
        server = vllm_command(evaluation.generation, model_path, tokenizer_path, vllm_environment, gpus)
        # The server's program adds the arguments of the model.
        model = ["--model", f"{VLLM}/{evaluation.run.model.name}"]
    else:
        # The numbers' format that the weights were saved in; transformers would load all as fp32.
        server, model = [], ["--model", f"hf/{evaluation.run.model.name}", *paths, *model_argument("dtype", "auto")]
        # By itself inspect-ai uses the first GPU, whatever the job has.
        model += model_argument("device", "auto") if gpus > 1 else []
    return [
        *server,
        "inspect",
        "eval-set",
        task,
        *model,
        *_template_options(evaluation.prompting.dataset_type),
        *_generation_options(evaluation.generation),
        *("--task-config", task_config),
        # The job retries, with less at once if memory ran out.
        *("--retry-attempts", "0"),
        # A log of a model that lay elsewhere then is no error: it is not continued.
        "--log-dir-allow-dirty",
        *("--log-format", "eval"),
        *("--display", "plain"),
    ]


def vllm_command(
    generation: Generation, model_path: str, tokenizer_path: str, environment: str | None, gpus: int
) -> list[str]:
    """What is put before the command of an evaluation to start and to end its vLLM server on `gpus` GPUs."""
    options = {name: value for name, value in generation.vllm_options.items() if value is not False}
    if gpus > 1 and not options.keys() & _SHARING:
        options["tensor-parallel-size"] = gpus
    return [
        *("python", "-m", "run_experiment.evaluation.vllm.server"),
        *("--model-path", model_path),
        *("--tokenizer-path", tokenizer_path),
        *(("--environment", environment) if environment else ()),
        *("--seed", str(generation.seed)),
        *(f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()),
        "--",
    ]


def former_eval_command(command: list[str], generation: Generation) -> list[str]:
    """The command that was rendered for the same evaluation before `inspect eval-set` was used."""
    task_config = command.index("--task-config")
    return [
        *("inspect", "eval", *command[2:task_config]),
        *("--max-connections", str(generation.max_connections)),
        *command[task_config : task_config + 2],
        *("--log-format", "eval", "--display", "plain"),
    ]


def _template_options(dataset_type: str) -> list[str]:
    return ["-M", "use_chat_template=false"] if dataset_type == "text_completion" else []


def _generation_options(generation: Generation) -> list[str]:
    # A temperature of 0 means the likeliest token; transformers refuses to sample with it.
    sample = generation.do_sample and generation.temperature != 0
    options = ["-M", f"do_sample={'true' if sample else 'false'}", "--seed", str(generation.seed)]
    if sample and generation.temperature is not None:
        options += ["--temperature", str(generation.temperature)]
    if generation.max_tokens is not None:
        options += ["--max-tokens", str(generation.max_tokens)]
    if generation.logprobs:
        options.append("--logprobs")
        options += [] if generation.top_logprobs is None else ["--top-logprobs", str(generation.top_logprobs)]
    return options


def model_argument(name: str, value: str) -> list[str]:
    """One `-M` option; inspect-ai reads the value as YAML and splits text at commas, quoted or not."""
    if "," in value:
        problem = f"{value}: inspect-ai takes a path with a comma for a list; rename the folder"
        raise InputError(SUMMARY, [Problem(0, name, problem)])
    return ["-M", f"{name}={value if _is_plain(value) else json.dumps(value, ensure_ascii=False)}"]


@cache
def _is_plain(value: str) -> bool:
    if _PATH.fullmatch(value):
        return True
    try:
        return bool(yaml.safe_load(value) == value)
    except yaml.YAMLError:
        return False
