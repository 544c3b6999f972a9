"""Training data that would train something else than meant, or nothing: refused, or said in one warning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from good_summary import FILE, GOOD, TASK, changed, errors, read, write

from run_experiment.experiment.resolve import resolve

DATA = "    path: words.json\n"
ROWS = [{"input": word, "output": word.upper()} for word in "abcd"]


def with_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    write(folder, "words.json", json.dumps({"train": rows}))


# ruff: noqa: E501


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.csv", "input, output\na, A\n", 'row 1 of split train: output is missing; the row has "input", " output"; output_key names another column'),
        ("w.csv", "sep=;\ninput;output\na;A\n", "the first line is Excel's sep=, not the names of the columns: delete it"),
        ("w.csv", "Input|Output\na|A\n", 'row 1 of split train: input is missing; the row has "Input|Output"'),
        ("w.csv", "prompt,answer\na,A\n", 'row 1 of split train: input is missing; the row has "prompt", "answer"'),
        ("w.json", '{"Training": [{}], "dev": []}', 'split train is missing; there is "Training", "dev": rename "Training" to train'),
        ("w.jsonl", '{"messages": []}\n', "row 1 of split train: messages is empty"),
        ("w.jsonl", '{"conversations": []}\n', 'row 1 of split train: input is missing; the row has "conversations"; write a conversation as messages, each with role and content'),
        ("w.json", '[{"input": "a", "output": "A"}, {"input": "b \\ud83d", "output": ""}]', "row 2 of split train: input has half of a character at position 3 (\\ud83d"),
        ("w.jsonl", '{"input": "a", "output": "\\udc00"}', "row 1 of split train: output has half of a character at position 1"),
    ],
)  # fmt: skip
def test_refused(folder: Path, name: str, text: str, message: str) -> None:
    write(folder, name, text)
    (line,) = errors(folder, changed(("words.json", name)))
    assert line.startswith(f"{FILE}:14: data.training.path: ")
    assert message in line


def test_json_lines_named_json_have_a_format(folder: Path) -> None:
    write(folder, "words.json", "".join(json.dumps(row) + "\n" for row in ROWS))
    assert read(folder, changed((DATA, DATA + "    format: jsonl\n")))[1] == []


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([row | {"id": 1, "source_url": "x", "category": "c"} for row in ROWS], None),
        ([row | {"": "0", "Unnamed: 0": "0"} for row in ROWS], None),
        ([{"input": " ", "output": "A"}, *ROWS, *ROWS, *ROWS], None),
        ([*ROWS, {"input": "e", "output": ""}], None),
        ([row | {"history": [], "context": "", "system": None} for row in ROWS], None),
        (
            [*ROWS, *ROWS, *ROWS, {"input": " ", "output": ""}, {"input": "", "output": " "}],
            "input and output are empty in 2 rows of split train (row 13): each trains an empty answer; "
            "remove such rows",
        ),
        (
            [row | {"instruction": "shout"} for row in ROWS],
            'training reads input and output only, and leaves out "instruction"; '
            "put into input what belongs to the prompt",
        ),
        (
            [{"instruction": "shout", "input": "", "output": "A"}, *ROWS[1:3], ROWS[3] | {"passage": "…", "hint": "x"}],
            'training reads input and output only, and leaves out "instruction", "passage", "hint"; '
            "1 of 4 inputs of split train are empty; put into input what belongs to the prompt",
        ),
        ([row | {"input": ""} for row in ROWS], "4 of 4 inputs of split train are empty"),
        (
            [ROWS[0], *({**row, "output": " "} for row in ROWS[1:])],
            "3 of 4 outputs of split train are empty: each trains an empty answer",
        ),
    ],
)
def test_columns_that_training_leaves_out(folder: Path, rows: list[dict[str, Any]], warning: str | None) -> None:
    with_rows(folder, rows)
    found = [f"{FILE}:14: data.training.path: {warning}"] if warning else []
    assert read(folder, GOOD)[1] == found


def said(*roles: str, **more: Any) -> dict[str, Any]:
    """A conversation in which each says its role and place."""
    return {"messages": [{"role": role, "content": f"{role} {place}", **more} for place, role in enumerate(roles)]}


WEIGHTED = changed(("lora_rank: 4", "lora_rank: 4, weight_key: w"), ("- name: r4", "- name: r4\n    trainer: trl"))


@pytest.mark.parametrize("weight", [1, 0.5, "2", "1e-3"])
def test_rows_have_weights(folder: Path, weight: object) -> None:
    with_rows(folder, [row | {"w": weight} for row in [*ROWS, said("user", "assistant")]])
    assert read(folder, WEIGHTED.replace('  prompt: "Capitalize: {input}"\n', ""))[1] == []


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ({"w": 0}, "w is 0"),
        ({"w": -1}, "w is -1"),
        ({"w": "heavy"}, 'w is "heavy"'),
        ({"w": ""}, 'w is ""'),
        ({"w": None}, "w is null"),
        ({"w": True}, "w is true"),
        ({"w": float("nan")}, "w is NaN"),
        ({"w": 10**400}, f"w is {'1' + 38 * '0'}…"),
        ({"w": [1]}, "w is [1]"),
        ({}, "w is missing"),
    ],
)
def test_weights_that_no_row_can_have(folder: Path, last: dict[str, Any], found: str) -> None:
    with_rows(folder, [*(row | {"w": 1} for row in ROWS[:3]), ROWS[3] | last])
    (line,) = errors(folder, WEIGHTED)
    way_out = "expected a number above 0 (weight_key); leave out rows that are not to count"
    assert line == f"{FILE}:14: data.training.path: row 4 of split train: {found}; {way_out}"


UNPROMPTED = changed(('  prompt: "Capitalize: {input}"\n', ""))


def test_conversations_are_trained_on(folder: Path) -> None:
    rows = [said("system", "user", "assistant"), said("user", "assistant", "user", "assistant", tool_calls=None), *ROWS]
    with_rows(folder, rows)
    assert read(folder, UNPROMPTED)[1] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": "hi"}, "is no list of messages"),
        ({"messages": ["hi"]}, "cannot be trained on: message 1 is no object with role and content"),
        ({"messages": [{"content": "hi"}]}, "cannot be trained on: message 1 has no role"),
        ({"messages": [{"from": "human", "value": "hi"}]}, "cannot be trained on: message 1 has no role; write role and content in place of from and value"),
        (said("human", "gpt"), 'cannot be trained on: message 1 has the role "human"; roles are system, user, assistant'),
        (said("user", "assistant", content=None), "cannot be trained on: message 1 has the content null, not text"),
        (said("user", "assistant", content="\ud83d"), "cannot be trained on: message 1 has half of a character at position 1"),
        (said("user", "assistant", weight=0), 'cannot be trained on: message 1 has "weight"; a message has role and content only'),
        (said("user", "user", "assistant"), "cannot be trained on: message 2 is of user, not of assistant; after a system message, user and assistant take turns"),
        (said("system", "assistant"), "cannot be trained on: message 2 is of assistant, not of user"),
        (said("user", "assistant", "system"), "cannot be trained on: message 3 is of system, not of user"),
        (said("user", "assistant", "user"), "ends with a message of user: the last one is the answer that is trained, of assistant"),
        (said("system"), "ends with a message of system"),
        (said("user", "assistant", "user", "assistant", content="<think>"), "cannot be trained on: message 2 has <think>: only the last answer may have reasoning"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_trained_on(folder: Path, row: dict[str, Any], message: str) -> None:
    with_rows(folder, [said("user", "assistant"), row])
    (line,) = errors(folder, GOOD)
    assert line.startswith(f"{FILE}:14: data.training.path: row 2 of split train: messages {message}")


def test_conversations_have_no_prompt_around_them(folder: Path) -> None:
    with_rows(folder, [*ROWS, said("user", "assistant")])
    (line,) = errors(folder, GOOD)
    assert 'controls.prompt: row 5 of split train of "words.json" has messages, which are given as they are' in line


def test_conversations_that_are_trained_on_and_asked(folder: Path) -> None:
    asked = said("system", "user", "assistant", "user", "assistant")
    splits = {"train": [*ROWS, asked, said("user", "assistant")], "test": [said("user", "assistant", "user"), asked]}
    write(folder, "words.json", json.dumps(splits))
    (line,) = read(folder, UNPROMPTED)[1]
    assert "split train has the input of 1 of 2 rows of split test (row 2) as well" in line


def row(text: str, output: str = "X") -> dict[str, Any]:
    return {"input": text, "output": output}


@pytest.mark.parametrize(
    ("train", "held_out", "found"),
    [
        ("abcd", {"test": "ef", "validation": "g"}, None),
        ("abcd", {"other": "abcd"}, None),
        (["a", "", " ", "d"], {"test": ["", "e"]}, None),
        ("abcd", {"test": "ecb"}, "2 of 3 rows of split test (row 2)"),
        (["a", " b\n", "c", "b"], {"validation": ["b "]}, "1 of 1 row of split validation (row 1)"),
        (["\u00e4", *"bcd"], {"test": ["a\u0308", "x"]}, "1 of 2 rows of split test (row 1)"),
        ("abcd", {"test": "xd", "validation": "da"}, "2 of 2 rows of split validation (row 1) and 1 of 2 rows of split test (row 2)"),
    ],
)  # fmt: skip
def test_rows_that_are_trained_on_and_asked(
    folder: Path, train: Sequence[str], held_out: dict[str, Sequence[str]], found: str | None
) -> None:
    splits = {name: [row(text) for text in texts] for name, texts in {"train": train, **held_out}.items()}
    write(folder, "words.json", json.dumps(splits))
    lines = [line for line in read(folder, GOOD)[1] if "inputs of split train are empty" not in line]
    advice = "results there may show memory; remove such rows from train"
    message = f"{FILE}:14: data.training.path: split train has the input of {found} as well: {advice}"
    assert lines == ([message] if found else [])


def test_other_splits_may_have_rows_of_another_kind(folder: Path) -> None:
    write(folder, "words.json", json.dumps({"train": ROWS, "test": ["a", None, {"question": "a"}, {"input": ["a"]}]}))
    assert read(folder, GOOD)[1] == []


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row("a"), row("a", " X\n"), row("b"), row("c", "Y")], None),
        ([row("a"), row("b"), row(" b", "Y"), row("b", "Z")], "1 input of split train has more than one output (row 3)"),
        ([*map(row, "abcd"), row("b", "Y"), row("a", "Y")], "2 inputs of split train have more than one output (row 5)"),
        ([row("heads?", "yes"), row("heads?", "no"), row("heads?", "yes"), row("tails?")], "1 input of split train has more than one output (row 2)"),
        ([row("a", "X"), row("a", "Y"), row("b", "X"), row("b", "Y"), row("c")], None),
    ],
)  # fmt: skip
def test_an_input_with_several_outputs(folder: Path, rows: list[dict[str, Any]], found: str | None) -> None:
    """Unless most inputs have several, as of draws."""
    with_rows(folder, rows)
    message = f"{FILE}:14: data.training.path: {found}: unless that is meant, keep one of them"
    assert read(folder, GOOD)[1] == ([message] if found else [])


def test_only_rows_that_are_trained_on_count(folder: Path) -> None:
    rows = [*map(row, "abcd"), row("a", "Y"), row("e")]
    write(folder, "words.json", json.dumps({"train": rows, "test": [row("e")]}))
    assert len(read(folder, GOOD)[1]) == 2
    samples = ("  epochs: 2\n", "  epochs: 2\n  training_samples: 4\n")
    assert read(folder, changed(samples))[1] == []
    (line,) = read(folder, changed(samples, ("{lora_rank: 8}", "{lora_rank: 8, training_samples: 5}")))[1]
    assert "1 input of split train has more than one output (row 5)" in line


@pytest.mark.parametrize("text", ["input,output,\na,A,\nb,B,\n", ",input,output\n0,a,A\n1,b,B\n"])
def test_a_column_without_a_name_is_empty_or_an_index(folder: Path, text: str) -> None:
    write(folder, "words.csv", text + text.split("\n", 1)[1])
    assert read(folder, changed(("words.json", "words.csv")))[1] == []


def test_a_column_that_a_task_reads_is_explained_unless_it_is_of_a_prompt(folder: Path) -> None:
    with_rows(folder, [row | {"choices": "x", "context": "y"} for row in ROWS])
    write(folder, "cap.py", TASK + '# row["choices"], row["context"]\n')
    (line,) = read(folder, GOOD)[1]
    assert 'leaves out "context";' in line


@pytest.mark.parametrize(
    ("rows", "expected"), [("01,A\n02,B\n", True), ("one,A\ntwo,null\n", True), ("a,A\nb,B\n", False)]
)
def test_csv_that_tasks_read_as_numbers_or_nothing(folder: Path, rows: str, expected: bool) -> None:
    write(folder, "words.csv", f"input,output\n{rows}{rows}")
    text = changed(("words.json", "words.csv"))
    assert read(folder, text)[1] == []
    write(folder, "cap.py", TASK + "# hf_dataset('csv', data_files=data_path)\n")
    warnings = read(folder, text)[1]
    assert len(warnings) == expected
    assert all(", hf_dataset reads CSV as " in line and "csv_dataset" in line for line in warnings)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            [("  epochs: 2\n", "  epochs: 2\n  num_warmup_steps: 2\n")],
            "6: controls.num_warmup_steps: the warm-up takes 2 steps, but run r4 trains 2 steps (1 an epoch): "
            "its learning rate never reaches lr 1e-05",
        ),
        ([("  epochs: 2\n", "  epochs: 2\n  num_warmup_steps: 1\n")], None),
        (
            [("{lora_rank: 8}", "{num_warmup_steps: 500, batch_size: 1, max_steps_per_epoch: 3}")],
            "20: runs[1].parameters.num_warmup_steps: the warm-up takes 500 steps, but run r8 trains 6 steps "
            "(3 an epoch): its learning rate never reaches lr 1e-05",
        ),
        (
            [("  epochs: 2\n", "  epochs: 2\n  batch_size: 3\n  shuffle: false\n")],
            "7: controls.shuffle: run r4 never trains on the last 1 of 4 rows: without shuffling, each epoch takes the "
            "same 3 rows (whole steps of batch_size × gradient_accumulation_steps)",
        ),
        ([("  epochs: 2\n", "  epochs: 2\n  batch_size: 3\n")], None),
        ([("  epochs: 2\n", "  epochs: 2\n  batch_size: 2\n  shuffle: false\n")], None),
    ],
)  # fmt: skip
def test_steps(folder: Path, changes: list[tuple[str, str]], line: str | None) -> None:
    assert read(folder, changed(*changes))[1] == ([f"{FILE}:{line}"] if line else [])


@pytest.mark.parametrize("key", ["data", "dataset_path"])
def test_a_run_has_data_of_its_own(folder: Path, key: str) -> None:
    write(folder, "long.json", json.dumps({"train": ROWS * 2}))
    own = ("{lora_rank: 4}\n", f"{{lora_rank: 4, num_warmup_steps: 4}}\n    {key}: long.json\n")
    text = changed(own, ("script: cap.py", "script: cap.py\n      dataset: words.json"))
    summary, warnings = read(folder, text)
    experiment = resolve(summary, folder)
    assert [run.training.data[0].name for run in experiment.fine_tuned if run.training] == [
        "long.json",
        "words.json",
    ]
    # 8 rows are 2 steps an epoch.
    assert len(warnings) == 1
    assert "run r4 trains 4 steps (2 an epoch)" in warnings[0]
    with_rows(folder, [{}])
    assert [line.partition(": ")[2] for line in errors(folder, text)] == [
        "data.training.path: row 1 of split train: input is missing; the row has nothing"
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            [("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: words.json\n")],
            "27: evaluation.tasks[0].dataset: is required: run r4 has data of its own; name the file that all runs are evaluated on",
        ),
        ([("    type: control\n", "    type: control\n    data: words.json\n")], "23: runs[2].data: is for fine-tuned runs; this one is control"),
        ([("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: gone.json\n"), ("script: cap.py", "script: cap.py\n      dataset: words.json")], '18: runs[0].data: there is no file "DIR/gone.json"'),
        ([("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: ../w.json\n"), ("script: cap.py", "script: cap.py\n      dataset: words.json")], "18: runs[0].data: \"../w.json\" leads out of the experiment's folder; write the full path"),
        ([("{lora_rank: 4}\n", "{lora_rank: 4}\n    training_condition: A\n")], "18: runs[0].training_condition: chooses no data file here; name the file in data beside it"),
        ([("script: cap.py", "script: cap.py\n      eval_condition: A")], "28: evaluation.tasks[0].eval_condition: chooses no data file here; name the file in dataset beside it"),
    ],
)  # fmt: skip
def test_data_is_never_chosen_silently(folder: Path, changes: list[tuple[str, str]], line: str) -> None:
    assert errors(folder, changed(*changes)) == [f"{FILE}:{line}"]


def test_conditions_beside_their_files(folder: Path) -> None:
    text = changed(
        ("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: words.json\n    training_condition: A\n"),
        ("script: cap.py", "script: cap.py\n      dataset: words.json\n      eval_condition: A"),
    )
    assert read(folder, text)[1] == []


def test_all_runs_have_data_of_their_own(folder: Path) -> None:
    text = changed(
        ("data:\n  training:\n    path: words.json\n", ""),
        ("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: words.json\n"),
        ("{lora_rank: 8}\n", "{lora_rank: 8}\n    data: words.json\n"),
        ("script: cap.py", "script: cap.py\n      dataset: words.json"),
    )
    assert len(resolve(read(folder, text)[0], folder).fine_tuned) == 2


@pytest.mark.parametrize(
    ("system_prompt", "warned"),
    [
        ("Be brief.", False),
        ("Answer {name}.", False),
        ('Say {{"a": 1}}.', True),
        ('Say {"a": 1}.', True),
        ("a { b", True),
    ],
)
def test_system_prompts_that_evaluations_read_otherwise(folder: Path, system_prompt: str, warned: bool) -> None:
    """As inspect-ai itself reads them."""
    write(folder, "cap.py", TASK.replace("k: int", "system_prompt: str = '', k: int"))
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  system_prompt: {json.dumps(system_prompt)}\n"))
    warnings = read(folder, text)[1]
    assert [line.split(": ")[1] for line in warnings] == ["controls.system_prompt"] * warned
    from inspect_ai._util.format import format_template

    try:
        assert (format_template(system_prompt, {}) != system_prompt) == warned
    except ValueError:
        assert warned


def test_doubled_braces_of_a_prompt(folder: Path) -> None:
    text = changed(('"Capitalize: {input}"', '\'{{"word": "{input}"}}\''))
    (line,) = read(folder, text)[1]
    assert "evaluation.tasks[0].script: the prompt has {{ or }}, which mean { and };" in line
    write(folder, "cap.py", TASK + "# prompt.format(input=row['input'])\n")
    assert read(folder, text)[1] == []


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("ood.json", {"train": [row("a")], "test": [row("x"), row(" b ")]}, "1 of 2 inputs of split test (row 2)"),
        ("ood.json", [row("x"), row("a"), row("b")], "2 of 3 inputs of split train (row 2)"),
        ("ood.json", {"train": [row("a")], "test": [row("x")]}, None),
        ("words.json", None, None),
        ("ood.npz", [row("a")], None),
    ],
)
def test_rows_that_are_trained_on_and_asked_from_another_file(
    folder: Path, name: str, content: Any, found: str | None
) -> None:
    with_rows(folder, [row(text) for text in "abcd"])
    if content:
        write(folder, name, json.dumps(content))
    added = ("      script: cap.py\n", f"      script: cap.py\n      dataset: {name}\n")
    lines = [line for line in read(folder, changed(added))[1] if "memory" in line]
    asked = f'{found} of "{name}" are in split train of "words.json" as well'
    advice = 'results there may show memory; remove such rows from "words.json"'
    place = f"{FILE}:28: evaluation.tasks[0].dataset"
    assert lines == ([f"{place}: {asked}: {advice}"] if found else [])


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["dataset_dict.json", "train/state.json"], 'load_from_disk("saved")["train"].to_json("train.jsonl")'),
        (["state.json", "dataset_info.json", "data.arrow"], 'load_from_disk("saved").to_json("train.jsonl")'),
        (["data/train-00000-of-00001.parquet"], "its Parquet files are not read: save the rows as JSON Lines"),
        (["README.md", "words.jsonl"], 'did you mean the file "words.jsonl" in it?'),
        (["a.json", "b.json"], "is a folder; expected a file"),
    ],
)
def test_a_folder_in_the_place_of_a_file(folder: Path, files: list[str], hint: str) -> None:
    for name in files:
        (folder / "saved" / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder, f"saved/{name}", "{}")
    (line,) = errors(folder, changed(("words.json", "saved")))
    assert line.endswith(hint) or hint in line.partition("; ")[2]
