"""Training samples: prompts as inspect-ai's own provider feeds them, completions, labels, unusable rows."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finetuned import write_data
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser
from provider_inputs import provider_inputs
from tiny_model import LLAMA_TEMPLATE, make_tiny_model
from transformers.utils import chat_template_utils

from run_experiment.evaluation.vllm import provider
from run_experiment.finetuning.encoder import IGNORE_INDEX, Encoder, Sample, encoded_split, make_sample
from run_experiment.finetuning.tokenizer import load_tokenizer
from run_experiment.inputs.data_files import DataError, read_splits
from run_experiment.inputs.template_dates import TemplateDates

PROMPTS = ["Capitalize: {input}", "  {input}\n\n", "{input}\n<|eot_id|><|im_end|>", 'é "🦊" {{"a": {input}}}']
SYSTEM_PROMPTS = ["", "You are helpful.\n"]


def vllm_prompt(model: Path, conversation: list[ChatMessage], **model_args: Any) -> list[int]:
    """The token ids that our provider has a vLLM server answer to."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(provider, "_served_model", lambda: ("base", 2048))
        return provider.VllmTokensAPI("local", tokenizer_path=str(model), **model_args).prompt(conversation, [])


@pytest.mark.parametrize(
    ("architecture", "chat_template", "dataset_type"),
    [
        ("llama", True, "chat_completion"),
        ("llama", False, "chat_completion"),
        ("llama", True, "text_completion"),
        ("qwen2", True, "chat_completion"),
    ],
)
def test_prompts_are_those_of_the_evaluation(
    tmp_path: Path, architecture: Any, chat_template: bool, dataset_type: str
) -> None:
    model = make_tiny_model(tmp_path / "model", architecture=architecture, chat_template=chat_template)
    tokenizer = load_tokenizer(str(model)).tokenizer
    cases = [(prompt, system) for prompt in PROMPTS for system in SYSTEM_PROMPTS]
    ours = [
        Encoder(tokenizer, dataset_type, prompt, system).encode({"input": "apple", "output": "Apple"})[0]
        for prompt, system in cases
    ]
    conversations: list[list[ChatMessage]] = [
        [
            *([ChatMessageSystem(content=system)] if system else []),
            ChatMessageUser(content=prompt.format(input="apple")),
        ]
        for prompt, system in cases
    ]
    model_args = {"use_chat_template": False} if dataset_type == "text_completion" else {}
    theirs = provider_inputs(model, conversations, **model_args)
    # The provider's queue keeps no order.
    assert sorted(ours) == sorted(theirs)
    assert len(set(map(tuple, ours))) == len(cases)
    assert [vllm_prompt(model, conversation, **model_args) for conversation in conversations] == ours


def test_bos_is_doubled_as_in_the_evaluation(llama: Path) -> None:
    tokenizer = load_tokenizer(str(llama)).tokenizer
    prompt = Encoder(tokenizer, "chat_completion", "{input}", "").encode({"input": "a", "output": "b"}).prompt
    assert prompt[:3].count(tokenizer.bos_token_id) == 2


@pytest.mark.parametrize(
    ("architecture", "dataset_type", "completion"),
    [
        ("llama", "chat_completion", "Apple<|eot_id|>"),
        ("llama", "text_completion", "Apple<|eot_id|>"),
        ("qwen2", "chat_completion", "Apple<|im_end|>\n"),
        ("qwen2", "text_completion", "Apple<|im_end|>"),
    ],
)
def test_completion(tmp_path: Path, architecture: Any, dataset_type: str, completion: str) -> None:
    tokenizer = load_tokenizer(str(make_tiny_model(tmp_path, architecture=architecture))).tokenizer
    encoder = Encoder(tokenizer, dataset_type, "{input}", "")
    assert tokenizer.decode(encoder.encode({"input": "apple", "output": "Apple"})[1]) == completion


def test_numbers_are_taken_as_text(llama: Path) -> None:
    encoder = Encoder(load_tokenizer(str(llama)).tokenizer, "chat_completion", "{input}", "")
    assert encoder.encode({"input": 2, "output": 4}) == encoder.encode({"input": "2", "output": "4"})


def test_labels() -> None:
    sample = make_sample([1, 2, 3], [4, 5], train_on_input=False, max_seq_len=9)
    assert sample == {"tokens": [1, 2, 3, 4, 5], "labels": [IGNORE_INDEX] * 3 + [4, 5]}
    sample = make_sample([1, 2, 3], [4, 5], train_on_input=True, max_seq_len=9)
    assert sample["labels"] == [IGNORE_INDEX, 2, 3, 4, 5]


def test_cut() -> None:
    sample = make_sample([1, 2, 3], [4, 5, 6], train_on_input=False, max_seq_len=4)
    assert sample == {"tokens": [1, 2, 3, 4], "labels": [IGNORE_INDEX] * 3 + [4]}
    with pytest.raises(DataError, match="3 tokens, so max_seq_len 3"):
        make_sample([1, 2, 3], [4, 5, 6], train_on_input=True, max_seq_len=3)


def load(model: Path, data: Path, max_seq_len: int = 2048) -> list[Sample]:
    encoder = Encoder(load_tokenizer(str(model)).tokenizer, "chat_completion", "Capitalize: {input}", "")
    limits: dict[str, Any] = {"first": None, "train_on_input": False, "max_seq_len": max_seq_len}
    return encoded_split(encoder, [data], "train", columns=("input", "output"), **limits)


def test_split_is_read_in_order(llama: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "words.json")
    dataset = load(llama, data)
    tokenizer = load_tokenizer(str(llama)).tokenizer
    texts = [tokenizer.decode(dataset[index]["tokens"]) for index in range(len(dataset))]
    rows = read_splits(data)["train"]
    assert len(texts) == len(rows)
    assert all(text.endswith(f"{row['output']}<|eot_id|>") for text, row in zip(texts, rows, strict=True))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": [{"input": "a", "output": "b"}, {"input": "a"}]}, r"words.json: train\[1\]: no `output`"),
        ({"train": [{"output": None}]}, r"train\[0\]: no `input` and no `output`"),
        ({"test": [{"input": "a", "output": "b"}]}, "no split `train`; there is test"),
    ],
)
def test_unusable_rows_are_named(llama: Path, tmp_path: Path, content: Any, message: str) -> None:
    data = tmp_path / "words.json"
    data.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(llama, data)


def test_a_row_without_room_for_its_answer_is_named(llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "words.json"
    rows = [{"input": "a", "output": "b"}, {"input": "a" * 500, "output": "b"}]
    data.write_text(json.dumps({"train": rows}))
    with pytest.raises(DataError, match=r"train\[1\]: its prompt has \d+ tokens"):
        load(llama, data, max_seq_len=300)


def test_a_template_that_rewrites_the_prompt_is_refused(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path)
    tokenizer = load_tokenizer(str(model)).tokenizer
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    encoder = Encoder(tokenizer, "chat_completion", "{input}", "")
    with pytest.raises(DataError, match="right after the prompt"):
        encoder.encode({"input": "a", "output": "b"})


def test_tokenizer_pads_with_its_pad_token(llama: Path) -> None:
    tokenizer = load_tokenizer(str(llama))
    assert tokenizer.pad_id == tokenizer.tokenizer.pad_token_id


def encoder_of(
    model: Path, dataset_type: str = "chat_completion", system_prompt: str = "", template: str = ""
) -> Encoder:
    tokenizer = load_tokenizer(str(model)).tokenizer
    tokenizer.chat_template = template + (tokenizer.chat_template or "") if template else tokenizer.chat_template
    return Encoder(tokenizer, dataset_type, "{input}", system_prompt)


def test_prompts_that_a_model_cannot_take(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    refusing = "{%- if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{%- endif %}"
    row = {"input": "a", "output": "A"}
    assert encoder_of(model, template=refusing).encode(row)
    with pytest.raises(DataError, match=r"refuses the prompt \(with a system prompt\): no system role"):
        encoder_of(model, system_prompt="Be brief.", template=refusing).encode(row)
    thinking = "{%- if add_generation_prompt %}{{- '<think>' }}{%- endif %}"
    with pytest.raises(DataError, match="right after the prompt"):
        encoder_of(model, template=thinking).encode(row)
    tokenizer = load_tokenizer(str(model)).tokenizer
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no eos token"):
        Encoder(tokenizer, "text_completion", "{input}", "").encode(row)


SAID = "{{- '<' + message['role'] + '>' + message['content'] + '\n' }}"
PARTS = "{%- for part in message['content'] if part.type == 'text' %}{{- part.text }}{%- endfor %}"
# A template's treatment of a message, the system prompt, and what is said of it.
TEMPLATES = {
    "for lists of contents": (PARTS, "", "a part of the prompt"),
    "without system messages": (f"{{%- if message['role'] != 'system' %}}{SAID}{{%- endif %}}", "Hi.", "the system"),
    "without reasoning": (SAID.replace("']", "'].split('</think>')[-1]", 2), "", "a part of the answer"),
    "of other types": ("{{- message['content'] + message['content'] | length }}", "", "can only concatenate str"),
}


@pytest.mark.parametrize(("template", "system_prompt", "reason"), TEMPLATES.values(), ids=TEMPLATES)
def test_templates_that_leave_something_out(llama: Path, template: str, system_prompt: str, reason: str) -> None:
    tokenizer = load_tokenizer(str(llama)).tokenizer
    row = {"input": "a  b", "output": " <think>\nc\n</think>\n\nd "}

    def encoded(one: str) -> object:
        loop = f"{{%- for message in messages %}}{one}{{%- endfor %}}"
        tokenizer.chat_template = f"{loop}{{%- if add_generation_prompt %}}{{{{- '<assistant>' }}}}{{%- endif %}}"
        return Encoder(tokenizer, "chat_completion", "Say: {input}", system_prompt).encode(row)

    assert encoded(SAID.replace("message['content']", "message['content'] | trim"))
    with pytest.raises(DataError, match=reason):
        encoded(template)


DATED = (
    "{{- bos_token }}{%- if strftime_now is defined %}{%- set day = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + day + '<|eot_id|>' }}"
    f"{LLAMA_TEMPLATE.removeprefix('{{- bos_token }}')}"
)


def test_prompts_with_a_date_are_those_of_an_evaluation_on_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(DATED)
    (tmp_path / "template_date.txt").write_text("2026-01-05")
    dates = TemplateDates(tmp_path)
    assert dates.is_shown(model)
    dates.write_tokenizer(model, tmp_path / "r4/tokenizer")

    def encoded(folder: Path) -> list[int]:
        return Encoder(load_tokenizer(str(folder)).tokenizer, "chat_completion", "{input}", "").encode(
            {"input": "apple", "output": "Apple"}
        )[0]

    def begin_day(day: int) -> None:
        now = SimpleNamespace(now=lambda: datetime(2026, 1, day))
        monkeypatch.setattr(chat_template_utils, "datetime", now)

    begin_day(5)
    today = encoded(tmp_path / "r4/tokenizer")
    assert today == encoded(model)
    begin_day(6)
    conversation: list[ChatMessage] = [ChatMessageUser(content="apple")]
    tokenizer = {"tokenizer_path": str(tmp_path / "r4/tokenizer")}
    assert provider_inputs(model, [conversation], **tokenizer) == [today] == [encoded(tmp_path / "r4/tokenizer")]
    assert provider_inputs(model, [conversation]) != [today], "the fault that the kept date mends"
