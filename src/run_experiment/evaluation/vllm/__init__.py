"""vLLM as the backend of evaluations: a server beside inspect-ai, and inspect-ai's provider that asks it.

Job scripts run `server`, which has inspect-ai import `provider`; the checks of a summary import `ranks`.
Begin with `server`.
"""
