"""Submission: with which options, in which order, how fast, and what sbatch's answers mean.

It imports `earlier.fate` and `submissions`; the executor imports it, and the rules import `trial`.
Begin with `submitter.Request`, then `submitter.Submitter` and `arguments.sbatch_call`.
"""
