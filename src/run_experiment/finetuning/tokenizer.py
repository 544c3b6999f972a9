"""The model's own tokenizer for torchtune (train side)."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import AutoTokenizer, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelTokenizer:
    """A Hugging Face tokenizer and the token that fills batches up."""

    tokenizer: PreTrainedTokenizerBase
    pad_id: int


def load_tokenizer(path: str) -> ModelTokenizer:
    """Load the tokenizer of a model folder; code that the folder may bring is not run."""
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return ModelTokenizer(tokenizer, next(token for token in candidates if token is not None))
