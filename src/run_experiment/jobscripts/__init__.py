"""Job scripts: rendered, edited by hand, or left by another tool.

It imports evaluation, finetuning and the floors below; all rooms above may import it.
Begin with `render.JobScripts`.
"""
