"""The data set of a training, tokenized when it is made (train side)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from run_experiment.finetuning.encoder import Encoder, Sample, make_sample, split_rows
from run_experiment.finetuning.tokenizer import ModelTokenizer
from run_experiment.inputs.data_files import DataError, Row


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
            for index, row in enumerate(split_rows(path, split))
        ]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        return self._samples[index]


def _located(
    path: Path, split: str, index: int, encoder: Encoder, row: Row, train_on_input: bool, limit: int
) -> Sample:
    try:
        prompt, completion = encoder.encode(row)
        return make_sample(prompt, completion, train_on_input=train_on_input, max_seq_len=limit)
    except DataError as error:
        raise DataError(f"{path}: {split}[{index}]: {error}") from error
