"""What is asked of a summary, a module for each concern: types, references, files, data, models.

It imports `summary.draft`, `summary.path_hints`, jobscripts and the floors below; only `summary.read` calls it.
Begin with `types`, then `references` and `files`, in the order in which `read` runs them.
"""
