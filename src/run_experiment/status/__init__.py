"""`run-experiment status`: what is done, running, pending, failed or stale.

It imports estimate and the floors below; report and the command line may import it.
Begin with `read.read_status`.
"""
