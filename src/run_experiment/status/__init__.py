"""`run-experiment status`: what is done, runs, waits, failed or is stale.

It imports planning and the floors below; the command line may import it.
Begin with `read.read_status`.
"""
