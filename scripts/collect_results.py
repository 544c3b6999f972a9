"""Collect the results of an experiment into results/."""

import sys
from pathlib import Path

from run_experiment.common.errors import InputError
from run_experiment.report.collect import collect

if __name__ == "__main__":
    try:
        collect(Path(snakemake.params.folder))
    except InputError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The results could not be written: {error}")
