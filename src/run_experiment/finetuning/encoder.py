"""Token ids of a training sample, such that its prompt is what inspect-ai's `hf` provider feeds the model.

Without torch: the training and the check before it on a login node use the same encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError

from run_experiment.common.text import shortened
from run_experiment.inputs.conversations import MESSAGES, conversation_problem, is_conversation
from run_experiment.inputs.data_files import DataError, JoinedRow, Row, read_joined, row_weight, text_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100
WEIGHT = "weight"

Message = dict[str, str]
Sample = dict[str, list[Any]]


class Encoded(NamedTuple):
    """Token ids of a row: its prompt, its completion, and where in the prompt other answers are that are trained."""

    prompt: list[int]
    completion: list[int]
    answers: Sequence[tuple[int, int]] = ()


class Encoder:
    """Turns a row into the token ids of its prompt and of its completion.

    Without `mask_history` all answers of a conversation are trained, with it the last one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        dataset_type: str,
        prompt: str,
        system_prompt: str,
        mask_history: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._system_prompt = system_prompt
        self._mask_history = mask_history
        self._uses_template = dataset_type == "chat_completion" and tokenizer.chat_template is not None

    def encode(self, row: Row) -> Encoded:
        """A row's token ids. Raises DataError for one without `messages` that lacks `input` or `output`."""
        if MESSAGES in row:
            return self._encode_conversation(row[MESSAGES])
        missing = [key for key in ("input", "output") if row.get(key) is None]
        if missing:
            raise DataError(f"no `{'` and no `'.join(missing)}`")
        for key in ("input", "output"):
            if problem := text_problem(str(row[key])):
                raise DataError(f"{key} {problem}")
        messages = self._messages(str(row["input"]))
        text = self._whole_prompt(messages)
        return Encoded(self._prompt_ids(text), self._completion(messages, text, str(row["output"])))

    def _encode_conversation(self, given: list[Message]) -> Encoded:
        if problem := conversation_problem(given):
            raise DataError(f"{MESSAGES} {problem}")
        if self._prompt != "{input}":
            raise DataError(f"{MESSAGES} are given as they are, without the prompt {self._prompt!r}")
        asked = [{"role": message["role"], "content": message["content"]} for message in given[:-1]]
        if asked[0]["role"] != "system":
            asked = [*self._system(), *asked]
        text = self._whole_prompt(asked)
        prompt = self._prompt_ids(text)
        completion = self._completion(asked, text, given[-1]["content"])
        return Encoded(prompt, completion, () if self._mask_history else list(self._answers(asked, prompt)))

    def _answers(self, asked: list[Message], prompt: list[int]) -> Iterator[tuple[int, int]]:
        """Where answers begin and end in the tokens of a prompt: the tokens before one are those that ask for it."""
        for index, message in enumerate(asked):
            if message["role"] != "assistant":
                continue
            if not self._uses_template:
                raise DataError("mask_history: false needs a chat template: without one, earlier answers have no end")
            before = self._prompt_ids(self.render_prompt(asked[:index]))
            after = self._prompt_ids(self._apply_template(asked[: index + 1], add_generation_prompt=False))
            if after[: len(before)] != before or prompt[: len(after)] != after:
                what = f"shows the answer in message {index + 1} otherwise to later questions than when it is asked for"
                raise DataError(f"the model's chat template {what}: train the last answer only (mask_history: true)")
            yield len(before), len(after)

    def encode_prompt(self, value: str) -> list[int]:
        """Token ids of the prompt of an input, without its answer. Raises DataError."""
        return self._prompt_ids(self._whole_prompt(self._messages(value)))

    def render_prompt(self, messages: list[Message]) -> str:
        """Text of a conversation up to where the model's answer begins."""
        if self._uses_template:
            return self._apply_template(messages, add_generation_prompt=True)
        return "".join(f"{message['role']}: {message['content']}\n" for message in messages)

    def _whole_prompt(self, messages: list[Message]) -> str:
        """The text of a conversation with all that was said. Raises DataError if the template leaves something out."""
        text = self.render_prompt(messages)
        for message in messages:
            if not _is_within(message["content"], text):
                what = "the system prompt" if message["role"] == "system" else "a part of the prompt"
                raise DataError(f"the model's chat template leaves out {what}")
        return text

    def _messages(self, value: str) -> list[Message]:
        return [*self._system(), {"role": "user", "content": self._filled(value)}]

    def _system(self) -> list[Message]:
        return [{"role": "system", "content": self._system_prompt}] if self._system_prompt else []

    def _filled(self, value: str) -> str:
        """The prompt of an input, as `prompt.format(input=…)` in a task makes it."""
        try:
            return self._prompt.format(input=value)
        except (ValueError, LookupError) as error:
            raise DataError(f"the prompt {self._prompt!r} cannot be filled: write {{{{ and }}}} for braces") from error

    def _completion(self, messages: list[Message], prompt: str, output: str) -> list[int]:
        if not self._uses_template:
            if self._tokenizer.eos_token_id is None:
                raise DataError("the model's tokenizer has no eos token, which ends an answer without a chat template")
            return [*self._ids(output), self._tokenizer.eos_token_id]
        answer = {"role": "assistant", "content": output}
        conversation = self._apply_template([*messages, answer], add_generation_prompt=False)
        if not conversation.startswith(prompt):
            raise DataError("the model's chat template does not put the answer right after the prompt")
        completion = conversation.removeprefix(prompt)
        if not _is_within(output, completion):
            raise DataError("the model's chat template leaves out a part of the answer, such as its reasoning")
        return self._ids(completion)

    def _apply_template(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=add_generation_prompt, tokenize=False, tools=None, enable_thinking=None
            )
        # The others come from a template's own operations, with a content that is no list, say.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            hint = " (with a system prompt)" if messages[0]["role"] == "system" else ""
            raise DataError(f"the model's chat template refuses the prompt{hint}: {error}") from error
        return str(rendered)

    def _prompt_ids(self, text: str) -> list[int]:
        # With special tokens, as the provider does it: a BOS that the template has already written is doubled.
        return list(self._tokenizer(text).input_ids)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def _is_within(part: str, text: str) -> bool:
    """Whether a text has all of a part, but for white space, which templates trim."""
    return part in text or "".join(part.split()) in "".join(text.split())


def make_sample(
    prompt: list[int],
    completion: list[int],
    answers: Sequence[tuple[int, int]] = (),
    *,
    train_on_input: bool,
    max_seq_len: int,
) -> Sample:
    """Tokens cut to `max_seq_len`, with labels. Raises DataError where the cut leaves no completion."""
    if len(prompt) >= max_seq_len:
        raise DataError(f"its prompt has {len(prompt)} tokens, so max_seq_len {max_seq_len} cuts its answer off")
    tokens = [*prompt, *completion][:max_seq_len]
    # Nothing predicts the first token, so it never counts.
    ignored = 1 if train_on_input else len(prompt)
    labels = [IGNORE_INDEX] * ignored + tokens[ignored:]
    for begin, end in answers:
        labels[begin:end] = tokens[begin:end]
    return {"tokens": tokens, "labels": labels}


def begin_packs(lengths: Iterable[int], size: int) -> Iterator[bool]:
    """Whether each sample, by its length, begins a pack of at most `size` tokens, as one does that does not fit."""
    used = size
    for length in lengths:
        used += length
        if begins := used > size:
            used = length
        yield begins


def encoded_split(
    encoder: Encoder,
    files: Sequence[Path],
    split: str,
    *,
    first: int | None,
    columns: Sequence[str],
    train_on_input: bool,
    max_seq_len: int,
    weight_key: str | None = None,
) -> list[Sample]:
    """The samples of a split of joined data files, or of its first rows; with a `weight_key`, each with `weights` of
    tokens.

    Raises DataError, naming file and row.
    """
    samples = []
    for file, number, row in split_rows(files, split, first, columns, weight_key):
        try:
            encoded = encoder.encode(row)
            sample = make_sample(*encoded, train_on_input=train_on_input, max_seq_len=max_seq_len)
            samples.append(sample if weight_key is None else _weighted(sample, row_weight(row, WEIGHT)))
        except DataError as error:
            raise DataError(f"{file}: {split}[{number - 1}]: {error}") from error
    return samples


def _weighted(sample: Sample, weight: float) -> Sample:
    """A sample with the weight of each token in the loss: 0 where none is counted."""
    return {**sample, "weights": [0.0 if label == IGNORE_INDEX else weight for label in sample["labels"]]}


def split_rows(
    files: Sequence[Path],
    split: str,
    first: int | None = None,
    columns: Sequence[str] = ("input", "output"),
    weight_key: str | None = None,
) -> list[JoinedRow]:
    """`input` and `output` of the rows of a split of joined data files, or of its first ones; `messages` of
    conversations.

    `columns` are the ones that have input and output, `weight_key` the one that has `weight`. Raises DataError if there
    are no rows.
    """
    splits = read_joined(files, columns)
    if not splits.get(split):
        raise DataError(
            f"{shortened(list(map(str, files)))}: there is no split `{split}`; there is {', '.join(splits)}"
        )
    of_input, of_output = columns
    return [
        one._replace(
            row=(
                {MESSAGES: one.row[MESSAGES]}
                if is_conversation(one.row, of_input)
                else {"input": one.row.get(of_input), "output": one.row.get(of_output)}
            )
            | ({WEIGHT: one.row.get(weight_key)} if weight_key else {})
        )
        for one in splits[split][:first]
    ]
