"""The results: the table of evaluations, the page, and what made them.

It imports planning and the floors below; the command line and the rules may import it.
Begin with `collect.collect`.
"""
