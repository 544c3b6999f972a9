"""The job scripts of a plan, and those among them that no job can be submitted with."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from run_experiment.common import paths
from run_experiment.common.errors import InputError, Problem
from run_experiment.common.text import counted
from run_experiment.jobscripts.sbatch_lines import SbatchError, read_options, unread_lines
from run_experiment.jobscripts.syntax import syntax_problem
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Target

_WINDOWS = Problem(1, "", "its lines end as on Windows, which bash cannot run: convert it, for example by `dos2unix`")

_EMPTY = Problem(0, "", "it has no commands: write some, or remove the file to have it rendered")


class SubmittedScripts:
    """Scripts of trainings and evaluations by their target's path."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        runs, evaluations = plan.experiment.runs, plan.experiment.evaluations
        self._runs = {paths.finetune_record(run.name): run for run in runs if run.training}
        self._evaluations = {paths.eval_record(item.run.name, item.cell): item for item in evaluations}

    def __contains__(self, target: str) -> bool:
        """Whether a target is made by a job script."""
        return target in self._runs or target in self._evaluations

    def may_be_submitted(self, target: str) -> bool:
        """Whether a target has a job script and no job that may still be in the queue, which would be followed."""
        try:
            submitted = self._plan.snapshot.ledger.open
        except OSError:
            # The executor refuses to submit without its ledger, and says why.
            submitted = {}
        return target in self and target not in submitted

    def refusals(self, requested: Collection[str]) -> list[InputError]:
        """What is wrong with the scripts of all jobs that making the requested targets takes; none are all targets."""
        return [error for path in self._made_for(requested) if (error := self._refusal(path))]

    def unread_lines(self, requested: Collection[str]) -> list[str]:
        """Warnings of `#SBATCH` lines of these scripts that ask for nothing, one for all scripts with the same line."""
        found: dict[str, list[str]] = {}
        for script, text in map(self.script, self._made_for(requested)):
            for problem in unread_lines(text):
                found.setdefault(problem.message, []).append(problem.render(script))
        return [
            first + (f" (so in {counted(len(more), 'other script')})" if more else "")
            for first, *more in found.values()
        ]

    def _made_for(self, requested: Collection[str]) -> list[str]:
        return [target.path for target in made_for(self._plan, requested) if target.path in self]

    def _refusal(self, target: str) -> InputError | None:
        script, text = self.script(target)
        try:
            read_options(text)
        except SbatchError as error:
            return InputError(script, error.problems)
        if _is_empty(text):
            return InputError(script, [_EMPTY])
        if self._has_windows_line_ends(script):
            return InputError(script, [_WINDOWS])
        problem = syntax_problem(self._plan.experiment.folder / script) if self._is_edited(script) else None
        return InputError(script, [problem]) if problem else None

    def _is_edited(self, script: str) -> bool:
        existing = self._plan.scripts.existing(script)
        return bool(existing and (existing.own_head or existing.own_commands))

    def _has_windows_line_ends(self, script: str) -> bool:
        """Whether a script is refused by sbatch for its line ends, which reading it as text hides."""
        path = self._plan.experiment.folder / script
        return path.is_file() and b"\r\n" in path.read_bytes()

    def script(self, path: str) -> tuple[str, str]:
        """Path and text of the script that makes a target, as it will be when the job runs."""
        scripts = self._plan.scripts
        if run := self._runs.get(path):
            script = paths.finetune_script(run.name)
            files = scripts.finetune(run) if run.output_dir else {}
        else:
            item = self._evaluations[path]
            script = scripts.evaluation_files(item)[0]
            files = scripts.evaluation(item, self._plan.data_sets.of(item).folder)
        return script, scripts.text(script, files.get(script))


def _is_empty(script: str) -> bool:
    """Whether a script has comments at most, which would end well and make nothing."""
    return not any(line.strip() and not line.lstrip().startswith("#") for line in script.splitlines())


def made_for(plan: Plan, requested: Collection[str]) -> Iterator[Target]:
    """Targets that have to be made for the requested ones; for all, if those are none or not known as such."""
    todo = list(requested) if requested and plan.targets.keys() >= set(requested) else plan.finals()
    needed = set(todo)
    while todo:
        found = set(plan[todo.pop()].needs) - needed
        needed |= found
        todo += found
    return (target for target in plan.targets.values() if target.path in needed and target.wanted)
