"""`run-experiment export`: an experiment as a Workflow Run RO-Crate, which says what was made of what, by what, when.

Profiles: https://w3id.org/ro/wfrun/process/0.5 and https://w3id.org/ro/wfrun/workflow/0.5. Checkpoints and models are
named with their hashes, not copied. Secrets of the environment are removed from all texts and logs.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common import paths
from run_experiment.common.errors import CommandError
from run_experiment.common.secret_values import without_secrets
from run_experiment.experiment.model import Evaluation, Run
from run_experiment.experiment.records import EvaluationRecord, JobRecord, TrainingRecord
from run_experiment.planning.results_state import Records
from run_experiment.sharing.masked_log import UnreadableLogError, masked_log
from run_experiment.trainers.known import trainer_of

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_DONE, _FAILED = (f"http://schema.org/{name}ActionStatus" for name in ("Completed", "Failed"))
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
# This project's folder: the workflow.
_PROJECT = Path(__file__).parents[3]
_WORKFLOW = ("rules/*.smk", "scripts/*.py")
_RESULTS = (paths.SUMMARY_PAGE, paths.EVALS_TABLE, paths.COMPARISONS_TABLE, "results/provenance.json", paths.REPORT)
_TYPES = {".md": "text/markdown", ".csv": "text/csv", ".json": "application/json", ".html": "text/html"}
_TYPES |= {".yaml": "application/yaml", ".svg": "image/svg+xml", ".png": "image/png", ".py": "text/x-python"}
_TYPES |= {".jsonl": "application/jsonl", ".log": "text/plain", ".smk": "text/plain", ".eval": "application/zip"}
_BINARY = (".png", ".eval")


def export(records: Records, target: Path, checkpoints: bool = False) -> None:
    """Write the crate of an experiment: a ZIP file. With `checkpoints` the adapters are in it. Raises CommandError."""
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise CommandError("The library rocrate is not installed here: pip install rocrate") from error
    if not (_PROJECT / "Snakefile").is_file():
        raise CommandError(f"{_PROJECT} has no Snakefile, which is the workflow to export")
    crate = ROCrate(version="1.1")
    try:
        Contents(crate, records, checkpoints).fill()
        _write(crate, target)
    except OSError as error:
        raise CommandError(f"{target} could not be written: {error}") from error


def _write(crate: ROCrate, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".crate-") as folder:
        crate.write_zip(Path(folder) / "crate.zip")
        os.replace(Path(folder) / "crate.zip", target)


class Contents:
    """Fills a crate with an experiment."""

    def __init__(self, crate: ROCrate, records: Records, checkpoints: bool) -> None:
        self._crate = crate
        self._records = records
        self._folder = records.experiment.folder
        self._with_checkpoints = checkpoints
        self._files: dict[Path, Entity] = {}
        # Inputs that are not in the folder, by their names in the crate.
        self._outside: dict[str, list[Path]] = {}
        self._tools: dict[tuple[str, str], Entity] = {}
        # Checkpoints by the folder that records name.
        self._checkpoints: dict[str, Entity] = {}

    def fill(self) -> None:
        """Add the workflow, its inputs, an action for each job and one for all, and the results."""
        self._describe()
        workflow = self._workflow()
        self._agent = self._entity("#user", "Person", name=getpass.getuser())
        summary = self._text(self._folder / paths.SUMMARY, paths.SUMMARY)
        trainings, evaluations = self._records.trainings(), self._records.evaluations()
        actions = [
            self._training(run, trainings[run.name])
            for run in self._records.experiment.fine_tuned
            if run.name in trainings
        ]
        actions += [
            self._evaluation(item, evaluations[item.subject])
            for item in self._records.experiment.evaluations
            if item.subject in evaluations
        ]
        actions += list(self._failures())
        self._whole(workflow, summary)
        self._crate.root_dataset.append_to("mentions", actions)
        for tool in self._tools.values():
            workflow.append_to("hasPart", tool)

    def _describe(self) -> None:
        experiment, root = self._records.experiment, self._crate.root_dataset
        root["name"] = experiment.name
        root["description"] = experiment.question or f"The experiment {experiment.name}"
        root["license"] = "Not specified"
        profiles = [
            self._entity(address, "CreativeWork", name=name, version=address.rpartition("/")[2])
            for address, name in _PROFILES.items()
        ]
        root["conformsTo"] = profiles
        self._crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"

    def _workflow(self) -> Entity:
        code = [path for pattern in _WORKFLOW for path in sorted(_PROJECT.glob(pattern))]
        workflow = self._crate.add_workflow(
            _PROJECT / "Snakefile",
            "workflow/Snakefile",
            main=True,
            lang="snakemake",
            lang_version=version("snakemake"),
            properties={
                "name": "run-experiment",
                "version": version("run-experiment"),
                "encodingFormat": "text/plain",
                "conformsTo": {"@id": _WORKFLOW_PROFILE},
            },
        )
        for path in code:
            workflow.append_to("hasPart", self._text(path, f"workflow/{path.relative_to(_PROJECT)}"))
        return workflow

    def _whole(self, workflow: Entity, summary: Entity) -> None:
        """The action of the workflow, from the first start to the last end."""
        trainings, evaluations = self._records.trainings(), self._records.evaluations()
        made: list[JobRecord] = [*trainings.values(), *evaluations.values()]
        results = list(self._results())
        missing = self._records.missing()
        times = [one for record in made for one in (record.started, record.ended) if one]
        action = self._action("#workflow-run", "Run of the workflow", workflow, [summary, *self._data()], results)
        if times:
            action["startTime"], action["endTime"] = min(times), max(times)
        action["actionStatus"] = _FAILED if missing else _DONE
        action["description"] = f"{len(trainings)} trainings and {len(evaluations)} evaluations are done"
        if missing:
            action["error"] = without_secrets("\n".join(f"{subject}: {why}" for subject, why in missing))
        self._crate.root_dataset.append_to("mentions", action)
        given = self._parameter("summary", "File", "What to train and to evaluate", summary)
        workflow["input"] = given
        if results:
            workflow["output"] = self._parameter("results", "File", "The results as text", results[0])

    def _parameter(self, name: str, kind: str, description: str, example: Entity) -> Entity:
        """A parameter of the workflow, and the file that it was in this run."""
        made = self._crate.add_formal_parameter(name, kind, identifier=f"#{name}", description=description)
        made["workExample"] = example
        example["exampleOfWork"] = made
        return made

    def _results(self) -> Iterable[Entity]:
        figures = sorted((self._folder / paths.FIGURES).glob("*.*"))
        for path in [*(self._folder / name for name in _RESULTS), *figures]:
            if path.is_file():
                yield self._file(path, str(path.relative_to(self._folder)))
        for log in ("run-torchtune.log", "run-inspect.log"):
            if (self._folder / log).is_file():
                yield self._file(self._folder / log, log)

    def _data(self) -> list[Entity]:
        """Data files and task scripts."""
        experiment = self._records.experiment
        data = [file for run in experiment.fine_tuned if run.training for file in run.training.data]
        data += [task.data for task in experiment.tasks if task.data]
        return [self._input(path) for path in dict.fromkeys([*data, *(task.script for task in experiment.tasks)])]

    def _input(self, path: Path) -> Entity:
        inside = path.is_relative_to(self._folder)
        return self._file(path, str(path.relative_to(self._folder)) if inside else self._elsewhere(path))

    def _elsewhere(self, path: Path) -> str:
        """The place of a file of another folder; several of one name are told apart by numbers."""
        name = "_".join(path.parts[-2:])
        same = self._outside.setdefault(name, [])
        if path not in same:
            same.append(path)
        number = same.index(path) + 1
        return f"elsewhere/{name}" if number == 1 else f"elsewhere/{number}/{name}"

    def _training(self, run: Run, record: TrainingRecord) -> Entity:
        assert run.training
        given = [*map(self._input, run.training.data), self._model(run), *self._values(run)]
        config = self._folder / paths.finetune_config(run.name)
        if config.is_file():
            given.append(self._file(config, paths.finetune_config(run.name)))
        made = [self._checkpoint(run, epoch) for epoch in run.epochs]
        action = self._job(run.name, f"Training of {run.name}", trainer_of(record.config).package, record, given, made)
        for name, value in record.losses.items():
            action.append_to("result", self._value(f"{run.name}-{name}", name, value))
        return action

    def _evaluation(self, item: Evaluation, record: EvaluationRecord) -> Entity:
        given = [self._input(item.task.script), *([self._input(item.task.data)] if item.task.data else [])]
        given.append(self._checkpoint(item.run, item.epoch) if item.needs_checkpoint else self._model(item.run))
        given.append(self._value(f"{item.subject}-backend", "backend", record.backend))
        made, left_out = self._log(paths.eval_log(item.run.name, item.cell))
        action = self._job(item.subject, f"Evaluation of {item.subject}", "inspect-ai", record, given, made)
        action["description"] += left_out
        for name, value in record.metrics.items():
            action.append_to("result", self._value(f"{item.subject}-{name}", name, value))
        return action

    def _log(self, name: str) -> tuple[list[Entity], str]:
        """A log without secrets, if there is one; else why it is left out."""
        log = self._folder / name
        if not log.is_file():
            return [], ""
        try:
            masked = masked_log(log)
        except UnreadableLogError as error:
            return [], f"; its log is left out, since it could not be searched for secrets ({error})"
        return [self._file(log, name) if masked is None else self._content(log, name, masked)], ""

    def _failures(self) -> Iterable[Entity]:
        """Actions of what is not done, from its last attempt."""
        for target in self._records.plan.targets.values():
            last = target.attempt
            if not target.wanted or last is None:
                continue
            run, name = paths.target_of(target.path)
            subject = run if name == "finetune" else paths.subject_of_cell(run, name)
            tool = self._tool(trainer_of(target.config).package if name == "finetune" else "inspect-ai", "")
            action = self._action(f"#{subject}-failed", f"Attempt at {subject}", tool, [], [])
            action["actionStatus"], action["error"] = _FAILED, without_secrets(last.error)
            for key, time in (("startTime", last.began), ("endTime", last.ended)):
                if time:
                    action[key] = time.isoformat()
            yield action

    def _job(
        self, subject: str, name: str, tool: str, record: JobRecord, given: list[Entity], made: list[Entity]
    ) -> Entity:
        versions = record.provenance.get("versions")
        number = versions.get(tool, "") if isinstance(versions, Mapping) else ""
        action = self._action(f"#{subject}", name, self._tool(tool, str(number)), given, made)
        action["actionStatus"] = _DONE
        host = record.provenance.get("host")
        where = f" on {host}" if host else ""
        action["description"] = f"Job {record.job_id}{where}"
        for key, value in (("startTime", record.started), ("endTime", record.ended)):
            if value:
                action[key] = value
        return action

    def _action(self, name: str, title: str, tool: Entity, given: list[Entity], made: list[Entity]) -> Entity:
        properties = {"name": title, "agent": {"@id": self._agent.id}}
        return self._crate.add_action(tool, name, object=given, result=made, properties=properties)

    def _tool(self, name: str, number: str) -> Entity:
        if (name, number) not in self._tools:
            known = {"softwareVersion": number} if number else {}
            address = f"https://pypi.org/project/{name}/" + (f"{number}/" if number else "")
            tool = self._entity(address, "SoftwareApplication", name=name, url={"@id": address}, **known)
            self._tools[name, number] = tool
        return self._tools[name, number]

    def _checkpoint(self, run: Run, epoch: int | None) -> Entity:
        """A checkpoint with the hashes of its files; its files only if asked for."""
        name = f"{run.name}/checkpoint-{'given' if epoch is None else epoch}"
        if name in self._checkpoints:
            return self._checkpoints[name]
        folder = self._folder / run.checkpoint_dir(epoch)
        title = f"Adapter of {run.name}" + ("" if epoch is None else f" after epoch {epoch}")
        if self._with_checkpoints and folder.is_dir():
            found = self._crate.add_dataset(folder.resolve(), f"{name}/", properties={"name": title})
        else:
            found = self._entity(f"#{name}", "CreativeWork", name=title, description=str(folder))
        if manifest := self._records.plan.snapshot.manifest(run.name, epoch):
            hashes = {file: facts["sha256"] for file, facts in manifest.files.items()}
            found["identifier"] = [f"sha256:{digest} {file}" for file, digest in hashes.items()]
        self._checkpoints[name] = found
        return found

    def _model(self, run: Run) -> Entity:
        model = run.model
        return self._entity(f"#model-{model.name}", "CreativeWork", name=model.name, description=str(model.path))

    def _values(self, run: Run) -> list[Entity]:
        return [self._value(f"{run.name}-{name}", name, value) for name, value in run.parameters.items()]

    def _value(self, identifier: str, name: str, value: Any) -> Entity:
        shown = value if isinstance(value, str | int) else json.dumps(value)
        return self._entity(f"#value-{identifier}", "PropertyValue", name=name, value=shown)

    def _file(self, path: Path, place: str) -> Entity:
        if path not in self._files:
            if path.suffix in _BINARY:
                made = self._crate.add_file(path, place, properties={"name": path.name, **_kind(path)})
            else:
                made = self._text(path, place)
            self._files[path] = made
        return self._files[path]

    def _text(self, path: Path, place: str) -> Entity:
        """A text file, without secrets, and the hash of what is in the crate."""
        text = without_secrets(path.read_bytes().decode("utf-8", errors="surrogateescape"))
        return self._content(path, place, text.encode("utf-8", errors="surrogateescape"))

    def _content(self, path: Path, place: str, content: bytes) -> Entity:
        """A file that is not as it lies there, and its hash."""
        properties = {"name": path.name, "sha256": hashlib.sha256(content).hexdigest(), **_kind(path)}
        return self._crate.add_file(BytesIO(content), place, properties=properties)

    def _entity(self, identifier: str, kind: str, **properties: Any) -> Entity:
        from rocrate.model.contextentity import ContextEntity

        return self._crate.add(ContextEntity(self._crate, identifier, properties={"@type": kind, **properties}))


def _kind(path: Path) -> dict[str, Any]:
    return {"encodingFormat": _TYPES[path.suffix]} if path.suffix in _TYPES else {}
