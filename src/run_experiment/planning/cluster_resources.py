"""What the jobs of a plan ask of SLURM: the `#SBATCH` lines of their scripts, as resources of Snakemake rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from run_experiment.common import paths
from run_experiment.common.errors import InputError
from run_experiment.jobscripts.sbatch_lines import SbatchError, read_directives, snakemake_resources
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Target

# All that a script's `#SBATCH` lines can become. `mem` is what Snakemake takes for `mem_mb` (in MB) where it may be
# unset: functions of `mem_mb` must give a number.
RESOURCES = (
    "slurm_account",
    "slurm_partition",
    "clusters",
    "qos",
    "constraint",
    "runtime",
    "mem",
    "mem_mb_per_cpu",
    "nodes",
    "tasks",
    "cpus_per_task",
    "gpu",
    "gpu_model",
    "gres",
    "slurm_extra",
)

Resources = Mapping[str, int | str]


class ClusterResources:
    """Resources of trainings and evaluations by their target's path; each script is read once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        runs, evaluations = plan.experiment.runs, plan.experiment.evaluations
        self._runs = {paths.finetune_record(run.name): run for run in runs if run.training}
        self._evaluations = {paths.eval_record(item.run.name, item.cell): item for item in evaluations}
        self._read: dict[str, Resources | InputError] = {}

    def of(self, path: str) -> Resources:
        """Resources of the job that makes a target. Raises InputError for what its script must not ask for."""
        if path not in self._read:
            self._read[path] = self._resources(path)
        found = self._read[path]
        if isinstance(found, InputError):
            raise found
        return found

    def refusals(self, requested: Collection[str]) -> list[InputError]:
        """What is wrong with the scripts of all jobs that making the requested targets takes; none are all targets."""
        refused = []
        for target in _made_for(self._plan, requested):
            if target.path in self._runs or target.path in self._evaluations:
                try:
                    self.of(target.path)
                except InputError as error:
                    refused.append(error)
        return refused

    def _resources(self, path: str) -> Resources | InputError:
        script, text = self._script(path)
        try:
            found = snakemake_resources(read_directives(text))
        except SbatchError as error:
            return InputError(script, error.problems)
        return {"mem" if name == "mem_mb" else name: value for name, value in found.items()}

    def _script(self, path: str) -> tuple[str, str]:
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


def _made_for(plan: Plan, requested: Collection[str]) -> Iterator[Target]:
    """Targets that have to be made for the requested ones; for all, where those are none or not known as such."""
    todo = list(requested) if requested and plan.targets.keys() >= set(requested) else plan.finals()
    needed = set(todo)
    while todo:
        found = set(plan[todo.pop()].needs) - needed
        needed |= found
        todo += found
    return (target for target in plan.targets.values() if target.path in needed and target.wanted)
