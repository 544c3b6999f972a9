"""What the page checks of the numbers that it shows: losses, checkpoints, scores, classes, answers.

`losses` are checks of trainings, `classes` those of tasks whose targets are a few classes.
Begin with `checks.checks`, which makes all rows.
"""
