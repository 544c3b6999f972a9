"""Attempts that failed or were cut off (the one reader of `{run}/attempts`), and the folders of trainings.

It imports actionlog and the floors below; all rooms above may import it.
Begin with `history.read` and `trainings.kept_training`.
"""
