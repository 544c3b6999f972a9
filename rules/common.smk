# Reads the experiment, plans it, and adapts wildcards to calls of the package.
#
# needs: config/config.yaml, experiment_summary.yaml, the records of what was made before

import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from run_experiment import layout
from run_experiment.collect import collect, hash_memory
from run_experiment.experiment import resolve
from run_experiment.job_scripts import CPUS
from run_experiment.plan import make_plan
from run_experiment.planned_jobs import PlannedJobs
from run_experiment.problems import InputError
from run_experiment.schema import NAME_PATTERN
from run_experiment.settings import read_settings
from run_experiment.summary import read_summary

SOURCE = Path(workflow.basedir)

try:
    settings = read_settings(SOURCE / "config/config.yaml", config, Path.cwd())
    summary, warnings = read_summary(settings.experiment_dir / layout.SUMMARY)
    experiment = resolve(summary, settings.experiment_dir)
    memory = hash_memory(experiment.folder)
    plan = make_plan(experiment, settings, memory)
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)

for warning in warnings:
    logger.warning(warning.render(layout.SUMMARY))

jobs = PlannedJobs(plan)
memory.save()
plan.mark_stale()

# For the table of what will not run; the default output has nothing to print for it.
logger.info(None, extra={"plan": plan.rows()})


def needs(path):
    """Input function of a target: what must be made before it, and the marker that says it is stale."""
    return lambda wildcards: target(path, wildcards).inputs


def reason(path):
    """Why a target is made, for the message of its job."""
    return lambda wildcards: target(path, wildcards).reason


class JobNumber:
    """Snakemake's number of the job that makes a target: its id where SLURM gives none.

    There is no number before the DAG is built, which is after params are evaluated: so it is looked up when the
    command is written.
    """

    def __init__(self, target):
        self.target = target

    def __str__(self):
        return str(
            next(job.jobid for job in workflow.dag.jobs if self.target in job.output)
        )


def job_number(path):
    """Number of the job that makes a target, for its command."""
    return lambda wildcards: JobNumber(path.format(**wildcards))


def python(script):
    """Command that runs one of our scripts on whichever node, in this environment."""
    return shlex.join([sys.executable, str(SOURCE / "scripts" / script)])


def collect_what_is_done():
    """Write the results so far and say what is missing; the summary may have been edited since."""
    try:
        missing = collect(experiment.folder)
    except InputError as error:
        logger.error(f"The results were not collected: {error}")
        return
    lines = [f"    {subject}: {why}" for subject, why in missing]
    page = experiment.folder / layout.SUMMARY_PAGE
    end = f"Results so far: {page}\nThe same command again makes only what is missing."
    logger.error("\n".join(["Not done:", *lines, end]))


def say_where_results_are():
    """Name the results, where they were asked for."""
    if any(job.rule.name == "collect_results" for job in workflow.dag.jobs):
        logger.info(f"Results: {experiment.folder / layout.SUMMARY_PAGE}")


def target(path, wildcards):
    """The plan's target of a path with wildcards."""
    name = path.format(**wildcards)
    if name not in plan.targets:
        raise WorkflowError(f"{name} is not made in this experiment")
    return plan[name]


def write_job_scripts():
    """Write the job scripts that are missing or outdated; say which ones are the user's own."""
    for said in plan.write_scripts():
        logger.info(said)
