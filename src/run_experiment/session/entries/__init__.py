"""The texts of a session's entries in the action logs: pure functions from facts to entries.

It imports actionlog, slurm and `session.plan`; the modules of session and the logger plugin import it.
Begin with `jobs`; `steps` has the entries between training and evaluation.
"""
