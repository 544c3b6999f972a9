"""torchtune: its config, and the components of ours that the training process imports.

It imports inputs and the floors below; all rooms above may import it.
Begin with `torchtune_config`; what runs in training begins with `recipe`.
"""
