"""Checkpoints: whether one is whole, and a folder that peft and transformers load it from.

It imports inputs and the floors below; all rooms above may import it.
Begin with `manifest.verify`.
"""
