"""Fine-tuning with torchtune: configs for any Llama or Qwen2 model, and the components that they name.

`architecture`, `config` and `metrics` need no torch; `dataset`, `tokenizer`, `schedules`, `checkpointer` and `recipe`
are the train side.
"""
