"""Prebuild the cache of a data set: calls its task once, with the caches in the experiment."""

import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.actionlog.entry import ActionLogs, Log
from run_experiment.common.json_files import failed_at, write_record
from run_experiment.evaluation.dataset_cache import FACTS, failure_text, prebuild
from run_experiment.jobs.checks import require_data_set
from run_experiment.session.entries import steps as step_entries

if TYPE_CHECKING:
    from snakemake.script import snakemake

if __name__ == "__main__":
    job, name, failure = snakemake.params.job, snakemake.wildcards.data_set, ""
    # A task that asks for input would wait for ever.
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    logs, there = ActionLogs(Path()), (Path(job["folder"]) / FACTS).is_file()
    # Only a stale target has an input, its marker; Snakemake has removed the earlier record by now.
    if snakemake.input:
        logs.write(Log.INSPECT, step_entries.cache_stale(name, job, snakemake.params.reason, there))
    with open(snakemake.log[0], "w") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            check = partial(require_data_set, job["config"], job["script"], job["data"])
            facts = prebuild(Path(job["script"]), job["function"], job["arguments"], Path(job["folder"]), check)
            entry = step_entries.cache_built(name, job, facts.samples, facts.seconds, there, facts.odd)
        # The task is the user's code: whatever it raises is reported in one line, and in full in the log.
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failure = failure_text(error, Path(job["script"]))
            print(failed_at(job["config"]) + " ".join(failure.split()))
            entry = step_entries.cache_failed(name, job, failure, Path(log.name).absolute())
    logs.write(Log.INSPECT, entry)
    if logs.incomplete():
        print(logs.incomplete(), file=sys.stderr)
    if failure:
        sys.exit(f"Task {name} failed to load its data: {failure} (log: {log.name})")
    for line in facts.odd:
        print(f"Task {name}: {line}", file=sys.stderr)
    write_record(Path(snakemake.output[0]), {"config": job["config"], "folder": job["folder"], **asdict(facts)})
