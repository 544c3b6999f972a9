"""vLLM as the backend of evaluations: a server beside inspect-ai, and inspect-ai's provider that asks it.

Job scripts run `server`, which has inspect-ai import `provider`; `shared` is for several. Checks import
`ranks` and `missing`. Begin with `server`.
"""
