"""What results depend on: data, models, tasks and parameters, as hashes that records keep.

It imports experiment, machine and common; all rooms above may import it.
Begin with `configuration.Determinants`.
"""
