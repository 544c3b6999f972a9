"""`results/report.html`: what a reader wants to know about an experiment, in one file that needs no network.

It imports results, status and the floors below; the command line and the rules may import it.
Begin with `collect.collect`.
"""
