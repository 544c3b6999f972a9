"""Collect the results of an experiment into results/, and keep how long its jobs took, for estimates."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.common.errors import InputError
from run_experiment.estimate.measurements import Store, measured
from run_experiment.report.collect import write_all
from run_experiment.results.collect import read_records

if TYPE_CHECKING:
    from snakemake.script import snakemake

if __name__ == "__main__":
    try:
        records = read_records(Path(snakemake.params.folder))
        Store().add(measured(records.plan))
        write_all(records)
    except InputError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The results could not be written: {error}")
