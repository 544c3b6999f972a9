"""This computer: processes, GPUs, memory, and the versions that a result is made with.

It imports common; all rooms above may import it.
Begin with `provenance.provenance`, which goes into every record.
"""
