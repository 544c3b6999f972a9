"""`run-experiment status`: what is done, running, pending, failed or stale.

It imports planning and the floors below; the command line may import it.
Begin with `read.read_status`.
"""
