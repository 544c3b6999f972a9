"""What a session is about to do, as the action logs tell it: its trainings and evaluations, and what it skips."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from run_experiment.actionlog.entry import Log
from run_experiment.attempts.reuse import OfferedEvaluation
from run_experiment.common import paths
from run_experiment.estimate.speeds import ExpectedSpeeds, Speed
from run_experiment.experiment.model import Evaluation, Run
from run_experiment.finetuning.metrics import METRICS_FILE
from run_experiment.jobscripts.foreign import working_directory
from run_experiment.jobscripts.script_facts import script_facts
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind, State, Target

# Name of the executor that sends events of its own about its jobs.
ATTACHED = "slurm-attached"
LOCAL = "local"


@dataclass(frozen=True)
class SessionJob:
    """A training or an evaluation of the experiment.

    `subject` is its name in `log`; `script` its job script, `samples` the files that may hold its nvidia-smi samples,
    `curve` the steps of a training, relative to the experiment.
    """

    target: str
    log: Log
    subject: str
    run: str
    script: str
    samples: tuple[str, ...]
    curve: str = ""


@dataclass(frozen=True)
class SessionCheckpoint:
    """A checkpoint that is verified: its manifest, its name (`epoch_0`), the folder where it is expected (absolute)."""

    target: str
    run: str
    name: str
    folder: Path


@dataclass(frozen=True)
class SessionPlan:
    """What a session is about to do. `jobs` and `checkpoints` are all of the experiment's, by target.

    `wanted` are the targets that this session makes, of every kind, `needs` those that each of them waits for, `why`
    the reason why each is made, `again` the same for those that were made, or tried, before.
    `epochs` are the wanted ones that checkpoints wait for in place of their whole training.
    `skipped` are names and reasons of the runs and evaluations that it does not make; `complete` are the targets that
    are there already, `taken` the evaluations among them that were taken from other experiments just now. `speed` is
    that which the training of a target is expected to have.
    """

    folder: Path
    executor: str
    runs: int
    jobs: Mapping[str, SessionJob]
    checkpoints: Mapping[str, SessionCheckpoint]
    caches: Collection[str]
    wanted: frozenset[str]
    needs: Mapping[str, tuple[str, ...]]
    why: Mapping[str, str]
    skipped: Mapping[Log, tuple[tuple[str, str], ...]]
    complete: Mapping[Log, frozenset[str]]
    again: Mapping[str, str] = field(default_factory=dict)
    epochs: frozenset[str] = frozenset()
    taken: Mapping[str, OfferedEvaluation] = field(default_factory=dict)
    speed: Callable[[str], Speed | None] = lambda target: None

    @property
    def is_attached(self) -> bool:
        """Whether its jobs are SLURM's, with events of their own."""
        return self.executor == ATTACHED

    @property
    def is_local(self) -> bool:
        """Whether its jobs run on this machine."""
        return self.executor == LOCAL

    def of(self, log: Log) -> list[SessionJob]:
        """The experiment's jobs of a log."""
        return [job for job in self.jobs.values() if job.log is log]

    def wanted_of(self, log: Log) -> list[SessionJob]:
        """The session's jobs of a log."""
        return [job for job in self.of(log) if job.target in self.wanted]

    def blocked_by(self, failed: Collection[str]) -> set[str]:
        """Targets that cannot be made if these failed, however far behind them."""
        blocked: set[str] = set()
        grown = True
        while grown:
            found = {path for path, needs in self.needs.items() if not {*failed, *blocked}.isdisjoint(needs)}
            grown = not found <= blocked
            blocked |= found
        return blocked


def session_plan(plan: Plan, outputs: Collection[str], executor: str) -> SessionPlan:
    """What a session does, of whose jobs `outputs` are the outputs, with the executor of that name."""
    runs, evaluations = plan.experiment.runs, plan.experiment.evaluations
    targets = plan.targets
    wanted = frozenset(path for path in targets if path in outputs)
    training_of = {run.name: targets[paths.finetune_record(run.name)] for run in plan.experiment.fine_tuned}
    evaluation_of = {item.subject: targets[paths.eval_record(item.run.name, item.cell)] for item in evaluations}
    jobs = [_training(plan, run) for run in plan.experiment.fine_tuned]
    jobs += [_evaluation(plan, item) for item in evaluations]
    return SessionPlan(
        folder=plan.experiment.folder,
        executor=executor,
        runs=len(runs),
        jobs={job.target: job for job in jobs},
        checkpoints={item.target: item for run in runs for item in _checkpoints(plan, run)},
        caches=[paths.cache_record(name) for name in plan.data_sets.by_name],
        wanted=wanted,
        needs={path: targets[path].needs for path in wanted},
        why={path: targets[path].why for path in wanted},
        again={path: targets[path].why for path in wanted if targets[path].was_tried},
        speed=ExpectedSpeeds(plan),
        epochs=frozenset(path for path in wanted if targets[path].kind is Kind.EPOCH),
        taken={path: one for path, one in plan.offered_evaluations.items() if not targets[path].wanted},
        skipped={
            Log.TORCHTUNE: _skipped(
                plan, {run.name: training_of.get(run.name) or _untrained(run) for run in runs}, wanted
            ),
            Log.INSPECT: _skipped(plan, dict(evaluation_of), wanted),
        },
        complete={
            Log.TORCHTUNE: _complete(plan, training_of.values()),
            Log.INSPECT: _complete(plan, evaluation_of.values()),
        },
    )


def _own_samples(plan: Plan, script: str) -> tuple[str, ...]:
    """Files that a job script itself has nvidia-smi write to."""
    folder = plan.experiment.folder
    if not (folder / script).is_file():
        return ()
    facts = script_facts(folder / script, folder / working_directory(folder, script))
    return tuple(paths.portable(path, folder) for path in facts.sample_files)


def _training(plan: Plan, run: Run) -> SessionJob:
    script = paths.finetune_script(run.name)
    folders = [*([str(run.output_dir)] if run.output_dir else []), f"{run.name}/artifacts", run.name]
    return SessionJob(
        target=paths.finetune_record(run.name),
        log=Log.TORCHTUNE,
        subject=run.name,
        run=run.name,
        script=script,
        samples=(*(f"{folder}/{paths.GPU_METRICS}" for folder in dict.fromkeys(folders)), *_own_samples(plan, script)),
        curve=f"{folders[0]}/{METRICS_FILE}",
    )


def _evaluation(plan: Plan, evaluation: Evaluation) -> SessionJob:
    run, cell = evaluation.run.name, evaluation.cell
    script = plan.scripts.evaluation_files(evaluation)[0]
    # Another tool's script in a folder of its own may sample there.
    beside = [f"{Path(script).parent}/{paths.GPU_METRICS}"] if Path(script).parent.name != "eval" else []
    return SessionJob(
        target=paths.eval_record(run, cell),
        log=Log.INSPECT,
        subject=evaluation.subject,
        run=run,
        script=script,
        samples=(paths.eval_gpu_metrics(run, cell), *_own_samples(plan, script), *beside),
    )


def _checkpoints(plan: Plan, run: Run) -> list[SessionCheckpoint]:
    manifests = [(paths.manifest(run.name, epoch), epoch) for epoch in run.verified]
    folder = plan.experiment.folder
    return [
        SessionCheckpoint(path, run.name, Path(path).stem, folder / plan.checkpoint_dir(run, epoch))
        for path, epoch in manifests
    ]


def _untrained(run: Run) -> str:
    return "control, no training" if run.type == "control" else "eval-only, trained elsewhere"


def _skipped(plan: Plan, targets: Mapping[str, Target | str], wanted: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Names and reasons of what is not made, of a target or the reason why there is none."""
    skipped = []
    for subject, target in targets.items():
        if isinstance(target, str):
            skipped.append((subject, target))
        elif target.path not in wanted:
            skipped.append((subject, _why_skipped(plan, target)))
    return tuple(skipped)


def _why_skipped(plan: Plan, target: Target) -> str:
    if not _is_complete(plan, target):
        return _not_asked(plan, target)
    return "taken from another experiment" if target.path in plan.offered_evaluations else "already complete"


def _complete(plan: Plan, targets: Iterable[Target]) -> frozenset[str]:
    return frozenset(target.path for target in targets if _is_complete(plan, target))


def _is_complete(plan: Plan, target: Target) -> bool:
    # A job of an earlier session may have made it since the plan looked.
    came_meanwhile = target.state is State.MISSING and not target.redone
    return not target.wanted or (came_meanwhile and (plan.experiment.folder / target.path).is_file())


def _not_asked(plan: Plan, target: Target) -> str:
    why = plan.choice.why_not(target)
    return f"not asked for ({why})" if why else "not asked for"
