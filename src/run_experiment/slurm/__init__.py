"""SLURM: its clients, what they answer, and the ledger of the jobs that it accepted.

It imports machine and common; all rooms above may import it.
Begin with `clients`, then `ledger.Ledger`.
"""
