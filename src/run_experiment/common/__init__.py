"""What every room may use and what knows no domain: paths, JSON files, errors, time.

It imports no other room; all rooms may import it.
Begin with `paths`, where each file of an experiment's folder has its name.
"""
