"""What the results show, and what may be said of it: scores with intervals, paired comparisons, answers.

Importing it takes a while (scipy, pandas): `results.collect` imports it only when it is called.
Begin with `analyse.analyse`.
"""
