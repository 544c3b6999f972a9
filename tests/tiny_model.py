"""Tiny models for the tests: real architectures, tokenizers and chat templates, always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

HIDDEN_SIZE = 64
TEXT = "Capitalize the given word. word WORD apple APPLE river RIVER You are a helpful assistant. the quick brown fox."

LLAMA_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
# Like Qwen's, this one brings a system prompt of its own where none is given.
QWEN_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_tiny_model(
    folder: Path,
    *,
    architecture: Literal["llama", "qwen2"] = "llama",
    tied: bool = True,
    rope_scaling: bool = False,
    chat_template: bool = True,
) -> Path:
    """Write a 2-layer model folder with random fp32 weights and return it.

    The llama tokenizer puts BOS before every text (as Llama 3 does), the qwen2 one does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = _save_tokenizer(folder, architecture, chat_template)
    _save_model(folder, architecture, vocab_size, tied, rope_scaling)
    return folder


def _save_tokenizer(folder: Path, architecture: str, chat_template: bool) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    llama = architecture == "llama"
    special = (
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"]
        if llama
        else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if llama:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token="<|eot_id|>" if llama else "<|im_end|>",
        pad_token="<|pad|>" if llama else "<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    if chat_template:
        fast.chat_template = LLAMA_TEMPLATE if llama else QWEN_TEMPLATE
    fast.save_pretrained(folder)
    return len(fast)


def _save_model(folder: Path, architecture: str, vocab_size: int, tied: bool, rope_scaling: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

    tokenizer = AutoTokenizer.from_pretrained(folder)
    llama = architecture == "llama"
    config = (LlamaConfig if llama else Qwen2Config)(
        vocab_size=vocab_size,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5 if llama else 1e-6,
        rope_theta=500_000.0 if llama else 1_000_000.0,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    if rope_scaling:
        config.max_position_embeddings = 65_536
        config.rope_scaling = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        # Norms of one and biases of zero would hide a mistake in how they are read.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
