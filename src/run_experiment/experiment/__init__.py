"""The experiment as the user means it: the schema of the summary, the resolved model, the settings.

It imports common; all rooms above may import it.
Begin with `model.Experiment`; `resolve` makes one of a summary.
"""
