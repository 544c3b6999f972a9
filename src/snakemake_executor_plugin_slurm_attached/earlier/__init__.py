"""Jobs of an earlier main process: found again, and what becomes of each.

It imports `ends`, `following` and `submissions`; the executor and the submitter import it.
Begin with `fate.Fate`, then `jobs.EarlierJobs`.
"""
