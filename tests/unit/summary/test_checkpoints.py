"""Models and checkpoints that would be evaluated as something else: refused, or warned of, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from good_summary import changed, errors, read, write

GIVEN = changed(("type: control", "type: eval-only\n    checkpoint_path: elsewhere/epoch_0"))
PLACE = "runs[2].checkpoint_path"
ADAPTER = "elsewhere/epoch_0/adapter_config.json"


def warnings(folder: Path, text: str = GIVEN) -> list[str]:
    return [line.replace(str(folder), "DIR") for line in read(folder, text)[1]]


def test_a_model_folder_with_adapter_files_is_refused(folder: Path) -> None:
    write(folder, "models/tiny/adapter_config.json", "{}")
    (line,) = errors(folder, changed())
    assert "DIR/models/tiny" in line
    assert "holds adapter_config.json, so transformers would load an adapter in place of the model" in line


@pytest.mark.parametrize(
    "kind", ["PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "ADAPTION_PROMPT"]
)
def test_prompt_learning_is_refused(folder: Path, kind: str) -> None:
    write(folder, ADAPTER, json.dumps({"peft_type": kind}))
    (line,) = errors(folder, GIVEN)
    assert line.endswith(f"{PLACE}: DIR/{ADAPTER}: peft_type {kind} is prompt learning, which transformers cannot load")


@pytest.mark.parametrize(
    ("trained_on", "is_other"),
    [
        ("some-org/another-model", True),
        ("/elsewhere/Tiny-Instruct/", True),
        ("hub/models--org--other/snapshots/0123", True),
        ("org/tiny", False),
        ("/old/place/models/TINY/", False),
        ("hub/models--org--Tiny/snapshots/0123", False),
        ("C:\\\\models\\\\tiny", False),
        ("C:\\\\models\\\\other", True),
        (None, False),
        ("", False),
        (["?"], False),
    ],
)
def test_an_adapter_of_another_model_is_warned_of(folder: Path, trained_on: Any, is_other: bool) -> None:
    write(folder, ADAPTER, json.dumps({"base_model_name_or_path": trained_on}))
    found = [line for line in warnings(folder) if PLACE in line]
    assert len(found) == is_other
    if is_other:
        said = f'the adapter says that it was trained on "{trained_on}", and is evaluated on tiny (models/tiny)'
        assert found[0].endswith(said)


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_an_adapter_with_a_chat_template_of_its_own_is_warned_of(folder: Path, file: str) -> None:
    def template(text: str) -> str:
        return text if file.endswith("jinja") else json.dumps({"chat_template": text})

    write(folder, f"models/tiny/{file}", template("{{ base }}"))
    write(folder, f"elsewhere/epoch_0/{file}", template("{{ base }}\n"))
    assert not warnings(folder)
    write(folder, f"elsewhere/epoch_0/{file}", template("{{ other }}"))
    (line,) = warnings(folder)
    assert "has a chat template that is not the base model's; evaluations use the base model's" in line


def test_an_adapter_with_more_tokens_is_warned_of(folder: Path) -> None:
    write(folder, "models/tiny/tokenizer.json", json.dumps({"added_tokens": [{"content": "<|a|>"}]}))
    write(folder, "elsewhere/epoch_0/tokenizer.json", json.dumps({"added_tokens": [{"content": "<|a|>"}]}))
    assert not warnings(folder)
    tokens = {"added_tokens": [{"content": "<|a|>"}, {"content": "<|x|>"}]}
    write(folder, "elsewhere/epoch_0/tokenizer.json", json.dumps(tokens))
    (line,) = warnings(folder)
    assert "has tokens that the base model's tokenizer lacks (\"<|x|>\"); evaluations use the base model's" in line


@pytest.mark.parametrize(
    ("own", "warned"),
    [
        ([{"name": "default", "template": "{{ base }}"}, {"name": "rag", "template": "x"}], False),
        ([{"name": "default", "template": "{{ other }}"}], True),
    ],
)
def test_of_several_templates_the_default_counts(folder: Path, own: list[dict[str, str]], warned: bool) -> None:
    write(folder, "models/tiny/chat_template.jinja", "{{ base }}")
    write(folder, "elsewhere/epoch_0/tokenizer_config.json", json.dumps({"chat_template": own}))
    assert len(warnings(folder)) == warned


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<|x|>": 128}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"128": {"content": "<|x|>"}}}),
    ],
)
def test_more_tokens_stand_in_several_files(folder: Path, file: str, content: dict[str, Any]) -> None:
    write(folder, f"elsewhere/epoch_0/{file}", json.dumps(content))
    (line,) = warnings(folder)
    assert "has tokens that the base model's tokenizer lacks" in line


def test_an_adapter_whose_answers_end_otherwise_is_warned_of(folder: Path) -> None:
    write(folder, "models/tiny/tokenizer_config.json", json.dumps({"eos_token": {"content": "<|end|>"}}))
    write(folder, "elsewhere/epoch_0/tokenizer_config.json", json.dumps({"eos_token": "<|end|>"}))
    assert not warnings(folder)
    write(folder, "elsewhere/epoch_0/tokenizer_config.json", json.dumps({"eos_token": "<|im_end|>"}))
    (line,) = warnings(folder)
    assert line.endswith(
        'has "<|im_end|>" as the token that ends an answer, in place of "<|end|>"; evaluations use the base model\'s'
    )


def test_an_adapter_that_begins_at_random_each_time_is_warned_of(folder: Path) -> None:
    write(folder, ADAPTER, json.dumps({"init_lora_weights": "pissa"}))
    assert not warnings(folder)
    write(folder, ADAPTER, json.dumps({"init_lora_weights": "pissa_niter_4"}))
    (line,) = warnings(folder)
    assert f"{PLACE}: the adapter began as pissa_niter_4, which draws random numbers again whenever it is load" in line


def test_an_adapter_for_another_use_is_warned_of(folder: Path) -> None:
    write(folder, ADAPTER, json.dumps({"task_type": "CAUSAL_LM"}))
    assert not warnings(folder)
    write(folder, ADAPTER, json.dumps({"task_type": "SEQ_CLS"}))
    (line,) = warnings(folder)
    assert f'{PLACE}: the adapter was trained for "SEQ_CLS", and is evaluated by the text that its model gen' in line


@pytest.mark.parametrize(
    ("text", "message"), [("{", f"DIR/{ADAPTER} cannot be read: "), ("[]", f"DIR/{ADAPTER} is not a JSON object")]
)
def test_an_adapter_s_config_that_cannot_be_read_is_refused(folder: Path, text: str, message: str) -> None:
    write(folder, ADAPTER, text)
    (line,) = errors(folder, GIVEN)
    assert f"{PLACE}: {message}" in line


TASKS = {
    "nothing": "def cap(data_path: str, prompt: str = '', k: int = 1):\n    return match()",
    "scorer": "def cap(data_path: str, scorer: str, prompt: str = '', k: int = 1): ...",
    "scorers": "def cap(data_path: str, scorers: list, prompt: str = '', k: int = 1): ...",
    "all": "def cap(data_path: str, prompt: str = '', k: int = 1, **more): ...",
    "file": "def cap(data_path: str, config_path: str = '', k: int = 1): ...",
}


@pytest.mark.parametrize(
    ("task", "scorers", "lost"),
    [
        ("nothing", "[risk]", "takes neither scorer nor scorers, so its evaluations run without risk"),
        ("nothing", "[match]", None),
        # Its name is a part of another word.
        ("nothing", "[mat]", "run without mat"),
        ("file", "[risk, {name: f1, params: {x: 1}}]", None),
        ("nothing", "[{name: match, params: {x: 1}}, f1]", "run without match with its params, f1"),
        ("scorer", "[risk]", None),
        ("scorer", "[risk, f1]", "takes only one scorer by its name, so its evaluations run without f1"),
        ("scorer", "[{name: risk, params: {x: 1}}]", "run without risk with its params"),
        ("scorers", "[risk, {name: f1, params: {x: 1}}]", None),
        ("all", "[risk, {name: f1, params: {x: 1}}]", None),
        ("nothing", "[]", None),
    ],
)
def test_scorers_that_a_task_cannot_be_given_are_warned_of(
    folder: Path, task: str, scorers: str, lost: str | None
) -> None:
    write(folder, "cap.py", f"from inspect_ai import task\n\n@task\n{TASKS[task]}\n")
    text = changed(("evaluation:\n", f"evaluation:\n  scorers: {scorers}\n"))
    found = [line for line in warnings(folder, text) if "evaluations run without" in line]
    assert len(found) == (lost is not None)
    assert lost is None or lost in found[0]
