"""Training samples, tokenized so that prompts are what inspect-ai's `hf` provider feeds the model (train side)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from run_experiment.finetuning.tokenizer import ModelTokenizer
from run_experiment.inputs.data_files import DataError, Row, read_splits, text_problem

IGNORE_INDEX = -100

Message = dict[str, str]
Sample = dict[str, list[int]]


class PromptCompletionDataset(Dataset[Sample]):
    """Samples of one split: `tokens` and `labels` of equal length, labels -100 where no loss is counted.

    Texts may come in pieces (a list), which are joined. Raises DataError, naming the row, where a sample cannot be
    made or `max_seq_len` leaves nothing of its completion.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        *,
        data: str | Sequence[str],
        split: str,
        dataset_type: str,
        prompt: str | Sequence[str],
        system_prompt: str | Sequence[str],
        train_on_input: bool,
        max_seq_len: int,
    ) -> None:
        path = Path("".join(data))
        encoder = Encoder(tokenizer.tokenizer, dataset_type, "".join(prompt), "".join(system_prompt))
        self._samples = [
            _located(path, split, index, encoder, row, train_on_input, max_seq_len)
            for index, row in enumerate(_rows(path, split))
        ]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        return self._samples[index]


class Encoder:
    """Turns a row into the token ids of its prompt and of its completion."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, dataset_type: str, prompt: str, system_prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._system_prompt = system_prompt
        self._uses_template = dataset_type == "chat_completion" and tokenizer.chat_template is not None

    def encode(self, row: Row) -> tuple[list[int], list[int]]:
        """Token ids of prompt and completion. Raises DataError for a row without `input` or `output`."""
        missing = [key for key in ("input", "output") if row.get(key) is None]
        if missing:
            raise DataError(f"no `{'` and no `'.join(missing)}`")
        for key in ("input", "output"):
            if problem := text_problem(str(row[key])):
                raise DataError(f"{key} {problem}")
        messages = self._messages(str(row["input"]))
        text = self.render_prompt(messages)
        # With special tokens, as the provider does it: a BOS that the template has already written is doubled.
        prompt = list(self._tokenizer(text).input_ids)
        return prompt, self._completion(messages, text, str(row["output"]))

    def render_prompt(self, messages: list[Message]) -> str:
        """Text of a conversation up to where the model's answer begins."""
        if self._uses_template:
            return self._apply_template(messages, add_generation_prompt=True)
        return "".join(f"{message['role']}: {message['content']}\n" for message in messages)

    def _messages(self, value: str) -> list[Message]:
        system = [{"role": "system", "content": self._system_prompt}] if self._system_prompt else []
        return [*system, {"role": "user", "content": self._filled(value)}]

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
        return self._ids(conversation.removeprefix(prompt))

    def _apply_template(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=add_generation_prompt, tokenize=False, tools=None, enable_thinking=None
            )
        except TemplateError as error:
            hint = " (with a system prompt)" if self._system_prompt else ""
            raise DataError(f"the model's chat template refuses the prompt{hint}: {error}") from error
        return str(rendered)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def make_sample(prompt: list[int], completion: list[int], *, train_on_input: bool, max_seq_len: int) -> Sample:
    """Tokens cut to `max_seq_len`, with labels. Raises DataError where the cut leaves no completion."""
    if len(prompt) >= max_seq_len:
        raise DataError(f"its prompt has {len(prompt)} tokens, so max_seq_len {max_seq_len} cuts its answer off")
    tokens = [*prompt, *completion][:max_seq_len]
    # Nothing predicts the first token, so it never counts.
    ignored = 1 if train_on_input else len(prompt)
    return {"tokens": tokens, "labels": [IGNORE_INDEX] * ignored + tokens[ignored:]}


def _rows(path: Path, split: str) -> Sequence[Row]:
    splits = read_splits(path)
    if not splits.get(split):
        raise DataError(f"{path} has no split `{split}`; it has {', '.join(splits)}")
    return splits[split]


def _located(
    path: Path, split: str, index: int, encoder: Encoder, row: Row, train_on_input: bool, limit: int
) -> Sample:
    try:
        prompt, completion = encoder.encode(row)
        return make_sample(prompt, completion, train_on_input=train_on_input, max_seq_len=limit)
    except DataError as error:
        raise DataError(f"{path}: {split}[{index}]: {error}") from error
