"""Whether a model can be given its prompts and trained on its data: everything of that which needs no GPU.

It loads the tokenizer and encodes every row as the training will. Importing transformers takes a second without torch,
which `without_torch` sees to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.errors import CheckpointError
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.encoder import Encoder, split_rows
from run_experiment.finetuning.model_files import embedding_size
from run_experiment.inputs.data_files import DataError, Row

if TYPE_CHECKING:
    from run_experiment.finetuning.tokenizer import ModelTokenizer

# How the last line of a check's log begins if it failed.
FAILED = "Failed: "
# What a task may ask, of a model that is evaluated as it is.
_QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class ModelCheck:
    """A check of a model with its prompts, and the data and length of its training if it is trained.

    `config` is all that its outcome depends on; `tokenizer` the folder of the tokenizer, `weights` that of the weights
    whose embedding the tokens index (None if it is not known). `evaluated`: the model is evaluated, too.
    """

    name: str
    config: dict[str, Any]
    model: str
    tokenizer: str
    weights: str | None
    dataset_type: str
    prompt: str
    system_prompt: str
    evaluated: bool
    data: str | None = None
    splits: Sequence[str] = ()
    max_seq_len: int = 0

    @property
    def what(self) -> str:
        """What is checked, for the user."""
        rows = f" and all rows of {Path(self.data).name} ({', '.join(self.splits)})" if self.data else ""
        return f"tokenizer, {self.dataset_type} prompts{rows}"


@dataclass(frozen=True)
class CheckFacts:
    """What a check found: the rows encoded, tokens of the longest sample and its row, and answers that are cut off."""

    rows: int
    longest: int
    longest_row: str
    cut: int
    seconds: float


@dataclass(frozen=True)
class _Encoded:
    """Lengths of a row's prompt and of the whole sample, and its largest token id."""

    row: str
    prompt: int
    sample: int
    largest_id: int


def without_torch() -> None:
    """Have transformers imported without torch, for tokenizers alone, and without asking the Hub for anything."""
    os.environ |= {"USE_TORCH": "0", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "HF_HUB_OFFLINE": "1"}


def check_model(check: ModelCheck) -> CheckFacts:
    """Check a model. Raises ModelError or DataError, with all that a user needs to mend it."""
    started = time.monotonic()
    loaded = _tokenizer(check)
    encoder = Encoder(loaded.tokenizer, check.dataset_type, check.prompt, check.system_prompt)
    encoded = list(_encoded_rows(check, encoder)) if check.data else [_question(check, encoder)]
    _require_known_ids(check, loaded, encoded)
    _require_short_prompts(check, encoded)
    longest = max(encoded, key=lambda one: one.sample)
    cut = sum(one.sample > check.max_seq_len for one in encoded) if check.max_seq_len else 0
    rows = len(encoded) if check.data else 0
    return CheckFacts(rows, longest.sample, longest.row, cut, round(time.monotonic() - started, 3))


def _tokenizer(check: ModelCheck) -> ModelTokenizer:
    from run_experiment.finetuning.tokenizer import load_tokenizer

    try:
        loaded = load_tokenizer(check.tokenizer)
    # What is wrong with the files decides which: OSError, ValueError, KeyError, TypeError, tokenizers' own.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise ModelError(f"{check.tokenizer}: its tokenizer does not load ({reason})") from error
    if check.evaluated and loaded.tokenizer.eos_token_id is None:
        message = "its tokenizer has no eos token, with which evaluations fill up their batches"
        raise ModelError(f"{check.tokenizer}: {message}: set eos_token in tokenizer_config.json")
    return loaded


def _encoded_rows(check: ModelCheck, encoder: Encoder) -> Iterator[_Encoded]:
    path = Path(str(check.data))
    for split in check.splits:
        for number, row in enumerate(split_rows(path, split), start=1):
            yield _encoded(path, f"row {number} of split {split}", encoder, row)


def _encoded(path: Path, name: str, encoder: Encoder, row: Row) -> _Encoded:
    try:
        prompt, completion = encoder.encode(row)
    except DataError as error:
        raise DataError(f"{path}: {name}: {error}") from error
    return _Encoded(name, len(prompt), len(prompt) + len(completion), max([*prompt, *completion]))


def _question(check: ModelCheck, encoder: Encoder) -> _Encoded:
    """A prompt such as tasks make, for there is no telling which ones they will."""
    try:
        prompt = encoder.encode_prompt(_QUESTION)
    except DataError as error:
        raise DataError(f"{check.tokenizer}: {error}") from error
    return _Encoded("a question", len(prompt), len(prompt), max(prompt))


def _require_known_ids(check: ModelCheck, loaded: ModelTokenizer, encoded: Sequence[_Encoded]) -> None:
    """Raise ModelError if the model's embedding lacks a token: indexing it would end the job."""
    size = _embedding_size(check)
    if size is None:
        return
    largest = max(encoded, key=lambda one: one.largest_id)
    found = {largest.row: largest.largest_id}
    if check.data:
        found["the token that fills up batches"] = loaded.pad_id
    for what, token_id in found.items():
        if token_id >= size:
            token = loaded.tokenizer.convert_ids_to_tokens(token_id)
            message = f"{what} has the token {token!r} with id {token_id}, but the model's embedding has {size} rows"
            advice = "use the tokenizer that belongs to these weights, or resize the embedding"
            raise ModelError(f"{check.tokenizer}: {message}: {advice}")


def _embedding_size(check: ModelCheck) -> int | None:
    try:
        return embedding_size(Path(check.weights)) if check.weights else None
    except CheckpointError as error:
        raise ModelError(str(error)) from error


def _require_short_prompts(check: ModelCheck, encoded: Sequence[_Encoded]) -> None:
    """Raise DataError if prompts leave no room for an answer, with their number, not only the first of them."""
    limit = check.max_seq_len
    long = [one for one in encoded if limit and one.prompt >= limit]
    if not long:
        return
    # For the check's log.
    print(*(f"{one.row}: its prompt has {one.prompt} tokens" for one in long), sep="\n")
    worst = max(long, key=lambda one: one.prompt)
    counted = f"{len(long):,} of {len(encoded):,} rows {'is' if len(long) == 1 else 'are'} too long"
    longest = f"the longest prompt has {worst.prompt} tokens ({worst.row})"
    advice = "raise max_seq_len, at most to what the model takes, or shorten or remove such rows"
    raise DataError(f"{check.data}: {counted} for max_seq_len {limit}: {longest}; {advice}")
