"""Fine-tuning with torchtune: configs for any Llama or Qwen2 model, and the components that they name.

`architecture`, `batches`, `config`, `metrics` and `progress` need no torch; `dataset`, `tokenizer`, `schedules`,
`checkpointer` and `recipe` are the train side.
"""
