"""The check of a model on a login node finds what a job would have failed with, or trained in silence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from tiny_model import make_tiny_model

from run_experiment.common.json_files import canonical
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.encoder import IGNORE_INDEX, Encoder, encoded_split
from run_experiment.finetuning.model_check import ModelCheck, TrainingSplit, check_model
from run_experiment.finetuning.tokenizer import load_tokenizer
from run_experiment.inputs.data_files import DataError

ROWS = [{"input": word, "output": word.upper()} for word in ("apple", "river", "stone")]
LONG = {"input": "word " * 40, "output": "WORD"}

REASONING = (
    "{%- for m in messages %}{%- if m['role'] == 'assistant' %}{{- '<|im_start|>assistant\n' + m['content'] }}"
    "{%- else %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
NO_SYSTEM = (
    "{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}"
    "{%- for m in messages %}{{- m['role'] + ': ' + m['content'] + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
)


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(llama, tmp_path / "model"))


def write_data(folder: Path, rows: list[dict[str, str]]) -> list[str]:
    path = folder / "words.json"
    path.write_text(json.dumps({"train": rows, "validation": ROWS[:1]}))
    return [str(path)]


def training(model: Path, rows: list[dict[str, str]], **changes: Any) -> ModelCheck:
    """The check of a training on these rows."""
    check = ModelCheck(
        name="tiny-1",
        config={},
        model="tiny",
        tokenizer=str(model),
        weights=str(model),
        dataset_type="chat_completion",
        prompt="Shout: {input}",
        system_prompt="Be loud.",
        evaluated=True,
        data=write_data(model.parent, rows),
        splits=["train"],
        max_seq_len=100,
    )
    return replace(check, **changes)


def evaluation(model: Path, **changes: Any) -> ModelCheck:
    """The check of a model that is evaluated as it is."""
    return training(model, ROWS, prompt="{input}", **{"data": [], "splits": (), "max_seq_len": 0, **changes})


def edit_json(path: Path, **values: Any) -> None:
    content = {name: value for name, value in {**json.loads(path.read_text()), **values}.items() if value is not ...}
    path.write_text(json.dumps(content))


def without_eos(model: Path) -> None:
    # transformers 5 writes only the first.
    for path in (model / "tokenizer_config.json", model / "special_tokens_map.json"):
        if path.exists():
            edit_json(path, eos_token=...)


def template(text: str) -> Callable[[Path], None]:
    return lambda model: (model / "chat_template.jinja").write_text(text) and None


def extra_token(model: Path) -> None:
    """A tokenizer with one token more than the embedding has rows, which pads."""
    tokenizer = load_tokenizer(str(model)).tokenizer
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    tokenizer.save_pretrained(model)


def extra_word(model: Path) -> None:
    tokenizer = load_tokenizer(str(model)).tokenizer
    tokenizer.add_tokens(["river"])
    tokenizer.save_pretrained(model)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer files": (lambda model: (model / "tokenizer.json").write_text("{}"), "its tokenizer does not load"),
    "no eos token": (without_eos, "no eos token"),
    "reasoning template": (template(REASONING), "train.*does not put the answer right after the prompt"),
    "no system prompts": (template(NO_SYSTEM), r"refuses the prompt \(with a system prompt\): System role not"),
    "broken template": (template("{% for m in messages %}"), "template"),
    "pad token beyond the embedding": (
        extra_token,
        r"fills up batches has the token '<\|new\|>' with id \d+, but .* rows",
    ),
    "unknown architecture": (
        lambda model: edit_json(model / "config.json", model_type="newest"),
        "transformers cannot load its config.json .*newest",
    ),
    "no language model": (
        lambda model: edit_json(model / "config.json", model_type="t5"),
        "its architecture, 't5', is no language model",
    ),
    "template in another encoding": (
        lambda model: (model / "chat_template.jinja").write_bytes(b"caf\xe9"),
        "its tokenizer does not load .UnicodeDecodeError",
    ),
    "word beyond the embedding": (extra_word, "row 2 of split train has the token 'river' with id"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_model_is_refused(model: Path, damage: Callable[[Path], Any], message: str) -> None:
    assert check_model(training(model, ROWS)).rows == 3
    damage(model)
    with pytest.raises((ModelError, DataError), match=message):
        check_model(training(model, ROWS))


DAMAGES_OF_EVALUATIONS = (
    *("no tokenizer files", "no eos token", "no system prompts", "broken template", "unknown architecture"),
    "no language model",
)


@pytest.mark.parametrize("damage", DAMAGES_OF_EVALUATIONS)
def test_model_that_is_only_evaluated(model: Path, damage: str) -> None:
    assert check_model(evaluation(model)).rows == 0
    DAMAGES[damage][0](model)
    with pytest.raises((ModelError, DataError), match=str(model)):
        check_model(evaluation(model))


def test_text_completion_needs_no_template(model: Path) -> None:
    template(NO_SYSTEM)(model)
    assert check_model(training(model, ROWS, dataset_type="text_completion")).rows == 3
    assert check_model(training(model, ROWS, system_prompt="")).rows == 3


def test_a_model_without_a_chat_template_is_warned_of(tmp_path: Path) -> None:
    """Its prompts are those of text completion."""
    plain = make_tiny_model(tmp_path / "plain", chat_template=False)
    for check in (training(plain, ROWS), evaluation(plain)):
        facts, text = check_model(check), check_model(replace(check, dataset_type="text_completion"))
        assert facts.odd == (
            "tiny has no chat template, so training and evaluation give it lines such as 'user: …' instead; "
            "write dataset_type: text_completion, which gives the same, or use a model that has one",
        )
        assert (text.odd, text.longest) == ((), facts.longest)


def test_a_model_with_a_chat_template_is_not_warned_of(model: Path) -> None:
    assert check_model(training(model, ROWS)).odd == check_model(evaluation(model)).odd == ()


def test_answers_that_do_not_end_where_generating_stops(model: Path) -> None:
    """As of a base model with the chat template of its instruct model: its evaluations go on to max_tokens."""
    ids = {name: load_tokenizer(str(model)).tokenizer.convert_tokens_to_ids(name) for name in ("<|eot_id|>", "<|pad|>")}
    stops = model / "generation_config.json"
    edit_json(stops, eos_token_id=[ids["<|pad|>"]])
    (said,) = check_model(training(model, ROWS)).odd
    assert said == (
        "tiny is trained to end answers with <|eot_id|>, but generating stops at <|pad|>: "
        f"add {ids['<|eot_id|>']} to eos_token_id in its generation_config.json"
    )
    edit_json(stops, eos_token_id=[*ids.values()])
    assert check_model(training(model, ROWS)).odd == ()
    # Without that file, transformers reads it from the model's config.
    stops.unlink()
    assert check_model(training(model, ROWS)).odd == ()
    edit_json(model / "config.json", eos_token_id=ids["<|pad|>"])
    assert len(check_model(training(model, ROWS)).odd) == 1
    assert check_model(training(model, ROWS, evaluated=False)).odd == ()


def test_all_rows_that_are_too_long_are_counted(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = {"input": "word " * 60, "output": "WORD"}
    message = (
        r"words\.json: 2 of 5 rows are too long for max_seq_len 60: "
        r"the longest prompt has \d+ tokens \(row 4 of split train\); raise max_seq_len"
    )
    with pytest.raises(DataError, match=message):
        check_model(training(model, [ROWS[0], LONG, ROWS[1], longer, ROWS[2]], max_seq_len=60))
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "row 2 of split train",
        "row 4 of split train",
    ]


def test_facts_are_those_of_the_training(model: Path) -> None:
    """Lengths, and answers that are cut off, are what the training's data set has."""
    rows = [*ROWS, LONG]
    facts = check_model(training(model, rows, max_seq_len=400))
    check = training(model, rows)
    encoder = Encoder(load_tokenizer(str(model)).tokenizer, check.dataset_type, check.prompt, check.system_prompt)
    limits: dict[str, Any] = {"first": None, "train_on_input": False, "max_seq_len": 400}
    samples = encoded_split(encoder, check.files, "train", columns=("input", "output"), **limits)
    lengths = [len(sample["tokens"]) for sample in samples]
    answers = sum(label != IGNORE_INDEX for sample in samples for label in sample["labels"])
    assert facts.train == TrainingSplit(4, sum(lengths), answers)
    assert (facts.rows, facts.longest, facts.longest_row, facts.cut) == (4, max(lengths), "row 4 of split train", 0)
    facts = check_model(training(model, rows, max_seq_len=max(lengths) - 1))
    assert (facts.longest, facts.cut) == (max(lengths), 1)


def test_rows_of_several_files_are_named_with_their_file(model: Path) -> None:
    (other := model.parent / "more.jsonl").write_text(json.dumps({"input": "long " * 4, "output": "LONG"}) + "\n")
    check = training(model, ROWS)
    check = replace(check, data=[*check.data, str(other)])
    assert check.what.endswith(" and all rows of words.json, more.jsonl (train)")
    facts = check_model(check)
    assert (facts.rows, facts.longest_row) == (4, "row 1 of split train of more.jsonl")
    other.write_text(json.dumps({"input": "a", "output": None}) + "\n")
    with pytest.raises(DataError, match=r"more\.jsonl: row 1 of split train: "):
        check_model(check)


def test_rows_of_every_split_are_checked(model: Path) -> None:
    assert check_model(training(model, ROWS, splits=["train", "validation"])).rows == 4


ALONE = """
import json, sys
from run_experiment.finetuning.model_check import ModelCheck, check_model, without_torch
without_torch()
check_model(ModelCheck(**json.loads(sys.argv[1])))
print([name for name in ("torch", "torchtune", "datasets", "inspect_ai") if name in sys.modules])
"""


def test_a_login_node_imports_no_torch(model: Path) -> None:
    check = canonical(vars(training(model, ROWS)))
    ended = subprocess.run([sys.executable, "-c", ALONE, check], capture_output=True, text=True, check=True)
    # transformers 5 imports torch, if it is there, with its tokenizers.
    imported = "[]" if transformers.__version__.startswith("4.") else "['torch']"
    assert (ended.stdout, ended.stderr) == (f"{imported}\n", "")
