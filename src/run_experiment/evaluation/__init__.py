"""inspect-ai: its command, its logs, and the data set caches that evaluations read.

It imports inputs and the floors below; all rooms above may import it.
Begin with `command`, then `eval_log`.
"""
