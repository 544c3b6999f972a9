"""What inspect-ai's `hf` provider feeds a model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, get_model


def provider_inputs(model: Path, conversations: list[list[ChatMessage]], **model_args: Any) -> list[list[int]]:
    """The token ids that reach `generate` of the model that inspect-ai's `hf` provider loads."""
    count = len(conversations)
    loaded = get_model(
        "hf/local",
        model_path=str(model),
        device="cpu",
        memoize=False,
        config=GenerateConfig(max_tokens=1, max_connections=count),
        **model_args,
    )
    api: Any = loaded.api
    generate = api.model.generate
    fed: list[list[int]] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        fed.extend(row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True))
        return generate(*args, **kwargs)

    api.model.generate = spy

    async def ask() -> None:
        await asyncio.gather(*(loaded.generate(conversation) for conversation in conversations))

    asyncio.run(ask())
    assert len(fed) == count
    return fed
