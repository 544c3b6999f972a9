"""Helpers without domain knowledge that every room may use: paths, JSON files, errors, time.

It imports no other room; all rooms may import it.
Begin with `paths`, where each file of an experiment's folder has its name.
"""
