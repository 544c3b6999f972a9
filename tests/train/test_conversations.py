"""Rows of several turns: prompts as inspect-ai's own provider feeds them, answers that are trained, templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finetuned import make_training, parse_config
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from provider_inputs import provider_inputs
from tiny_model import make_tiny_model

from run_experiment.finetuning.encoder import IGNORE_INDEX, Encoder, encoded_split
from run_experiment.finetuning.model_check import ModelCheck, check_model
from run_experiment.finetuning.tokenizer import load_tokenizer
from run_experiment.inputs.data_files import DataError
from run_experiment.trainers.trl_config import render

KINDS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
TURNS = [("user", "apple"), ("assistant", "APPLE"), ("user", "river"), ("assistant", "RIVER"), ("user", "fox")]
CONVERSATIONS = [
    TURNS,
    TURNS[:1],
    [("system", "Be brief.\n"), *TURNS],
    [("user", " a\n\n<|im_end|>"), ("assistant", '\n é "🦊" \n'), ("user", "{b}\n")],
]


def row(turns: list[tuple[str, str]], answer: str = "FOX") -> dict[str, Any]:
    """A row of training data in which turns are answered."""
    return {"messages": [{"role": role, "content": content} for role, content in [*turns, ("assistant", answer)]]}


def encoder_of(model: Path, *, template: str = "", **given: Any) -> Encoder:
    tokenizer = load_tokenizer(str(model)).tokenizer
    if template:
        tokenizer.chat_template = template
    options = {"dataset_type": "chat_completion", "prompt": "{input}", "system_prompt": "", **given}
    return Encoder(tokenizer, **options)


@pytest.mark.parametrize(("architecture", "chat_template"), [("llama", True), ("llama", False), ("qwen2", True)])
def test_prompts_are_those_of_the_evaluation(tmp_path: Path, architecture: Any, chat_template: bool) -> None:
    model = make_tiny_model(tmp_path / "model", architecture=architecture, chat_template=chat_template)
    encoder = encoder_of(model)
    ours = [encoder.encode(row(turns)).prompt for turns in CONVERSATIONS]
    asked: list[list[ChatMessage]] = [[KINDS[role](content=text) for role, text in turns] for turns in CONVERSATIONS]
    # The provider's queue keeps no order.
    assert sorted(ours) == sorted(provider_inputs(model, asked))
    assert len(set(map(tuple, ours))) == len(CONVERSATIONS)


def test_a_system_message_takes_the_place_of_the_system_prompt(llama: Path) -> None:
    with_prompt, plain = encoder_of(llama, system_prompt="Be kind."), encoder_of(llama)
    kind = ("system", "Be kind.")
    assert with_prompt.encode(row(TURNS)) == plain.encode(row([kind, *TURNS])) != plain.encode(row(TURNS))
    brief = row([("system", "Be brief."), *TURNS])
    assert with_prompt.encode(brief) == plain.encode(brief)
    # A conversation of one turn is the same as an input and its output.
    assert plain.encode(row([("user", "apple")], "APPLE")) == plain.encode({"input": "apple", "output": "APPLE"})


@pytest.mark.parametrize(
    ("architecture", "answers"),
    [
        ("llama", ["APPLE<|eot_id|>", "RIVER<|eot_id|>", "FOX<|eot_id|>"]),
        ("qwen2", ["APPLE<|im_end|>\n", "RIVER<|im_end|>\n", "FOX<|im_end|>\n"]),
    ],
)
def test_answers_that_are_trained(tmp_path: Path, architecture: Any, answers: list[str]) -> None:
    model = make_tiny_model(tmp_path / "model", architecture=architecture)
    tokenizer = load_tokenizer(str(model)).tokenizer
    data = tmp_path / "words.jsonl"
    data.write_text(json.dumps(row(TURNS)) + "\n")
    limits: dict[str, Any] = {"first": None, "columns": ("input", "output"), "train_on_input": False}
    for mask_history, trained in ((True, answers[-1:]), (False, answers)):
        encoder = encoder_of(model, mask_history=mask_history)
        (sample,) = encoded_split(encoder, [data], "train", max_seq_len=500, **limits)
        assert len(sample["tokens"]) == len(sample["labels"])
        counted = [label for label in sample["labels"] if label != IGNORE_INDEX]
        assert tokenizer.decode(counted) == "".join(trained)
        # Each answer follows what an evaluation of the conversation until then feeds the model.
        begins = [index for index, label in enumerate(sample["labels"]) if label != IGNORE_INDEX]
        begins = [index for index in begins if index - 1 not in begins]
        asked = [encoder.encode(row(TURNS[: place + 1])).prompt for place in (0, 2, 4)[-len(trained) :]]
        assert [sample["tokens"][:index] for index in begins] == asked


@pytest.mark.torchtune
def test_both_trainers_make_the_same_samples(llama: Path, tmp_path: Path) -> None:
    from run_experiment.finetuning.dataset import PromptCompletionDataset
    from run_experiment.trainers.trl_recipe import samples

    data = tmp_path / "words.jsonl"
    data.write_text("".join(json.dumps(row(turns)) + "\n" for turns in (TURNS, TURNS[:3])))
    training = make_training(llama, data, prompt="{input}", mask_history=False, max_seq_len=500)
    tokenizer = load_tokenizer(str(llama))
    by_trl = samples(tokenizer, render(training, "artifacts", tmp_path)["dataset"] | {"data": str(data)})
    given = dict(parse_config(training, tmp_path).dataset) | {"data": str(data)}
    given.pop("_component_")
    by_torchtune = PromptCompletionDataset(tokenizer, **given)
    assert [one["labels"] for one in by_trl] == [by_torchtune[index]["labels"] for index in range(2)]
    assert [one["input_ids"] for one in by_trl] == [by_torchtune[index]["tokens"] for index in range(2)]
    # Each word of a user is answered.
    end = tokenizer.tokenizer.eos_token_id
    assert [one["labels"].count(end) for one in by_trl] == [3, 2]


# What it shows of an answer is another thing while that is the last message.
SHORTENING = (
    "{%- for m in messages %}{{- '<' + m['role'] + '>' + m['content'] }}"
    "{%- if loop.last or m['role'] == 'user' %}{{- '<end>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}"
)


def test_answers_without_an_exact_place_are_refused(llama: Path, tmp_path: Path) -> None:
    assert encoder_of(llama, template=SHORTENING).encode(row(TURNS))
    with pytest.raises(DataError, match=r"the answer in message 2 otherwise .* the last answer only"):
        encoder_of(llama, template=SHORTENING, mask_history=False).encode(row(TURNS))
    bare = make_tiny_model(tmp_path / "bare", chat_template=False)
    with pytest.raises(DataError, match="needs a chat template"):
        encoder_of(bare, mask_history=False).encode(row(TURNS))
    with pytest.raises(DataError, match=r"without the prompt 'Say: \{input\}'"):
        encoder_of(llama, prompt="Say: {input}").encode(row(TURNS))


def test_the_check_of_a_model_names_the_row_and_counts_all_answers(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    data = tmp_path / "words.json"
    data.write_text(json.dumps({"train": [{"input": "a", "output": "A"}, row(TURNS)]}))
    facts: dict[str, Any] = {"name": "tiny", "config": {}, "model": "tiny", "tokenizer": str(model), "evaluated": True}
    facts |= {"weights": str(model), "dataset_type": "chat_completion", "prompt": "{input}", "system_prompt": ""}
    facts |= {"data": [str(data)], "splits": ("train",), "max_seq_len": 500}
    one, each = (check_model(ModelCheck(**facts, mask_history=mask)).train for mask in (True, False))
    encoded = encoder_of(model, mask_history=False).encode(row(TURNS))
    assert each.answer_tokens - one.answer_tokens == sum(end - begin for begin, end in encoded.answers) > 0
    (model / "chat_template.jinja").write_text(SHORTENING)
    with pytest.raises(DataError, match="row 2 of split train: the model's chat template shows the answer"):
        check_model(ModelCheck(**facts, mask_history=False))
