"""Prebuild the cache of a data set: calls its task once, with the caches in the experiment."""

import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path

from run_experiment.evaluation.cache import prebuild
from run_experiment.jobs import require_data_set
from run_experiment.records import write_record

if __name__ == "__main__":
    job, failure = snakemake.params.job, ""
    with open(snakemake.log[0], "w") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            check = partial(require_data_set, job["config"], job["script"], job["data"])
            facts = prebuild(Path(job["script"]), job["function"], job["arguments"], Path(job["folder"]), check)
        # The task is the user's code: whatever it raises is told in a line, and whole in the log.
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
    if failure:
        sys.exit(f"Task {snakemake.wildcards.data_set} failed to load its data: {failure} (log: {log.name})")
    write_record(Path(snakemake.output[0]), {"config": job["config"], "folder": job["folder"], **asdict(facts)})
