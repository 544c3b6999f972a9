"""What a user may have meant by a path where nothing is, or something else: the way out for messages."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from run_experiment.common.paths import ADAPTER_WEIGHTS
from run_experiment.common.suggestions import closest
from run_experiment.common.yaml_lines import shown

# A model or data set of the Hub, of a revision too, and a model of ollama, which may be in a registry.
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")
_OLLAMA_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*:[\w.-]+")
_BARE_NAME = re.compile(r"[\w.-]+")
_TO_FILL_IN = re.compile(r"<.*>|.*\{\{.*\}\}.*|TODO|FIXME|XXX+|(?:/?path/)?to/.*|your[-_ ].*", re.IGNORECASE)
_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
_SAVE_IT = "save the model as safetensors, with transformers' save_pretrained"
_OTHER_WEIGHTS = ("*.bin", "*.gguf", "*.pth", "*.pt", "*.ckpt", "*.h5", "*.msgpack", "*.nemo", "*.npz", "*.onnx")
# As older versions of peft, torchtune and MLX have them.
_OTHER_ADAPTERS = ("adapter_model.bin", "adapter*.pt", "adapters.safetensors", "adapters.npz")
_UNFINISHED = ("*.aria2", "*.crdownload", "*.incomplete", "*.part")
_ARCHIVES = (".7z", ".gz", ".tar", ".tgz", ".zip")
_NOT_DOWNLOADED = "; nothing is downloaded: write the path of a copy on this machine"
# Endings of data files and of tasks.
_OF_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".py")
# Alike enough for a name in the same folder.
_ALIKE = 0.8


def why_missing(text: str, where: Path) -> str:
    """Hint for a path, written as `text`, at which the file or folder that it stands for is not; empty without one."""
    if text.lower().endswith(".gguf") and not os.path.isfile(where):
        return f"; GGUF is not read: {_SAVE_IT}, and write its folder"
    if "://" in text or _is_hub_name(text, where):
        return _NOT_DOWNLOADED
    if _OLLAMA_NAME.fullmatch(text) and not any(ending in text for ending in _OF_FILES):
        return f"{_NOT_DOWNLOADED}, a folder with safetensors weights; ollama's own are not read"
    if glob.has_magic(text) and glob.glob(str(where)):
        return "; it is a pattern, which is not looked up: write the path of one"
    if "\\" in text:
        return "; write / in place of \\, and the path that it has on this machine"
    if _TO_FILL_IN.fullmatch(text):
        return "; it looks like a placeholder that was not filled in"
    if closed := closed_folder(where.parent):
        return f"; you have no right to look into {shown(str(closed), 200)}"
    if where.is_symlink() and not os.path.exists(where):
        return f"; it is a link to {shown(os.readlink(where), 200)}, which is not there"
    if os.path.isfile(where):
        if any(where.match(pattern) for pattern in _OTHER_WEIGHTS):
            return f"; it is a file of weights that is not read: {_SAVE_IT}, and write its folder"
        if where.suffix.lower() in _ARCHIVES:
            return "; it is an archive: unpack it, and write the folder"
        return f"; it is a file: write {shown(os.path.dirname(text) or '.', 200)}"
    if os.path.exists(where):
        return "; what is there is no regular file"
    return _neighbour(where)


def why_no_folder(text: str, where: Path) -> str:
    """Hint for a folder of a model or checkpoint that is not there; empty without one."""
    return why_missing(text, where) or (_NOT_DOWNLOADED if _BARE_NAME.fullmatch(text) else "")


def closed_folder(where: Path) -> Path | None:
    """The first folder on the way to `where`, or `where` itself, of which this user may not see the content."""
    ways = [*reversed(where.absolute().parents), where]
    return next((way for way in ways if os.path.isdir(way) and not os.access(way, os.X_OK)), None)


def _is_hub_name(text: str, where: Path) -> bool:
    """Whether a path is rather an `organisation/model` or data set of the Hub: its first part is no folder either."""
    is_name = _HUB_NAME.fullmatch(text) and not _TO_FILL_IN.fullmatch(text)
    return bool(is_name) and where.suffix.lower() not in _OF_FILES and not os.path.isdir(where.parent)


def folder_within(where: Path, fits: Callable[[Path], bool]) -> str:
    """Hint at a folder inside of `where`, like a trainer's `checkpoint-500`, that fits; empty if none does."""
    found = [
        path
        for pattern in ("*", "snapshots/*", "models--*/snapshots/*")
        for path in sorted(where.glob(pattern))
        if fits(path)
    ]
    if not found:
        return ""
    return f"; did you mean the folder {shown(str(found[-1].relative_to(where)), 200)} in it?"


def why_no_data(text: str, where: Path, folder: Path) -> str:
    """The same for a data file, which may be meant to be several of `folder`."""
    if glob.has_magic(text) and len(glob.glob(str(where))) > 1:
        return "; it is a pattern, which is not looked up: write the path of each file, as a list"
    names = re.split(r"[,;]?\s+|[,;]", text)
    several = len(names) > 1 and all(os.path.isfile(folder / name) for name in names)
    return f"; write several files as a list: [{', '.join(names)}]" if several else why_missing(text, where)


def file_within(where: Path) -> str:
    """Hint for a folder in the place of a file: the file in it that may be meant, or how to make one."""
    for mark, part in (("dataset_dict.json", '["train"]'), ("state.json", "")):
        if os.path.isfile(where / mark) and (part or os.path.isfile(where / "dataset_info.json")):
            code = f'load_from_disk("{where.name}"){part}.to_json("train.jsonl")'
            return f"; save_to_disk of Hugging Face datasets wrote it: write JSON Lines with {code}"
    if next((path for pattern in ("*", "*/*") for path in where.glob(f"{pattern}.parquet")), None):
        return "; its Parquet files are not read: save the rows as JSON Lines"
    found = [path.name for path in sorted(where.glob("*")) if path.suffix.lower() in _OF_FILES]
    return f"; did you mean the file {shown(found[0], 200)} in it?" if len(found) == 1 else ""


def holds_model(folder: Path) -> bool:
    """Whether a folder looks like a model's."""
    return os.path.isfile(folder / "config.json")


def holds_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint's."""
    return os.path.isfile(folder / ADAPTER_WEIGHTS) or (holds_model(folder) and any(folder.glob("*.safetensors")))


def broken_link(model: Path) -> Path | None:
    """A file of a model that is a link to nothing, as a copied or moved cache of the Hub has them."""
    files = (path for pattern in _MODEL_FILES for path in sorted(model.glob(pattern)))
    return next((path for path in files if path.is_symlink() and not os.path.exists(path)), None)


def no_config(where: Path) -> str:
    """Hint for a model's folder without config.json: the folder that may be meant, or the format that it is in."""
    if holds_model(where.parent):
        return f"; did you mean the folder above it, {shown(str(where.parent), 200)}?"
    if os.path.isfile(where / "params.json"):
        return "; it is in its maker's own format: take the files for transformers, with config.json and *.safetensors"
    return folder_within(where, holds_model) or other_weights(where)


def other_weights(model: Path) -> str:
    """Hint at weights of another format in a model's folder, or at a download that did not end; empty without any."""
    cut = next((path.name for pattern in _UNFINISHED for path in sorted(model.glob(pattern))), None)
    if cut:
        return f"; {cut} is a download that did not end: download it again"
    found = next((path.name for pattern in _OTHER_WEIGHTS for path in sorted(model.glob(pattern))), None)
    return f"; {found} is not read: {_SAVE_IT}" if found else ""


def other_adapter(folder: Path) -> str:
    """Hint at an adapter of another format in a folder; empty if there is none."""
    found = next((path.name for pattern in _OTHER_ADAPTERS for path in sorted(folder.glob(pattern))), None)
    return f"; {found} is not read: save the adapter as safetensors, with peft's save_pretrained" if found else ""


def sharded_state(folder: Path) -> str:
    """Hint at the shards of a distributed training in a folder; empty if there are none."""
    for pattern, tool in (("**/*.distcp", "FSDP"), ("global_step*", "DeepSpeed"), ("zero_to_fp32.py", "DeepSpeed")):
        if next(folder.glob(pattern), None):
            return f"; it has the shards of {tool}: merge them with that trainer's own tool first"
    return ""


def task_hint(text: str, where: Path) -> str:
    """Hint for a task's script that is not there."""
    script, colon, function = text.rpartition(":")
    if colon and script.endswith(".py"):
        return f"; write {script}@{function}"
    # Not `is_file`, which raises for a name that is too long.
    if os.path.isfile(f"{where}.py"):
        return f"; did you mean {text}.py?"
    if re.fullmatch(r"inspect_evals/\w+", text):
        return "; tasks of a package are not found: write a file of your own whose task function calls it"
    return why_missing(text, where)


def _neighbour(where: Path) -> str:
    """The name in the same folder that was meant: other case, another form of the same accents, a misspelling."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(where.parent)
    # macOS takes accents apart; both forms look the same.
    plain = {unicodedata.normalize("NFC", name): name for name in names}
    same = plain.get(unicodedata.normalize("NFC", where.name))
    if same:
        return f"; {same!a} has the same letters in other code points: rename it to what is written here"
    match = closest(where.name, plain, _ALIKE)
    return f"; did you mean {match}?" if match else ""
