# Reads the experiment, plans it, and adapts wildcards to calls of the package.
#
# needs: config/config.yaml, experiment_summary.yaml, the records of what was made before

import atexit
import functools
import gc
import shlex
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from run_experiment.common import paths
from run_experiment.common.experiment_lock import ClaimError, claim
from run_experiment.estimate.cost import judge_of
from run_experiment.estimate.measurements import Store, measured
from run_experiment.estimate.time_limits import TimeLimits
from run_experiment.estimate.text import beyond_budget, estimate_text, over_budget
from run_experiment.planning.early import early_targets, remove_marks, trainings_behind
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.submitted_scripts import SubmittedScripts
from run_experiment.report.collect import refresh, renew_page, write_all
from run_experiment.results.collect import read_records
from run_experiment.experiment.command_hints import command_hints
from run_experiment.experiment.resolve import resolve
from run_experiment.inputs.file_hashes import hash_memory
from run_experiment.jobscripts.render import CPUS
from run_experiment.jobscripts.sbatch_lines import environment_problems
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.planning.build import make_plan
from run_experiment.planning.missing_packages import missing_nodes, missing_packages
from run_experiment.planning.redone.move import move_records
from run_experiment.common.errors import InputError
from run_experiment.common.files import links_at_top
from run_experiment.common.places import unusable_places
from run_experiment.experiment.section import NAME_PATTERN
from run_experiment.machine.hangup import interrupt_at_hangup
from run_experiment.session.events import RECORD_ATTRIBUTE as SESSION_PLAN
from run_experiment.session.plan import session_plan
from run_experiment.machine.allocation import note_own_allocation
from run_experiment.experiment.settings import read_settings
from run_experiment.summary.read import read_summary
from run_experiment.planning.target import mark_stale

SOURCE = Path(workflow.basedir)

# A plan and Snakemake's graph are millions of objects that live until the end: to look through them for garbage, while
# they grow, takes a third of the time of planning. `watch_for_garbage` turns it on again.
gc.disable()


@functools.cache
def judge():
    """Judges how long jobs take, by what was measured before this session."""
    return judge_of(plan)


def end_with(refusals):
    """End this command with an error if anything is refused."""
    if refusals:
        print(*refusals, sep="\n", file=sys.stderr)
        sys.exit(2)


# Before the settings are read: without the misplaced ones they would name another experiment than intended.
end_with(command_hints(sys.argv[1:], config, workflow.resource_settings.cores))

try:
    settings = read_settings(SOURCE / "config/config.yaml", config, Path.cwd())
    if not workflow.is_main_process:
        # A Snakemake within a job, of another executor: what it makes has been moved away by the main process.
        settings = replace(settings, redo=())
    end_with(unusable_places(settings.experiment_dir))
    summary, warnings = read_summary(settings.experiment_dir / paths.SUMMARY)
    experiment = resolve(summary, settings.experiment_dir)
    end_with(unusable_places(experiment.folder, experiment.run_by_name))
    memory = hash_memory(experiment.folder)
    # Its snapshot has who works on it now; who does later is noticed when it is claimed.
    plan = make_plan(experiment, settings, memory, Snapshot(experiment.folder))
    if settings.time_limit_hours:
        plan.scripts.time_limit = TimeLimits(plan, judge, settings.time_limit_hours)
    left_behind = plan.left_behind()
except InputError as error:
    end_with([error])

end_with(left_behind)

for warning in warnings:
    logger.warning(warning.render(paths.SUMMARY))

# Under -n no file is written; that is known once the executor is chosen, after this is read.
jobs = PlannedJobs(plan, settings.retries, writes=lambda: not workflow.dryrun)
scripts = SubmittedScripts(plan)
memory.save()
mark_stale(experiment.folder, plan.targets.values())


def check_scripts_and_need(path):
    """Input function of a target: the targets that it needs, and its marker if it is stale.

    It ends the process if a job script cannot be submitted.
    """

    def inputs(wildcards):
        # Here and not sooner: only now it is known how jobs will run, and still none does.
        refuse_bad_scripts()
        return target(path, wildcards).inputs

    return inputs


@functools.cache
def early():
    """Targets that wait for an epoch in place of a whole training, with these epochs; none without early evaluation.

    It is known once the executor is chosen. Under -n there are none, so that trainings count once.
    """
    if not settings.early_evaluation or not may_be_early():
        return {}
    found = early_targets(plan)
    mark_stale(experiment.folder, found.values())
    return found


def may_be_early():
    """Whether the executor waits for epochs, and each training is sure to run or to fail meanwhile."""
    asked = workflow.dag_settings
    is_partial = asked.targets or asked.target_jobs or asked.until or asked.omit_from
    executor = workflow.executor_plugin
    is_attached = executor is not None and executor.name == "slurm-attached"
    return is_attached and workflow.execution_settings.keep_going and not is_partial


def trainings_behind_epochs(wildcards):
    """Trainings whose epochs are waited for, which do not need them as such."""
    return trainings_behind(plan, early())


def interrupt_local_jobs_at_hangup():
    """Have a closed terminal end a session on one machine as Ctrl-C does; on a cluster the executor sees to it."""
    if workflow.local_exec:
        interrupt_at_hangup()


def jobs_are_submitted():
    """Whether jobs go to a cluster; under -n only the limit of jobs in the queue shows that."""
    return not workflow.local_exec or (workflow.dryrun and workflow.nodes is not None)


@functools.cache
def refuse_bad_scripts():
    """End with all that is wrong with the job scripts, before any job is submitted; warn of what has no effect."""
    requested = workflow.dag_settings.targets
    missing = missing_packages(plan, settings, requested)
    if jobs_are_submitted():
        end_with([*missing, *environment_problems()])
        end_with(scripts.refusals(requested))
        for warning in scripts.unread_lines(requested):
            logger.warning(warning)
    else:
        end_with([*missing, *missing_nodes(plan, requested)])


def try_job_scripts():
    """End if SLURM would not accept what a job is submitted with, before any is."""
    if workflow.touch or workflow.executor_plugin.name != "slurm-attached":
        return
    # Only on a cluster is this plugin needed.
    from snakemake_executor_plugin_slurm_attached.submitting.trial import (
        Planned,
        refusals,
    )

    try:
        planned = [
            Planned(job, *scripts.script(path))
            for job in workflow.dag.needrun_jobs()
            for path in job.output
            if scripts.may_be_submitted(path)
        ]
        end_with(refusals(planned, workflow))
    except (InputError, WorkflowError) as error:
        end_with([error])


def reason(path):
    """Reason why a target is made, for its job's message."""
    return lambda wildcards: target(path, wildcards).why


@functools.cache
def jobs_by_output():
    """Snakemake's jobs by each of their outputs, once the DAG is built."""
    return {path: job for job in workflow.dag.jobs for path in job.output}


class ScriptJob:
    """What the command and the message of a job say, each made when that is written.

    For a job's file that is when it runs: of jobs that do not, none is needed. Its number is known once the DAG is
    built, which is after params are evaluated. One param in place of several: Snakemake evaluates each for every job.
    """

    def __init__(self, target, write):
        self.target = target
        self.file = functools.cache(write)

    def __str__(self):
        """The job's file."""
        return self.file()

    @property
    def number(self):
        """Snakemake's number of the job: its id if SLURM gives none."""
        return jobs_by_output()[self.target.path].jobid

    @property
    def reason(self):
        return self.target.why

    @property
    def subject(self):
        return paths.subject_of_cell(*paths.target_of(self.target.path))


def script_job(path, write, *names):
    """The job of a target, whose file `write` writes for the wildcards of these names."""

    def job(wildcards):
        values = [wildcards[name] for name in names]
        return ScriptJob(target(path, wildcards), functools.partial(write, *values))

    return job


def python(script):
    """Command that runs one of our scripts on any node, in this environment."""
    return shlex.join([sys.executable, str(SOURCE / "scripts" / script)])


def collect_what_is_done():
    """Write the results so far and print what is missing; the summary may have been edited since."""
    try:
        records = read_records(experiment.folder)
    except InputError as error:
        remember_how_long_jobs_took(Snapshot(experiment.folder))
        logger.error(f"The results were not collected: {error}")
        return
    remember_how_long_jobs_took(records.plan.snapshot)
    missing, where = results_so_far(records)
    asked = subjects_in_order(planned_outputs())
    lines = [f"    {subject}: {why}" for subject, why in missing if subject in asked]
    again = "again without redo=" if settings.redo else "again"
    end = f"{where}\nRun the same command {again} to make only what is missing."
    logger.error("\n".join(["Not done:", *lines, end]))


def results_so_far(records):
    """Write the results; what is missing, and where they are or why they could not be written."""
    try:
        return write_all(records), f"Results so far: {results_page()}"
    except Exception as error:
        # Neither a full disk nor a fault of ours may hide what failed.
        return records.missing(), f"The results could not be written: {error}"


def pages_for_report():
    """The page and its figures that are there, for `snakemake --report`: no rule declares them."""
    if not any(word.partition("=")[0] == "--report" for word in sys.argv[1:]):
        return []
    if not any((experiment.folder / path).exists() for path in plan.targets):
        end_with(["Nothing to report yet: run the experiment first, without --report"])
    pages = [experiment.folder / paths.REPORT]
    figures = sorted((experiment.folder / paths.FIGURES).glob("*.svg"))
    return [
        *(in_report(page, "page", "Results") for page in pages if page.exists()),
        *(in_report(figure, "figure", "Figures") for figure in figures),
    ]


def in_report(path, caption, category):
    """A file as a part of `snakemake --report`."""
    name = str(path.relative_to(experiment.folder))
    labels = {"what": path.stem.replace("_", " ")}
    return report(
        name, caption=f"report/{caption}.rst", category=category, labels=labels
    )


def results_page():
    """Path of the page to read: the summary if the other one could not be made."""
    page, summary = (
        experiment.folder / name for name in (paths.REPORT, paths.SUMMARY_PAGE)
    )
    return page if page.is_file() else summary


def subjects_in_order(outputs):
    """Names of the trainings and evaluations that make the outputs."""
    return [row.subject for row in plan.rows() if row.path in outputs]


def conclude():
    """Print the path of the results if they were requested, else bring them up to date."""
    if any(job.rule.name == "collect_results" for job in workflow.dag.jobs):
        # Who collects the results has read the records, and remembers how long jobs took.
        if jobs_are_submitted():
            add_last_figures()
        logger.info(f"Results: {results_page()}")
        return
    try:
        records = read_records(experiment.folder)
    except InputError as error:
        remember_how_long_jobs_took(Snapshot(experiment.folder))
        logger.warning(f"The results were not brought up to date: {error}")
        return
    remember_how_long_jobs_took(records.plan.snapshot)
    if not workflow.touch:
        refresh(records)


def add_last_figures():
    """Make the page again: the results were collected before SLURM knew what the last jobs used."""
    with suppress(InputError):
        renew_page(read_records(experiment.folder))


def target(path, wildcards):
    """The plan's target of a path with wildcards."""
    name = path.format(**wildcards)
    if name in early():
        return early()[name]
    if name not in plan.targets:
        raise WorkflowError(f"{name} is not made in this experiment")
    return plan[name]


def watch_for_garbage():
    """Collect garbage from now on, but not among what was planned: a session may take days."""
    gc.freeze()
    gc.enable()


def claim_experiment():
    """Claim the experiment until this process ends; if another process works on it, exit."""
    try:
        atexit.register(claim(experiment.folder, plan.snapshot.sighting).release)
    except ClaimError as error:
        end_with([error])
    # At the end, and now for those of a session that was killed.
    remove_marks(experiment.folder)
    atexit.register(remove_marks, experiment.folder)
    note_own_allocation()
    say_which_links_are_followed()
    say_what_has_no_effect()


def say_what_has_no_effect():
    """Warn of a setting that the executor does not know."""
    name = workflow.executor_plugin.name
    if settings.evaluations_per_job > 1 and name != "slurm-attached":
        logger.warning(
            "evaluations_per_job has no effect: only the executor slurm-attached "
            f"makes evaluations one job, and this is {name}"
        )


def say_which_links_are_followed():
    """Say where links in the experiment's folder lead what is written; end if another user made one."""
    try:
        for link, place in links_at_top(experiment.folder):
            logger.info(f"{link.name} is a link: what is written there goes to {place}")
    except OSError as error:
        end_with([error])


def write_job_scripts():
    """Write the job scripts that are missing or outdated; report which ones the user edited."""
    for said in plan.write_scripts():
        logger.info(said)


def planned_outputs():
    """Outputs of all jobs that this session runs, or under -n would run."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    return {path for job in jobs for path in job.output}


def show_plan():
    """Pass the plan to the table under `-n`; which jobs run is known once the DAG is built."""
    rows = [*plan.check_rows(), *plan.rows()]
    logger.info(None, extra={"plan": (rows, planned_outputs, cost_in_words)})


def planned_cost():
    """What this session's jobs will take."""
    return judge().estimate(planned_outputs())


def cost_in_words():
    """The lines of the estimate under `-n`, and whether it is more than it may be."""
    cost = planned_cost()
    limits = [
        *over_budget(cost, settings.gpu_hours),
        *beyond_budget(cost, settings.gpu_hours),
    ]
    return "\n".join([estimate_text(cost), *limits])


def keep_to_budget():
    """End if this session's jobs will take more GPU-hours than they may."""
    if settings.gpu_hours is not None and not workflow.touch:
        cost = planned_cost()
        end_with(over_budget(cost, settings.gpu_hours))
        for line in beyond_budget(cost, settings.gpu_hours):
            print(line, file=sys.stderr)


def remember_how_long_jobs_took(snapshot):
    """Keep it for estimates, also of other experiments."""
    Store().add(measured(plan, snapshot))


def move_what_is_redone():
    """Move away what `redo=` names, so that it is missing; without it, the same command continues."""
    # With --touch no job runs.
    if workflow.touch:
        return
    try:
        moved = move_records(plan, planned_outputs())
    except OSError as error:
        end_with(
            [f"What redo= names could not be moved, so nothing was started: {error}"]
        )
    if moved:
        names = ", ".join(subjects_in_order(moved))
        logger.info(
            f"redo= makes again: {names}. The earlier results were moved to RUN/attempts/redo-*."
        )
        atexit.register(say_what_is_not_redone, moved)
    if submitted := plan.choice.redo - plan.redone:
        names = ", ".join(subjects_in_order(submitted))
        logger.info(f"Not begun again, since a job is already making it: {names}")


def say_what_is_not_redone(moved):
    """At the end of a session that did not make all of it again, say how to continue."""
    rest = [path for path in moved if not (experiment.folder / path).exists()]
    if rest:
        print(
            f"Not made again yet: {', '.join(subjects_in_order(rest))}. To continue, run the same command without "
            "redo=; with it, all that it names is made again from the beginning.",
            file=sys.stderr,
        )


def take_what_is_offered():
    """Link trainings of other experiments, which jobs then restore, and put evaluations of others in their place."""
    if workflow.touch:
        return
    try:
        plan.take_offered(planned_outputs())
    except OSError as error:
        end_with([f"A result could not be taken from another experiment: {error}"])


def begin_action_logs():
    """Start the action logs with what this session is going to do."""
    # With --touch no job runs.
    if not workflow.touch:
        # With `--quiet progress` Snakemake would tell not even plugins that a job ended.
        if workflow.scheduler:
            workflow.scheduler.print_progress = True
        whole = replace(plan, targets={**plan.targets, **early()})
        planned = session_plan(whole, planned_outputs(), workflow.executor_plugin.name)
        logger.info(None, extra={SESSION_PLAN: planned})


def settle_earlier_jobs():
    """Log jobs that ended while nothing followed them, if the executor knows of such."""
    executor = workflow.scheduler and workflow.scheduler._executor
    if hasattr(executor, "settle"):
        executor.settle()
