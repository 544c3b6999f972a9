"""`experiment_summary.yaml`: read, checked as a whole, each problem with its line.

It imports jobscripts and the floors below; planning and the rooms above may import it.
Begin with `read`: `read_summary` checks, `read_experiment` only resolves.
"""
