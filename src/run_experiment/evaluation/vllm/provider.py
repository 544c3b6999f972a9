"""inspect-ai's provider `vllm-tokens`: the prompts of `hf`, token for token, answered by a vLLM server.

vLLM's own chat endpoint tokenizes otherwise: of Llama it gives one BOS where `hf` and our trainings have two. So here
chat template and tokenizer are `hf`'s own, vLLM gets token ids, and what it answers is decoded as `hf` decodes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import httpx
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)
from inspect_ai.model._providers.hf import HuggingFaceAPI, chat_completion_assistant_message
from inspect_ai.model._providers.util import HFHandler
from inspect_ai.tool import ToolChoice, ToolInfo
from transformers import AutoTokenizer

from run_experiment.evaluation.settings import VLLM
from run_experiment.evaluation.vllm.server import MODEL, SOCKET
from run_experiment.evaluation.vllm.serving import BASE, client

_TOKEN_ID = "token_id:"
# Why an answer ended, as inspect-ai says it.
_STOP_REASONS = {"stop": "stop", "length": "max_tokens"}


class VllmError(Exception):
    """vLLM did not answer as it should; the message says how."""


@modelapi(name=VLLM)
class VllmTokensAPI(HuggingFaceAPI):
    """A model that a server on the socket in our variable serves; arguments are those of `hf`."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        *,
        tokenizer_path: str,
        use_chat_template: bool | None = None,
        do_sample: bool = True,
        **_: Any,
    ) -> None:
        # Not that of `hf`, which loads the model.
        ModelAPI.__init__(self, model_name, base_url, api_key, [], config)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_path)
        self.use_chat_template = use_chat_template
        self.chat_template = self.enable_thinking = None
        self.do_sample = do_sample
        self._client: httpx.AsyncClient | None = None
        self._served, self._context = _served_model()

    def close(self) -> None:
        """Nothing is loaded here."""

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """The answer to messages."""
        prompt = self.prompt(input, tools)
        room = self._context - len(prompt)
        if room < 1:
            text = f"the prompt has {len(prompt)} tokens, and vLLM serves {self._context} with the answer"
            return ModelOutput.from_content(self.model_name, text, stop_reason="model_length")
        choice = await self._asked(prompt, {**self._sampling(config), "max_tokens": min(_most(config), room)})
        ids = choice["token_ids"]
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        handler = HFHandler(self.model_name, self.model_family()) if tools else None
        message = chat_completion_assistant_message(_Answer(text), tools, handler, self.model_name)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=message,
                    stop_reason=_STOP_REASONS.get(str(choice.get("finish_reason")), "unknown"),
                    logprobs=self._logprobs(choice["logprobs"]) if config.logprobs else None,
                )
            ],
            usage=ModelUsage(input_tokens=len(prompt), output_tokens=len(ids), total_tokens=len(prompt) + len(ids)),
        )

    def prompt(self, messages: list[ChatMessage], tools: list[ToolInfo]) -> list[int]:
        """Tokens of messages, made as `hf` makes those of its model."""
        return list(self.tokenizer(self.hf_chat(messages, tools))["input_ids"])

    def _sampling(self, config: GenerateConfig) -> dict[str, Any]:
        """How vLLM is to answer; what is left open the model's generation_config.json decides, as with `hf`."""
        asked: dict[str, Any] = {"stop": config.stop_seqs}
        if config.logprobs:
            asked |= {"logprobs": config.top_logprobs or 1, "return_tokens_as_token_ids": True}
        if not self.do_sample:
            return {**_given(asked), "temperature": 0.0}
        chosen = {"temperature": config.temperature, "top_p": config.top_p, "top_k": config.top_k}
        return _given({**asked, **chosen})

    async def _asked(self, prompt: list[int], how: Mapping[str, Any]) -> dict[str, Any]:
        """The one choice of a completion. Raises VllmError."""
        if self._client is None:
            transport = httpx.AsyncHTTPTransport(uds=os.environ[SOCKET], limits=httpx.Limits(max_connections=None))
            # An answer may wait for many others.
            self._client = httpx.AsyncClient(transport=transport, base_url="http://vllm", timeout=None)
        request = {"model": self._served, "prompt": prompt, "return_token_ids": True, **how}
        try:
            reply = await self._client.post("/v1/completions", json=request)
        except httpx.TransportError as error:
            raise VllmError("the vLLM server is gone; what it said last is in the job's log") from error
        if not reply.is_success:
            raise VllmError(f"vLLM answered with status {reply.status_code}: {reply.text[:2000]}")
        choice: dict[str, Any] = reply.json()["choices"][0]
        if not isinstance(choice.get("token_ids"), list):
            raise VllmError("vLLM answered without the tokens of its answer: 0.10.2 or newer is needed")
        if choice.get("prompt_token_ids", prompt) != prompt:
            raise VllmError("vLLM answered to other tokens than those of the prompt")
        return choice

    def _logprobs(self, found: Mapping[str, Any]) -> Logprobs:
        """Log probabilities with tokens named as `hf` names them."""
        content = [
            Logprob(
                token=self._token(token),
                logprob=logprob,
                top_logprobs=[
                    TopLogprob(token=self._token(one), logprob=value)
                    for one, value in sorted(top.items(), key=lambda pair: -pair[1])
                ],
            )
            for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)
        ]
        return Logprobs(content=content)

    def _token(self, name: str) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(int(name.removeprefix(_TOKEN_ID))))


class _Answer:
    """An answer as `hf`'s functions take it."""

    def __init__(self, output: str) -> None:
        self.output = output


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _most(config: GenerateConfig) -> int:
    """Tokens of an answer at the most; inspect-ai asks with its provider's default if the task gives none."""
    return sys.maxsize if config.max_tokens is None else config.max_tokens


def _served_model() -> tuple[str, int]:
    """Name of the model to ask, and how many tokens prompt and answer may have together."""
    with client(os.environ[SOCKET]) as server:
        cards = {card["id"]: card for card in server.get("/v1/models").json()["data"]}
    return os.environ[MODEL], int(cards[BASE]["max_model_len"])


def main() -> None:
    """Run inspect-ai's command line, which knows the provider by the import of this module."""
    from inspect_ai._cli.main import main as run_inspect

    sys.argv[0] = "inspect"
    run_inspect()
