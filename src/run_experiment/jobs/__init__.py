"""What runs on the node: the job script with checks before and after, and the record of what it made.

It imports attempts, jobscripts and the floors below; planning may import it.
Begin with `main.run_job`, then `run`.
"""
