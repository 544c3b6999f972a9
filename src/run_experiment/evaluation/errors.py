"""The error of an evaluation."""

from __future__ import annotations


class EvalError(Exception):
    """An evaluation did not succeed, or its log cannot be read; the message says why."""
