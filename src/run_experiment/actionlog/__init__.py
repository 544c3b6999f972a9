"""The two action logs: entries and how they are written, read back and shown.

It imports slurm and the floors below; all rooms above may import it.
Begin with `entry.Entry`.
"""
