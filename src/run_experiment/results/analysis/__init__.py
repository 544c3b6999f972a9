"""What the results show, and what may be said of it: scores with intervals, paired comparisons, answers.

Importing it takes seconds (scipy, statsmodels): `results.collect` imports it only when it is called.
Begin with `analyse.analyse`.
"""
