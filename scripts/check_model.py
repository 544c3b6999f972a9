"""Check a model with its prompts and data: its tokenizer, its chat template, every row of its training."""

import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.actionlog.entry import ActionLogs, Log
from run_experiment.common.json_files import write_record
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.model_check import FAILED, ModelCheck, check_model, without_torch
from run_experiment.inputs.data_files import DataError
from run_experiment.session.entries import steps as step_entries

if TYPE_CHECKING:
    from snakemake.script import snakemake

if __name__ == "__main__":
    without_torch()
    check, failure = ModelCheck(**snakemake.params.job), ""
    with open(snakemake.log[0], "w") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            facts = check_model(check)
            entry = step_entries.model_checked(check, facts)
        except (ModelError, DataError) as error:
            failure = str(error)
        # Of a chat template or a tokenizer, whose errors are their own.
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
        if failure:
            entry = step_entries.model_refused(check, failure)
            print(FAILED + " ".join(failure.split()))
    logs = ActionLogs(Path())
    logs.write(Log.TORCHTUNE if check.data else Log.INSPECT, entry)
    if logs.incomplete():
        print(logs.incomplete(), file=sys.stderr)
    if failure:
        sys.exit(f"Model {check.model} failed its check ({check.what}): {failure} (log: {log.name})")
    for line in step_entries.unexpected(check, facts):
        print(line, file=sys.stderr)
    write_record(Path(snakemake.output[0]), {"config": check.config, **asdict(facts)})
