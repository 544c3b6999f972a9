"""The data set of a training, tokenized when it is made (train side)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from torchtune.datasets import PackedDataset
from torchtune.modules.attention_utils import create_block_causal_mask

from run_experiment.finetuning.encoder import Encoder, Sample, encoded_split
from run_experiment.finetuning.tokenizer import ModelTokenizer
from run_experiment.inputs.data_files import data_files


class PromptCompletionDataset(Dataset[Sample]):
    """Samples of one split: `tokens` and `labels` of equal length, labels -100 where no loss is counted.

    `data` is a data file or a list of them. Texts may come in pieces (a list), which are joined. Raises DataError,
    naming the row, where a sample cannot be made or `max_seq_len` leaves nothing of its completion. `max_samples` takes
    only the first rows, `input_key` and `output_key` are the columns of the data; without `mask_history` all answers of
    conversations are trained.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        *,
        data: str | Sequence[str | Sequence[str]],
        split: str,
        dataset_type: str,
        prompt: str | Sequence[str],
        system_prompt: str | Sequence[str],
        train_on_input: bool,
        max_seq_len: int,
        max_samples: int | None = None,
        input_key: str | Sequence[str] = "input",
        output_key: str | Sequence[str] = "output",
        mask_history: bool = True,
    ) -> None:
        self._samples = encoded_split(
            Encoder(tokenizer.tokenizer, dataset_type, "".join(prompt), "".join(system_prompt), mask_history),
            data_files(data),
            split,
            first=max_samples,
            columns=("".join(input_key), "".join(output_key)),
            train_on_input=train_on_input,
            max_seq_len=max_seq_len,
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        return self._samples[index]


def packed_dataset(tokenizer: ModelTokenizer, **given: Any) -> PackedDataset:
    """The samples of a PromptCompletionDataset, packed in their order into sequences of `max_seq_len` tokens."""
    samples = PromptCompletionDataset(tokenizer, **given)
    return PackedDataset(samples, max_seq_len=given["max_seq_len"], padding_idx=tokenizer.pad_id)


def collate_packed(packs: Sequence[dict[str, torch.Tensor]], **_padding: Any) -> dict[str, torch.Tensor]:
    """A batch of packs, with a mask that hides the samples of a pack from each other.

    Unlike torchtune's own function it makes the same mask for every device: that for a GPU needs a compiler there.
    """
    batch = {name: torch.stack([pack[name] for pack in packs]) for name in ("tokens", "labels", "input_pos")}
    return {**batch, "mask": create_block_causal_mask([pack["seq_lens"] for pack in packs])}
