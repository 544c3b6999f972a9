"""Inputs as people bring them from other systems and programs: each is taken, or refused with the way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from good_summary import FILE, FILES, GOOD, TASK, changed, errors, read, write

from run_experiment.common.errors import InputError
from run_experiment.summary.read import read_summary

RUN = "  - name: r8\n"
DATA = "path: words.json"
GIVEN = ("type: control", "type: eval-only\n    checkpoint_path: out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (RUN, RUN + "    compute: {mem: 80}\n", "expected an amount of memory like 80G, found 80"),
        (RUN, RUN + "    compute: {mem: 80000}\n", 'YAML reads 80000 as a number; quote it: "80000"'),
        ("lr: 1e-5", "lr: [1e-4, 1e-5]", "expected a number, found a list; a run has one value: give each run its own"),
        ("lr: 1e-5", "device: gpu", 'expected auto, cpu or cuda, found "gpu"; did you mean cuda?'),
        ("lr: 1e-5", "seed: 99999999999", "expected at most 4294967295, found 99999999999"),
        ('"Capitalize: {input}"', "“Capitalize: {input}”", "(the line has typographic quotes; write \" or ')"),
        ("  lr: 1e-5", "\u00a0 lr: 1e-5", "(the line has a no-break space; write plain ones)"),
        ("  lr: 1e-5", "<<<<<<< HEAD\n  lr: 1e-5", "(two versions of the file were merged; keep one)"),
        (DATA, 'path: "data\\words.json"', "in double quotes \\ begins an escape; use single quotes, and / in paths"),
        (DATA, "path: C:\\data\\words.json", "write / in place of \\, and the path that it has on this machine"),
        (DATA, "path: https://x.org/words.json", "nothing is downloaded: write the path of a copy on this machine"),
        (DATA, "path: <path to data>", "it looks like a placeholder that was not filled in"),
        (DATA, "path: Words.json", "did you mean words.json?"),
        (DATA, "path: tatsu-lab/alpaca", "nothing is downloaded: write the path of a copy on this machine"),
        (DATA, "path: '*.json'", "it is a pattern, which is not looked up: write the path of one"),
        (
            "models/tiny",
            "llama3.2:1b",
            "nothing is downloaded: write the path of a copy on this machine, a folder with",
        ),
        ("models/tiny", "hf.co/a/b:Q4_K_M", "a folder with safetensors weights; ollama's own are not read"),
        ("models/tiny", "gpt2", "nothing is downloaded: write the path of a copy on this machine"),
        ("models/tiny", "meta-llama/Llama-3.2-1B@main", "nothing is downloaded: write the path of a copy on this"),
        ("models/tiny", "https://x.org/m.gguf", "GGUF is not read: save the model as safetensors, with transformers'"),
        (
            "models/tiny",
            "/x/m.gguf",
            "GGUF is not read: save the model as safetensors, with transformers' save_pretrained",
        ),
        ("models/tiny", "models/tiny/original", 'did you mean the folder above it, "DIR/models/tiny"?'),
        ("models/tiny", "models/tiny.zip", "it is an archive: unpack it, and write the folder"),
        ("models/tiny", "hub", 'did you mean the folder "models--a--b/snapshots/abc" in it?'),
        ("models/tiny", "HuggingFaceTB/SmolLM2", "nothing is downloaded: write the path of a copy on this machine"),
        ("runs:\n", "output: {base_directory: words.json}\nruns:\n", 'words.json" is no folder'),
        ("runs:\n", "output: {base_directory: words.json/more}\nruns:\n", 'words.json" is no folder'),
        ("runs:\n", "output: {base_directory: /proc/1/more}\nruns:\n", 'you have no right to write in "/proc/1"'),
        ("models/tiny", "models/tiny/config.json", 'it is a file: write "models/tiny"'),
        ("cap.py", "cap.py:cap", "write cap.py@cap"),
        ("cap.py", "cap", "did you mean cap.py?"),
        ("cap.py", "x" * 253, "there is no file"),
        ("cap.py", "inspect_evals/gsm8k", "write a file of your own whose task function calls it"),
        ("{input}", "{{input}}", "has {{input}}, which means plain braces; write {input}"),
        ("  lr: 1e-5", "  system_prompt: None", 'which the model would read; leave the key out, or write ""'),
    ],
)
def test_refused_with_the_way_out(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "models/tiny/original").mkdir()
    write(folder, "models/tiny.zip", "x")
    write(folder, "hub/models--a--b/snapshots/abc/config.json", "{}")
    found = errors(folder, changed((old, new)))
    assert message in found[0], found
    assert found[0].startswith(f"{FILE}:")


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("comments", '{ // of mine\n"train": []}', "JSON has no comments"),
        ("single", "{'train': []}", "JSON has text in double quotes"),
        ("comma", '{"train": [{"input": "a", "output": "A"},]}', "JSON has no comma after the last value"),
        ("commas", '{"train": [{"input": "a", "output": "A",}]}', "JSON has no comma after the last value"),
    ],
)
def test_notations_that_are_not_json(folder: Path, name: str, content: str, hint: str) -> None:
    write(folder, f"{name}.json", content)
    assert errors(folder, changed((DATA, f"path: {name}.json")))[0].endswith(f"; {hint}")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "odd.json")


def link(folder: Path) -> None:
    (folder / "odd.json").symlink_to("gone.json")


def apart(folder: Path) -> None:
    """A name as macOS's file system had it."""
    shutil.copy(folder / "words.json", folder / "odde\u0301.json")


@pytest.mark.parametrize(
    ("make", "name", "hint"),
    [
        (fifo, "odd.json", "what is there is no regular file"),
        (link, "odd.json", 'it is a link to "gone.json", which is not there'),
        (apart, "odd\u00e9.json", "'odde\\u0301.json' has the same letters in other code points"),
    ],
)
def test_odd_files(folder: Path, make: Callable[[Path], None], name: str, hint: str) -> None:
    make(folder)
    assert hint in errors(folder, changed((DATA, f"path: {name}")))[0]


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["checkpoint-500/adapter_model.safetensors"], 'did you mean the folder "checkpoint-500" in it?'),
        (["fsdp_0/__0_0.distcp"], "it has the shards of FSDP: merge them with that trainer's own tool first"),
        (["global_step5/x", "latest"], "it has the shards of DeepSpeed"),
        (
            ["adapter_config.json", "adapter_model.bin"],
            "adapter_model.bin is not read: save the adapter as safetensors",
        ),
        (["adapter_0.pt"], "adapter_0.pt is not read: save the adapter as safetensors, with peft's save_pretrained"),
        (["trainer_state.json"], "expected adapter_config.json and adapter_model.safetensors"),
    ],
)
def test_folders_that_trainers_leave(folder: Path, files: list[str], hint: str) -> None:
    for file in files:
        write(folder, f"out/{file}", "x")
    assert hint in errors(folder, changed(GIVEN))[0]


def test_the_folder_of_a_model_in_the_hub_s_cache(folder: Path) -> None:
    write(folder, "models--a--b/snapshots/abc/config.json", FILES["models/tiny/config.json"])
    found = errors(folder, changed(("models/tiny", "models--a--b")))
    assert 'did you mean the folder "snapshots/abc" in it?' in found[0]


@pytest.mark.parametrize("value", ["8", [8], None, {}])
def test_sizes_of_another_type_in_a_model_s_config(folder: Path, value: object) -> None:
    config = json.loads(FILES["models/tiny/config.json"]) | {"num_attention_heads": value}
    write(folder, "models/tiny/config.json", json.dumps(config))
    assert errors(folder, GOOD)[0].startswith(f"{FILE}:11: models.base[0].path: ")


def test_a_task_in_another_encoding(folder: Path) -> None:
    (folder / "cap.py").write_bytes(b"# caf\xe9\n" + FILES["cap.py"].encode())
    assert errors(folder, GOOD)[0].endswith("DIR/cap.py is not UTF-8: save it as UTF-8")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("async def cap(data_path: str): ...", "task cap is an async function, which inspect-ai does not call"),
        ("def cap(data_path: str): ...\0", "cap.py: not valid Python: source code string cannot contain null bytes"),
    ],
)
def test_tasks_that_cannot_be_called(folder: Path, source: str, message: str) -> None:
    write(folder, "cap.py", f"from inspect_ai import task\n\n@task\n{source}\n")
    assert message in errors(folder, GOOD)[0]


@pytest.mark.parametrize("name", [FILE, "cap.py", "words.json"])
def test_a_fifo_is_not_waited_for(folder: Path, name: str) -> None:
    write(folder, FILE, GOOD)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match="no regular file"):
        read_summary(folder / FILE)


def test_another_ending_of_the_summary(folder: Path) -> None:
    write(folder, "experiment_summary.yml", GOOD)
    with pytest.raises(InputError, match="there is no such file; rename experiment_summary"):
        read_summary(folder / FILE)


def test_a_summary_that_is_a_link_to_nothing(folder: Path) -> None:
    (folder / FILE).symlink_to("../moved.yaml")
    with pytest.raises(InputError, match=r"no such file: it is a link to \.\./moved\.yaml, which is not there"):
        read_summary(folder / FILE)


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ('"Capitalize: {input}"', "“{input}”", "begins and ends with typographic quotes, which the model would read"),
        ("temperature: 0.0", "top_logprobs: 5", "has an effect only with logprobs: true, or in tasks that take it"),
    ],
)
def test_warned_of(folder: Path, old: str, new: str, warning: str) -> None:
    assert [line.rpartition(": ")[2] for line in read(folder, changed((old, new)))[1]] == [warning.rpartition(": ")[2]]


def test_a_file_of_weights_in_place_of_a_model(folder: Path) -> None:
    """Its folder would be of no use either."""
    write(folder, "tiny.gguf", "GGUF")
    (found,) = errors(folder, changed(("models/tiny", "tiny.gguf")))
    assert found.endswith(
        "it is a file of weights that is not read: save the model as safetensors, with transformers' "
        "save_pretrained, and write its folder"
    )


def test_a_folder_that_hugging_face_datasets_cannot_work_in(tmp_path: Path, folder: Path) -> None:
    """Its path is long, and not ASCII; other readers of data work there."""
    place = shutil.copytree(folder, tmp_path / ("é" * 90))
    assert read(place, GOOD)[1] == []
    write(place, "cap.py", TASK.replace("...", "hf_dataset(data_path)"))
    (found,) = errors(place, GOOD)
    assert "tasks[0].script: Hugging Face datasets cannot work in a folder with so long a path" in found
