"""A session of the main process: what it plans, follows, and writes to the action logs.

It imports planning and the floors below; the logger plugin and the rules may import it.
Begin with `log.SessionLog`.
"""
