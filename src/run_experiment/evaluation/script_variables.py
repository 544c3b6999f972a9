"""Variables that a job gives to the script of its evaluation."""

# Folder in which `inspect eval-set` continues what is there.
EVAL_SET_FOLDER = "RUN_EXPERIMENT_EVAL_SET"
# How many samples to compute at once; inspect-ai's own variable for its option.
MAX_CONNECTIONS = "INSPECT_EVAL_MAX_CONNECTIONS"
