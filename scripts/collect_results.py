"""Collect the results of an experiment into results/."""

import sys
from pathlib import Path

from run_experiment.collect import collect
from run_experiment.problems import InputError

if __name__ == "__main__":
    try:
        collect(Path(snakemake.params.folder))
    except InputError as error:
        sys.exit(str(error))
