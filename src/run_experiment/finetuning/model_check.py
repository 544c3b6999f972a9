"""Whether a model can be given its prompts and trained on its data: everything of that which needs no GPU.

It loads the tokenizer and encodes every row as the training will. Importing transformers takes a second without torch,
which `without_torch` sees to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import GENERATION_CONFIG, told_apart
from run_experiment.common.text import clipped, counted, harmless, shortened
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.encoder import Encoder, begin_packs, split_rows
from run_experiment.finetuning.model_files import embedding_size, stop_ids
from run_experiment.inputs.data_files import DataError, JoinedRow

if TYPE_CHECKING:
    from run_experiment.finetuning.tokenizer import ModelTokenizer

# How the last line of a check's log begins if it failed.
FAILED = "Failed: "
# What a task may ask, of a model that is evaluated as it is.
_QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class PackedSteps:
    """What a packed training makes optimizer steps of."""

    batch_size: int
    gradient_accumulation_steps: int
    max_steps_per_epoch: int | None
    epochs: int
    num_warmup_steps: int
    shuffle: bool

    def too_few(self, packs: int, rows: int) -> str | None:
        """Why there is no step to train; None if there is one."""
        if packs >= self._packs_per_step:
            return None
        product = f"batch_size {self.batch_size} × gradient_accumulation_steps {self.gradient_accumulation_steps}"
        made = f"{counted(rows, 'row')} {'makes' if rows == 1 else 'make'} {counted(packs, 'pack')}"
        return f"{made}, fewer than one optimizer step takes ({product} = {self._packs_per_step})"

    def odd(self, packs: int) -> Iterator[str]:
        """What the training does unexpectedly with its packs."""
        steps = packs // self._packs_per_step
        per_epoch = min(steps, self.max_steps_per_epoch or steps)
        total = per_epoch * self.epochs
        if self.num_warmup_steps >= total:
            trained = f"{counted(total, 'step')} ({per_epoch} an epoch)"
            yield f"the warm-up takes {self.num_warmup_steps} steps, but {counted(packs, 'pack')} give {trained}"
        used = per_epoch * self._packs_per_step
        if not self.shuffle and used < packs:
            yield f"without shuffling, the last {packs - used} of {packs} packs are never trained on"

    @property
    def _packs_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps


@dataclass(frozen=True)
class ModelCheck:
    """A check of a model with its prompts, and the data and length of its training if it is trained.

    `config` is all that its outcome depends on; `tokenizer` the folder of the tokenizer, `weights` that of the weights
    whose embedding the tokens index (None if it is not known). `evaluated`: the model is evaluated, too. `data` are the
    data files of its training, joined; none if it is not trained.
    `training_samples` are the rows of the training split that count, None for all; `columns` those of input and output;
    without `mask_history` all answers of conversations are trained; `packed` is what PackedSteps takes, None if samples
    are not packed.
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
    data: Sequence[str] = ()
    splits: Sequence[str] = ()
    max_seq_len: int = 0
    training_samples: int | None = None
    columns: Sequence[str] = ("input", "output")
    mask_history: bool = True
    packed: Mapping[str, Any] | None = None

    @property
    def what(self) -> str:
        """What is checked, for the user."""
        first = f"the first {self.training_samples:,}" if self.training_samples else "all"
        rows = (
            f" and {first} rows of {shortened(told_apart(self.files))} ({', '.join(self.splits)})" if self.data else ""
        )
        prompt = "" if self.prompt == "{input}" else f" '{_short(self.prompt)}'"
        system = f" with system prompt '{_short(self.system_prompt)}'" if self.system_prompt else ""
        return f"tokenizer, {self.dataset_type} prompts{prompt}{system}{rows}"

    @property
    def files(self) -> list[Path]:
        """The data files of its training."""
        return [Path(file) for file in self.data]

    def first(self, split: str) -> int | None:
        """How many rows of a split count, from the first; None for all."""
        return self.training_samples if split == "train" else None


def _short(prompt: str) -> str:
    """The beginning of a prompt in one line."""
    return harmless(clipped(" ".join(prompt.split()), 40))


@dataclass(frozen=True)
class TrainingSplit:
    """What a training goes through in an epoch: samples (packs if they are packed), their tokens, and the answers'."""

    samples: int = 0
    tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class CheckFacts:
    """What a check found: the rows encoded, tokens of the longest sample and its row, and answers that are cut off.

    `odd` is what happens unexpectedly: to prompts without a chat template, in a packed training. `train` is how much
    the training split is.
    """

    rows: int
    longest: int
    longest_row: str
    cut: int
    seconds: float
    odd: tuple[str, ...] = ()
    train: TrainingSplit = TrainingSplit()


@dataclass(frozen=True)
class _Encoded:
    """Tokens of a row's prompt, of other answers in it that are trained, and of the whole sample; its largest id."""

    row: str
    split: str
    prompt: int
    answers: int
    sample: int
    largest_id: int


def without_torch() -> None:
    """Have transformers 4 imported without torch, for tokenizers alone, and without asking the Hub for anything."""
    os.environ |= {"USE_TORCH": "0", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "HF_HUB_OFFLINE": "1"}


def check_model(check: ModelCheck) -> CheckFacts:
    """Check a model. Raises ModelError or DataError, with all that a user needs to mend it."""
    started = time.monotonic()
    _require_known_architecture(check)
    loaded = _tokenizer(check)
    encoder = Encoder(loaded.tokenizer, check.dataset_type, check.prompt, check.system_prompt, check.mask_history)
    encoded = list(_encoded_rows(check, encoder)) if check.data else [_question(check, encoder)]
    _require_known_ids(check, loaded, encoded)
    _require_short_prompts(check, encoded)
    longest = max(encoded, key=lambda one: one.sample)
    cut = sum(one.sample > check.max_seq_len for one in encoded) if check.max_seq_len else 0
    rows = len(encoded) if check.data else 0
    odd = [*_no_template(check, loaded), *_goes_on(check, loaded, encoder)]
    if check.packed:
        odd += _odd_packs(check, encoded)
    seconds = round(time.monotonic() - started, 3)
    return CheckFacts(rows, longest.sample, longest.row, cut, seconds, tuple(odd), _training_split(check, encoded))


def _training_split(check: ModelCheck, encoded: Sequence[_Encoded]) -> TrainingSplit:
    """How much the training split is, each sample cut as the training does."""
    rows = [one for one in encoded if one.split == "train"]
    lengths = [min(one.sample, check.max_seq_len) for one in rows]
    samples = count_packs(lengths, check.max_seq_len) if check.packed else len(rows)
    answers = sum(length - one.prompt + one.answers for length, one in zip(lengths, rows, strict=True))
    return TrainingSplit(samples, sum(lengths), answers)


def _require_known_architecture(check: ModelCheck) -> None:
    """Raise ModelError if transformers cannot build the model, with which it is trained or evaluated."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if check.weights is None:
        return
    try:
        config = AutoConfig.from_pretrained(check.weights, trust_remote_code=False)
    # An architecture that it does not know, or values that it does not take: whichever error these raise there.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise ModelError(f"{check.weights}: transformers cannot load its config.json ({reason})") from error
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{check.weights}: its architecture, {config.model_type!r}, is no language model of transformers"
        )


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


def _no_template(check: ModelCheck, loaded: ModelTokenizer) -> Iterator[str]:
    """What a model is given that has no chat template, though one is asked for: the same lines as by the provider."""
    if check.dataset_type == "chat_completion" and loaded.tokenizer.chat_template is None:
        lines = "training and evaluation give it lines such as 'user: …' instead"
        advice = "write dataset_type: text_completion, which gives the same, or use a model that has one"
        yield f"{check.model} has no chat template, so {lines}; {advice}"


def _goes_on(check: ModelCheck, loaded: ModelTokenizer, encoder: Encoder) -> Iterator[str]:
    """How answers end that the model is trained on, if that is not what ends an answer when it is evaluated."""
    if not (check.data and check.weights and check.evaluated):
        return
    first = split_rows(check.files, check.splits[0], 1, check.columns)[0]
    completion, stops = encoder.encode(first.row).completion, stop_ids(Path(check.weights))
    if stops.isdisjoint(completion):
        special = [one for one in completion if one in loaded.tokenizer.all_special_ids] or completion
        token = loaded.tokenizer.convert_ids_to_tokens(special[-1])
        known = " or ".join(str(loaded.tokenizer.convert_ids_to_tokens(one)) for one in sorted(stops)) or "no token"
        advice = f"add {special[-1]} to eos_token_id in its {GENERATION_CONFIG}"
        yield f"{check.model} is trained to end answers with {token}, but generating stops at {known}: {advice}"


def _encoded_rows(check: ModelCheck, encoder: Encoder) -> Iterator[_Encoded]:
    # Of one file there is no doubt which.
    named = {file: f" of {name}" for file, name in zip(check.files, told_apart(check.files), strict=True)}
    for split in check.splits:
        for one in split_rows(check.files, split, check.first(split), check.columns):
            name = f"row {one.number} of split {split}{named[one.file] if len(named) > 1 else ''}"
            yield _encoded(one, name, split, encoder)


def _encoded(one: JoinedRow, name: str, split: str, encoder: Encoder) -> _Encoded:
    try:
        prompt, completion, answers = encoder.encode(one.row)
    except DataError as error:
        raise DataError(f"{one.file}: row {one.number} of split {split}: {error}") from error
    trained = sum(end - begin for begin, end in answers)
    return _Encoded(name, split, len(prompt), trained, len(prompt) + len(completion), max([*prompt, *completion]))


def _question(check: ModelCheck, encoder: Encoder) -> _Encoded:
    """A prompt such as tasks make, for there is no telling which ones they will."""
    try:
        prompt = encoder.encode_prompt(_QUESTION)
    except DataError as error:
        raise DataError(f"{check.tokenizer}: {error}") from error
    return _Encoded("a question", "", len(prompt), 0, len(prompt), max(prompt))


def count_packs(lengths: Iterable[int], size: int) -> int:
    """Packs of samples of these lengths, none longer than `size` tokens."""
    return sum(begin_packs(lengths, size))


def _odd_packs(check: ModelCheck, encoded: Sequence[_Encoded]) -> Iterator[str]:
    """What a packed training does unexpectedly. Raises DataError if its rows do not fill one optimizer step."""
    lengths = [min(one.sample, check.max_seq_len) for one in encoded if one.split == "train"]
    packs, steps = count_packs(lengths, check.max_seq_len), PackedSteps(**(check.packed or {}))
    if problem := steps.too_few(packs, len(lengths)):
        raise DataError(
            f"{shortened(check.data)}: {problem}, each of up to {check.max_seq_len} tokens (packed, max_seq_len)"
        )
    yield from steps.odd(packs)


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
    raise DataError(f"{shortened(check.data)}: {counted} for max_seq_len {limit}: {longest}; {advice}")
