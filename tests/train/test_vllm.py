"""inspect-ai evaluates through a server that speaks vLLM's interface: prompts, settings, answers, what is logged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from evaluations import TASKS, inspect, make_evaluation, newest_log, write_data
from vllm_server_stand_in import CONTEXT, VERSION, StandIn

from run_experiment.evaluation.command import eval_command
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome, require_success
from run_experiment.finetuning.encoder import Encoder
from run_experiment.finetuning.tokenizer import load_tokenizer

PROMPT = "Capitalize: {input}"
# The last one leaves no room for an answer.
WORDS = ("apple", "river", "fox " * CONTEXT)


class Evaluated(NamedTuple):
    """What an evaluation left."""

    outcome: EvalOutcome
    log: Any
    stand_in: StandIn
    output: str


@pytest.fixture(scope="module")
def evaluated(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """An evaluation of an adapter, with log probabilities."""
    from inspect_ai.log import read_eval_log

    folder = tmp_path_factory.mktemp("vllm")
    adapter, stand_in = folder / "adapter: 1", StandIn(folder / "records.jsonl")
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": str(llama)}))
    data = write_data(folder / "data.json", *WORDS)
    (folder / "arguments.yaml").write_text(yaml.safe_dump({"data_path": str(data), "prompt": PROMPT}))
    evaluation = make_evaluation(
        llama, backend="vllm", logprobs=True, top_logprobs=2, vllm_options={"enforce_eager": True}
    )
    command = eval_command(
        evaluation,
        task=f"{TASKS}@words",
        model_path=str(adapter),
        tokenizer_path=str(llama),
        task_config="arguments.yaml",
    )
    places = {"XDG_CACHE_HOME": str(folder / "cache"), "INSPECT_LOG_DIR": "logs", "INSPECT_EVAL_MAX_CONNECTIONS": "256"}
    ended = inspect(command, folder, {**os.environ, **stand_in.environment, **places})
    log = newest_log(folder / "logs")
    assert log is not None, ended.stdout + ended.stderr
    return Evaluated(read_outcome(log), read_eval_log(str(log)), stand_in, ended.stdout + ended.stderr)


def test_it_is_evaluated(evaluated: Evaluated) -> None:
    require_success(evaluated.outcome)
    assert (evaluated.outcome.model, evaluated.outcome.vllm_version) == ("vllm-tokens/tiny", VERSION)
    assert evaluated.outcome.completed_samples == len(WORDS)
    assert not evaluated.stand_in.alive()


def test_the_server_got_the_tokens_that_are_trained_on(evaluated: Evaluated, llama: Path) -> None:
    encoder = Encoder(load_tokenizer(str(llama)).tokenizer, "chat_completion", PROMPT, "")
    trained = [encoder.encode({"input": word, "output": ""})[0] for word in WORDS[:2]]
    assert sorted(request["prompt"] for request in evaluated.stand_in.recorded("request")) == sorted(trained)


def test_it_is_asked_as_hf_is(evaluated: Evaluated) -> None:
    for request in evaluated.stand_in.recorded("request"):
        assert (request["path"], request["model"]) == ("/v1/completions", "adapter")
        assert (request["temperature"], request["max_tokens"], request["logprobs"]) == (0, 4, 2)
        assert "authorization" not in request["headers"]
    assert (evaluated.stand_in.options["--dtype"], evaluated.stand_in.options["--max-lora-rank"]) == ("float32", "8")
    assert "--enforce-eager" in evaluated.stand_in.recorded("start")[0]["arguments"]


def test_answers_are_decoded_as_hf_decodes(evaluated: Evaluated, llama: Path) -> None:
    tokenizer = load_tokenizer(str(llama)).tokenizer
    for sample in evaluated.log.samples[:2]:
        [choice] = sample.output.choices
        prompt = next(
            one["prompt"]
            for one in evaluated.stand_in.recorded("request")
            if sample.input in tokenizer.decode(one["prompt"])
        )
        assert choice.message.text == tokenizer.decode(prompt[-4:], skip_special_tokens=True)
        assert [one.token for one in choice.logprobs.content] == tokenizer.convert_ids_to_tokens(prompt[-4:])
        top = choice.logprobs.content[0].top_logprobs
        assert [one.logprob for one in top] == [-0.25, -1.5]
        assert sample.output.usage.input_tokens == len(prompt)


def test_a_prompt_without_room_for_an_answer_has_none(evaluated: Evaluated) -> None:
    output = evaluated.log.samples[2].output
    assert output.stop_reason == "model_length"
    assert f"vLLM serves {CONTEXT}" in output.completion
