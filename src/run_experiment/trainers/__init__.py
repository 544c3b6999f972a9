"""Trainers: what each renders, runs and leaves to resume from, and which models and options it can train exactly.

It imports finetuning and the floors below; all rooms above may import it, and know no trainer by name.
Begin with `trainer.Trainer`; `known` chooses one.
"""
