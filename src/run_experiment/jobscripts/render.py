"""Renders an experiment's job scripts and configs, and writes those that are missing or outdated."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from run_experiment.checkpoints.verify import tokenizer_folder
from run_experiment.common import paths
from run_experiment.common.errors import InputError, Problem
from run_experiment.common.files import regular
from run_experiment.common.json_files import canonical, write_atomically
from run_experiment.common.yaml_lines import shown
from run_experiment.evaluation.command import eval_command, former_eval_command
from run_experiment.evaluation.environment import EVAL_SET_FOLDER, MAX_CONNECTIONS, cache_exports
from run_experiment.experiment.compute import Compute
from run_experiment.experiment.model import Evaluation, Experiment, Run, Training
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.configuration import Determinants
from run_experiment.inputs.template_dates import TemplateDates
from run_experiment.jobscripts.edits import COMMANDS_BEGIN, Existing, Rendered, parse
from run_experiment.jobscripts.sbatch_lines import family
from run_experiment.trainers.known import TRAINERS
from run_experiment.trainers.trainer import Trainer

# Cores of a training or an evaluation; Snakemake passes their number on to torch.
CPUS = 4
# GiB of memory besides the weights: Python, torch and CUDA's libraries, the data, adapters and their optimizer.
_ROOM_GB = 8
# Text that `|| exit` cannot follow: several lines, a comment, an incomplete command.
_NO_COMMAND = re.compile(r"\n|(?:^|\s)#|[\\;&|]$")
# Messages on edited files, before their names.
KEPT_WHOLE = "Used as they are (edited, or written by another tool)"
KEPT_HEAD = "Rendered with your own #SBATCH and environment lines"


@dataclass(frozen=True)
class Request:
    """Resources that a job requests; `given` is what the summary says. All but `nodes` are of each node."""

    time: str
    gpus: int
    mem: str
    given: Compute
    nodes: int = 1
    processes: int = 1


class JobScripts:
    """The rendered files of one experiment, by their path relative to its folder.

    `foreign` are the files of evaluations that another tool left in folders of their own, by run and cell.
    Raises InputError for lines in the settings that cannot be in a script.
    """

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        determinants: Determinants,
        foreign: Mapping[tuple[str, str], list[str]] | None = None,
    ) -> None:
        self._experiment = experiment
        self._foreign = foreign or {}
        self._settings = settings
        self._environment = _environment(settings)
        self._vllm_environment = _vllm_environment(settings)
        self._determinants = determinants
        self.dates = TemplateDates(experiment.folder)
        # Time limit of the job of a target whose limit the summary does not set, given the usual one.
        self.time_limit: Callable[[str, str], str] = lambda target, usual: usual
        self._finetunes: dict[str, dict[str, Rendered]] = {}
        self._evaluations: dict[tuple[str, str], dict[str, Rendered]] = {}
        self._weights_gb = cache(_weights_gb)

    def finetune(self, run: Run) -> dict[str, Rendered]:
        """Job script and trainer's config of a training; rendered once."""
        if run.name not in self._finetunes:
            self._finetunes[run.name] = self._finetune(run)
        return self._finetunes[run.name]

    def _finetune(self, run: Run) -> dict[str, Rendered]:
        if run.training is None or run.output_dir is None:
            raise ValueError(f"{run.name} is not trained by a script of ours")
        config, trainer = paths.finetune_config(run.name), TRAINERS[run.training.trainer]
        limit = self.time_limit(paths.finetune_record(run.name), "04:00:00")
        weights = self._weights_gb(run.training.model.path)
        request = _training_request(run.compute, run.training, weights, limit)
        commands = _training_commands(trainer, config, request)
        return {
            config: Rendered(
                "",
                trainer.render(run.training, str(run.output_dir), self._experiment.folder, self._dated_tokenizer(run)),
            ),
            paths.finetune_script(run.name): Rendered(
                self._head(paths.job_name(self._experiment.name, run.name), request), _commands(commands)
            ),
        }

    def evaluation(self, evaluation: Evaluation, cache: str) -> dict[str, Rendered]:
        """Job script and task arguments of an evaluation; `cache` is the folder of its prebuilt data set.

        Empty if another tool left a script for it in a folder of its own. Rendered once.
        """
        key = (evaluation.run.name, evaluation.cell)
        if key not in self._evaluations:
            self._evaluations[key] = self._evaluation(evaluation, cache)
        return self._evaluations[key]

    def _evaluation(self, evaluation: Evaluation, cache: str) -> dict[str, Rendered]:
        run, cell = evaluation.run.name, evaluation.cell
        if others := self._foreign.get((run, cell)):
            return {path: Rendered("", "") for path in others}
        call = self._determinants.call(evaluation)
        arguments, script = paths.task_arguments(run, cell), paths.eval_script(run, cell)
        beside = {arguments: _yaml(call.all_arguments), **self._task_config(evaluation)}
        # What another tool wrote is used as it is; ours might not even be possible.
        if (there := self.existing(script)) and there.rendered is None:
            return {**beside, script: Rendered("", "")}
        name = paths.job_name(self._experiment.name, run, evaluation.task.name, evaluation.epoch)
        limit = self.time_limit(paths.eval_record(run, cell), "01:00:00")
        weights = self._weights_gb(evaluation.run.model.path)
        request = _request(evaluation.compute, weights, gpus=1, in_fp32=False, time=limit)
        command = self._eval_command(evaluation, gpus=1)
        commands = on_one_gpu = _evaluation_commands(evaluation, cache, command)
        if request.gpus > 1:
            commands = _evaluation_commands(evaluation, cache, self._eval_command(evaluation, request.gpus))
        # Earlier versions used one GPU, whatever a job had.
        formerly = (on_one_gpu, _former_evaluation_commands(evaluation, cache, command))
        return {**beside, script: Rendered(self._head(name, request), commands, formerly)}

    def _eval_command(self, evaluation: Evaluation, gpus: int) -> list[str]:
        run, folder = evaluation.run, self._experiment.folder
        base = paths.portable(run.model.path, folder)
        model = paths.loadable(run.name, evaluation.epoch) if evaluation.needs_checkpoint else base
        own = run.checkpoint and tokenizer_folder(run) == run.checkpoint
        return eval_command(
            evaluation,
            task=f"{paths.portable(evaluation.task.script, folder)}@{self.task_name(evaluation)}",
            model_path=model,
            tokenizer_path=self._dated_tokenizer(run) or (model if own else base),
            task_config=paths.task_arguments(run.name, evaluation.cell),
            vllm_environment=self._vllm_environment,
            gpus=gpus,
        )

    def _task_config(self, evaluation: Evaluation) -> dict[str, Rendered]:
        """The file of prompts, scorers and labels, for a task that takes one."""
        config = self._determinants.call(evaluation).config
        return {paths.task_config(evaluation.run.name, evaluation.cell): _yaml(config)} if config else {}

    def _dated_tokenizer(self, run: Run) -> str | None:
        """Tokenizer of a run whose chat template shows a date; None for others."""
        return paths.dated_tokenizer(run.name) if self.dates.is_shown(tokenizer_folder(run)) else None

    def write_dated_tokenizers(self) -> None:
        """Write the tokenizers of runs whose chat template shows the date, and keep that date."""
        for run in self._experiment.runs:
            if dated := self._dated_tokenizer(run):
                self.dates.keep()
                self.dates.write_tokenizer(tokenizer_folder(run), self._experiment.folder / dated)

    def task_name(self, evaluation: Evaluation) -> str:
        """Name that inspect-ai knows an evaluation's task by."""
        return self._determinants.signature(evaluation).name

    def evaluation_files(self, evaluation: Evaluation) -> list[str]:
        """Paths of an evaluation's job script (first) and of its arguments or configs."""
        run, cell = evaluation.run.name, evaluation.cell
        ours = [paths.eval_script(run, cell), paths.task_arguments(run, cell), *self._task_config(evaluation)]
        return self._foreign.get((run, cell)) or ours

    def existing(self, path: str) -> Existing | None:
        """A file of the experiment as it is on disk; None if it does not exist. Raises InputError if it is not text."""
        text = self._read(path)
        return None if text is None else parse(text)

    def text(self, path: str, new: Rendered | None) -> str:
        """A file's text as jobs will find it; `new` is None if nothing is rendered. Raises InputError."""
        text = self._read(path)
        if text is None:
            return new.text if new else ""
        return (new and parse(text).updated(new)) or text

    def own_commands(self, paths: Sequence[str]) -> dict[str, dict[str, str]]:
        """Hashes of the files whose commands were edited, since those determine the result too."""
        found = {Path(path).name: self.existing(path) for path in paths}
        return {
            name: {"sha256": existing.commands_hash}
            for name, existing in found.items()
            if existing and existing.commands_hash
        }

    def left_behind(self, files: Mapping[str, Rendered]) -> list[str]:
        """Messages on edited files that are out of date with the summary."""
        changed = "was edited, and the summary or the data changed since"
        advice = "remove it to have it rendered again, or delete its `# Rendered by` line to use it as it is"
        found = [path for path, new in files.items() if (there := self.existing(path)) and there.contradicts(new)]
        return [f"{path}: {changed}: {advice}" for path in found]

    def planned(self, files: Mapping[str, Rendered]) -> dict[str, str]:
        """Fingerprints that files will have once they are written; jobs refuse files that change afterwards."""
        found = {path: self.existing(path) for path in files}
        return {
            path: existing.fingerprint if existing and existing.own_commands else new.fingerprint
            for path, new in files.items()
            for existing in [found[path]]
        }

    def write(self, files: Mapping[str, Rendered]) -> dict[str, str]:
        """Write missing files and update unedited parts; returns a message for each file of which edits are kept."""
        kept = {}
        for path, new in files.items():
            existing = self.existing(path)
            text = new.text if existing is None else existing.updated(new)
            if text is not None:
                write_atomically(self._experiment.folder / path, text)
            if existing and existing.own_commands:
                kept[path] = KEPT_WHOLE
            elif existing and existing.own_head:
                kept[path] = KEPT_HEAD
        return kept

    def _read(self, path: str) -> str | None:
        try:
            return regular(self._experiment.folder / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise InputError(path, [Problem(line, "", "not UTF-8 text; save the file as UTF-8")]) from error
        except IsADirectoryError as error:
            raise InputError(path, [Problem(0, "", "is a folder, but the job script is written there")]) from error
        except OSError as error:
            raise InputError(path, [Problem(0, "", f"cannot be read: {error.strerror}")]) from error

    def _head(self, name: str, request: Request) -> str:
        """`#SBATCH` lines and the lines that set up the environment: settings of the site."""
        settings = self._settings
        options = {
            "job-name": name,
            "account": request.given.account or settings.account,
            "partition": request.given.partition or settings.partition,
            "qos": request.given.qos,
            "constraint": request.given.constraint,
            "nodes": request.nodes,
            # torchrun is the one task of a node.
            "ntasks" if request.nodes == 1 else "ntasks-per-node": 1,
            "cpus-per-task": request.given.cpus_per_task or CPUS * request.processes,
            "gres": f"gpu:{request.gpus}" if request.gpus else None,
            "mem": request.mem,
            "time": request.time,
            "output": "slurm-%j.out",
        }
        further = request.given.options
        replaced = {name for option in further for name in family(option)}
        asked = {**{key: value for key, value in options.items() if key not in replaced}, **further}
        lines = [f"#SBATCH --{key}={value}".removesuffix("=") for key, value in asked.items() if value is not None]
        return "\n".join(["#!/bin/bash", *lines, "", *self._environment]) + "\n"


def _environment(settings: Settings) -> list[str]:
    """Lines that set up the environment; the script ends if one of them fails. Raises InputError."""
    given = [*(("modules", line) for line in settings.modules), ("environment", settings.environment or "")]
    # Each is checked separately, because under `set -e` conda's own scripts would end the job.
    return [f"{line} || exit" for line in _site_lines(given)]


def _vllm_environment(settings: Settings) -> str | None:
    """Line that activates the environment of vLLM's server; None if that has none of its own. Raises InputError."""
    return next(iter(_site_lines([("vllm_environment", settings.vllm_environment or "")])), None)


def _site_lines(given: Sequence[tuple[str, str]]) -> list[str]:
    """The lines that settings give, by the setting's name, each a whole command. Raises InputError."""
    commands = [(name, line.strip()) for name, line in given if line.strip()]
    problems = [
        Problem(0, name, f"expected one command, without a comment, found {shown(line)}")
        for name, line in commands
        if _NO_COMMAND.search(line)
    ]
    if problems:
        raise InputError("settings", problems)
    return [line for _, line in commands]


def _yaml(values: Mapping[str, Any]) -> Rendered:
    return Rendered("", _yaml_text(canonical(values)))


# Most evaluations of a task are called with the same arguments.
@cache
def _yaml_text(values: str) -> str:
    return yaml.safe_dump(json.loads(values), allow_unicode=True, width=2**31)


def _commands(lines: list[str]) -> str:
    return "\n".join([COMMANDS_BEGIN, *lines]) + "\n"


def _evaluation_commands(evaluation: Evaluation, cache: str, command: list[str]) -> str:
    """Commands of an evaluation: log folder, cached data set, and `inspect eval-set`."""
    by_hand = shlex.quote(f"{paths.attempts(evaluation.run.name)}/by_hand/{evaluation.cell}")
    connections = evaluation.generation.max_connections
    exports = [
        "# eval-set continues the log in its folder, even if data changed since; a run by hand gets a new folder.",
        f"export INSPECT_LOG_DIR=${{{EVAL_SET_FOLDER}:-{by_hand}/$(date +%Y-%m-%d_%H.%M.%S)}}",
        f"export {MAX_CONNECTIONS}=${{{MAX_CONNECTIONS}:-{connections}}}",
        "export HF_HUB_OFFLINE=1",
        *cache_exports(cache),
    ]
    return _commands([*exports, _lines(command)])


def _former_evaluation_commands(evaluation: Evaluation, cache: str, command: list[str]) -> str:
    """The commands as rendered by versions that did not use `inspect eval-set`; they had no other backend than hf."""
    if evaluation.generation.backend != "hf":
        return ""
    by_hand = shlex.quote(f"{paths.attempts(evaluation.run.name)}/by_hand")
    exports = [
        f"export INSPECT_LOG_DIR=${{INSPECT_LOG_DIR:-{by_hand}}}",
        "export HF_HUB_OFFLINE=1",
        *cache_exports(cache),
    ]
    return _commands([*exports, _lines(former_eval_command(command, evaluation.generation))])


def _lines(command: list[str]) -> str:
    """A command with one option per line."""
    words = [shlex.quote(word) for word in command]
    return " ".join(f"\\\n  {word}" if word.startswith("-") else word for word in words)


def _training_commands(trainer: Trainer, config: str, request: Request) -> list[str]:
    """Commands of a training, which all processes on all nodes of its job share."""
    command = trainer.command(config, request.processes, request.nodes)
    if request.nodes == 1:
        return [shlex.join(command)]
    options = [f"--nodes={request.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    return [
        "# torchrun's processes meet on the first node, which runs this script, at a port that other jobs do not use.",
        "export PET_RDZV_ID=${SLURM_JOB_ID:?compute.nodes needs SLURM}",
        "export PET_RDZV_ENDPOINT=$(hostname):$((20000 + SLURM_JOB_ID % 10000))",
        # Steps do not inherit the number of cores.
        f'srun {shlex.join(options)} --cpus-per-task="$SLURM_CPUS_PER_TASK" \\\n  {shlex.join(command)}',
    ]


def _training_request(compute: Compute | None, training: Training, weights_gb: float, time: str) -> Request:
    """Resources of a training."""
    given = training.hyperparameters
    gpus = 0 if given.device == "cpu" or (compute and compute.gpus == 0) else 1
    # Without a GPU, `auto` is fp32.
    in_fp32 = given.dtype == "fp32" or (given.dtype == "auto" and not gpus) or given.full_finetuning
    shared = compute if compute and TRAINERS[training.trainer].shares else Compute()
    processes = max(1, shared.gpus or 1) if given.device != "cpu" else 1
    request = _request(compute, weights_gb, gpus=gpus, in_fp32=in_fp32, time=time, processes=processes)
    return replace(request, nodes=shared.nodes or 1)


def _request(
    compute: Compute | None, weights_gb: float, *, gpus: int, in_fp32: bool, time: str, processes: int = 1
) -> Request:
    """Resources of a job: the summary's, else one GPU, and memory by the size of the model."""
    given = compute or Compute()
    # While a model is loaded its weights are in memory twice: as stored, mostly in bf16, and as used.
    weights = weights_gb * (3 if in_fp32 else 2)
    return Request(
        time=given.time or time,
        gpus=gpus if given.gpus is None else given.gpus,
        mem=given.mem or f"{processes * (_ROOM_GB + math.ceil(weights))}G",
        given=given,
        processes=processes,
    )


def _weights_gb(folder: Path) -> float:
    """Size of a model's weights in GiB."""
    return sum(os.path.getsize(path) for path in folder.glob("*.safetensors")) / 2**30
