"""Evaluation with inspect-ai: commands, logs and data-set caches."""
