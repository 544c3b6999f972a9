"""What is said where there is no vLLM; for checks, which start without what a server needs."""

from __future__ import annotations


def no_vllm(where: str) -> str:
    """That there is no program `vllm` at a place, with the way out."""
    return (
        f"there is no program `vllm` {where}: install vLLM, in an environment of its own since it needs another torch, "
        "and name that in the setting vllm_environment; or use `backend: hf`"
    )
