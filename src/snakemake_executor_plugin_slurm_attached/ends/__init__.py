"""Ends of jobs: what a job left, and whether another job can bring its target to a good end.

It imports only rooms of the package; the executor, `following`, `earlier` and `submissions` import it.
Begin with `verdict.verdict`, then `retry_policy.judge`.
"""
