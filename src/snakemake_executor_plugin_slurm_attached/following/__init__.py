"""Jobs between their submission and the entry of their end: records are looked at, accounting is asked.

It imports `ends` and `submissions`; the executor and `earlier` import it.
Begin with `follower.Follower`, then `ended.Ended`.
"""
