"""Whether an evaluation is the one that was asked for, by the settings in its log; and `.env` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec
from inspect_ai.model import GenerateConfig

from run_experiment.evaluation.environment import dotenv_settings, overridden
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.log_file import Spec
from run_experiment.evaluation.settings import log_settings, require_as_asked, task_settings

GREEDY = {"do_sample": False, "max_tokens": 7}
SAMPLED = {"do_sample": True, "max_tokens": None, "temperature": 0.5, "seed": 42}
OF_TASK = task_settings(Task())


def spec(**changes: Any) -> Spec:
    """What a log of `GREEDY` says, as inspect-ai writes it, with some fields replaced."""
    parts = {
        "config": {"epochs": 1, "fail_on_error": True, "log_samples": True, **changes.pop("config", {})},
        "model_generate_config": {"max_tokens": 7, "seed": 42, "max_connections": 8, **changes.pop("generate", {})},
    }
    written = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        dataset=EvalDataset(samples=2),
        model=changes.pop("model", "hf/tiny"),
        model_args={"do_sample": False} | changes.pop("model_args", {}),
        config=EvalConfig(**parts["config"]),
        model_generate_config=GenerateConfig(**parts["model_generate_config"]),
        **changes,
    )
    return Spec.model_validate_json(written.model_dump_json(exclude_none=True))


def check(log: Spec, generation: dict[str, Any] | None = None, of_task: dict[str, Any] = OF_TASK) -> None:
    config = {"task": {}, "generation": GREEDY if generation is None else generation}
    require_as_asked(log_settings(log), config, of_task, ["data_path"])


def test_what_was_asked_for_is_accepted() -> None:
    check(spec(task_args_passed={"data_path": "words.json"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {"epochs": 2}}, "epochs is 2 instead of 1"),
        ({"config": {"limit": 3}}, "limit is 3 instead of not set"),
        ({"config": {"limit": [1, 3]}}, r"limit is \[1,3\] instead of not set"),
        ({"config": {"sample_id": ["a"]}}, r'sample_id is \["a"\] instead of not set'),
        ({"config": {"sample_shuffle": True}}, "sample_shuffle is true instead of not set"),
        ({"config": {"message_limit": 4}}, "message_limit is 4 instead of not set"),
        ({"config": {"token_limit": 4}}, "token_limit is 4 instead of not set"),
        ({"config": {"time_limit": 4}}, "time_limit is 4 instead of not set"),
        ({"config": {"fail_on_error": False}}, "fail_on_error is false instead of true"),
        ({"generate": {"max_tokens": 9}}, "max_tokens is 9 instead of 7"),
        ({"generate": {"system_message": "Answer in French."}}, 'system_message is "Answer in French." instead of'),
        ({"generate": {"temperature": 0.3}}, "temperature is 0.3 instead of not set"),
        ({"generate": {"top_p": 0.3}}, "top_p is 0.3 instead of not set"),
        ({"generate": {"stop_seqs": ["\n"]}}, "stop_seqs is "),
        ({"generate": {"logprobs": True}}, "logprobs is true instead of not set"),
        ({"model_args": {"do_sample": True}}, "do_sample is true instead of false"),
        ({"model": "openai/gpt"}, 'model provider is "openai" instead of "hf"'),
        ({"solver": "cheat"}, 'solver is "cheat" instead of not set'),
        ({"task_args_passed": {"data_path": "w", "x": 1}}, 'task argument x is "given" instead of not set'),
        ({"task_args_passed": {}}, 'task argument data_path is not set instead of "given"'),
    ],
)
def test_any_other_setting_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EvalError, match=said):
        check(spec(**{"task_args_passed": {"data_path": "w"}, **changes}))


def test_the_provider_is_that_of_the_backend() -> None:
    vllm = GREEDY | {"backend": "vllm"}
    check(spec(model="vllm-tokens/tiny", task_args_passed={"data_path": "w"}), vllm)
    with pytest.raises(EvalError, match='model provider is "hf" instead of "vllm-tokens"'):
        check(spec(task_args_passed={"data_path": "w"}), vllm)


def test_all_differences_are_named_at_once() -> None:
    with pytest.raises(EvalError, match=r"epochs is 2 .*max_tokens is 9 .*INSPECT_EVAL_… variables of a \.env file"):
        check(spec(config={"epochs": 2}, generate={"max_tokens": 9}, task_args_passed={"data_path": "w"}))


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (Task(epochs=3), {"epochs": 3}),
        (Task(fail_on_error=0.5), {"fail_on_error": 0.5}),
        (Task(fail_on_error=False), {"fail_on_error": False}),
        (Task(message_limit=5, time_limit=60), {"message_limit": 5, "time_limit": 60}),
    ],
)
def test_the_task_s_own_settings_are_asked_for(task: Task, config: dict[str, Any]) -> None:
    passed = {"data_path": "w"}
    check(spec(config=config, task_args_passed=passed), of_task=task_settings(task))
    with pytest.raises(EvalError, match=f"{next(iter(config))} is "):
        check(spec(task_args_passed=passed), of_task=task_settings(task))


def test_settings_of_a_task_that_was_not_read_are_not_compared() -> None:
    check(spec(config={"epochs": 3}, task_args_passed={"data_path": "w"}), of_task={})
    with pytest.raises(EvalError, match="limit is 1"):
        check(spec(config={"epochs": 3, "limit": 1}, task_args_passed={"data_path": "w"}), of_task={})


def test_arguments_that_are_not_known_are_not_compared() -> None:
    config = {"task": {}, "generation": GREEDY}
    require_as_asked(log_settings(spec(task_args_passed={"x": 1})), config, OF_TASK, None)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.7), ("seed", 7), ("temperature", None)])
def test_sampled_answers_depend_on_temperature_and_seed(name: str, value: float | None) -> None:
    sampled = {"max_tokens": None, "temperature": 0.5, "seed": 42}
    passed = {"data_path": "w"}
    check(spec(generate=sampled, model_args={"do_sample": True}, task_args_passed=passed), SAMPLED)
    other = spec(generate=sampled | {name: value}, model_args={"do_sample": True}, task_args_passed=passed)
    with pytest.raises(EvalError, match=f"{name} is "):
        check(other, SAMPLED)


def test_options_in_dotenv_files_upwards_are_found_and_overridden(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / ".env").write_text("export INSPECT_EVAL_LIMIT=3\nHF_TOKEN=x\nINSPECT_LOG_DIR=logs\n")
    (tmp_path / "a/.env").write_text("INSPECT_EVAL_EPOCHS = 2\n  INSPECT_EVAL_SYSTEM_MESSAGE='a\nb'\n")
    found = dotenv_settings(tmp_path / "a/b")
    assert found == {
        str(tmp_path / "a/.env"): ["INSPECT_EVAL_EPOCHS", "INSPECT_EVAL_SYSTEM_MESSAGE"],
        str(tmp_path / ".env"): ["INSPECT_EVAL_LIMIT"],
    }
    assert overridden(found) == {name: "" for names in found.values() for name in names}
