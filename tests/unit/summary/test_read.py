"""A summary is read as it was meant, or rejected with every problem it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from good_summary import FILE, GOOD, changed, errors, read, write

from run_experiment.common.errors import InputError
from run_experiment.common.suggestions import SYNONYMS
from run_experiment.experiment.compute import Compute
from run_experiment.experiment.evaluation_section import EvaluationSettings
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.schema import ExperimentSummary, Parameters
from run_experiment.experiment.section import Section
from run_experiment.summary.read import read_experiment


def test_good_file(folder: Path) -> None:
    summary, warnings = read(folder, GOOD)
    assert warnings == []
    assert summary.controls.lr == 1e-5
    experiment = resolve(summary, folder)
    assert [item.subject for item in experiment.evaluations] == [
        "r4/cap/epoch0",
        "r4/cap/epoch1",
        "r8/cap/epoch0",
        "r8/cap/epoch1",
        "base/cap/base",
    ]


def test_old_and_new_key_names_mean_the_same(folder: Path) -> None:
    old = changed(
        ("experiment:\n", "experiment:\n  dir: /x\n"),
        ("    path: words.json", "    path: words.json\n    dataset_label: words"),
        ("  temperature", "  scorer: match\n  temperature"),
    )
    new = (
        old.replace("  dir:", "  directory:")
        .replace("dataset_label:", "label:")
        .replace("scorer: match", "scorers: [{name: match}]")
    )
    assert read(folder, old) == read(folder, new)
    assert read(folder, new)[0].evaluation.scorers[0].name == "match"


def test_single_values_and_empty_sections(folder: Path) -> None:
    text = changed(
        ("    - name: tiny\n      path: models/tiny", "    name: tiny\n    path: models/tiny"),
        ("tasks: [cap], epochs: [0, 1]", "tasks: cap, epochs: 1"),
        ("controls:", "variables:\ntools:\ncontrols:"),
        ("    type: control", "    type: control\n    parameters:"),
    )
    summary, warnings = read(folder, text)
    assert warnings == []
    assert summary.models.base[0].name == "tiny"
    assert summary.evaluation.matrix[0].epochs == [1]


RUN = "  - name: r8\n"
TWO_MODELS = ("      path: models/tiny\n", "      path: models/tiny\n    - {name: other, path: models/tiny}\n")

# ruff: noqa: E501
# What is changed in the good file, and the one line that must come of it.
BAD: list[tuple[str, list[tuple[str, str]], str]] = [
    # YAML's readings
    ("duplicate", [("  epochs: 2\n", "  epochs: 2\n  epochs: 3\n")], "6: controls.epochs: written twice, first in line 5; keep one"),
    ("name-no", [("name: base", "name: no"), ("run: base", 'run: "no"')], '21: runs[2].name: YAML reads no as false; quote it: "no"'),
    ("name-number", [("name: cap\n", "name: 42\n"), ("[cap], epochs: [0, 1]", "[\"42\"], epochs: [0, 1]"), ("[cap]", '["42"]'), ("[cap]", '["42"]')], '26: evaluation.tasks[0].name: YAML reads 42 as a number; quote it: "42"'),
    ("null-text", [("question: Does rank matter?", "question: null")], '3: experiment.question: YAML reads null as nothing; leave the key out, or quote it if the text is meant: "null"'),
    ("null-list", [("{run: base, tasks: [cap]}", "{run: base, tasks: [null]}")], '31: evaluation.matrix[2].tasks[0]: YAML reads null as nothing; leave the key out, or quote it if the text is meant: "null"'),
    ("number-list", [("{run: base, tasks: [cap]}", "{run: base, tasks: [7]}")], '31: evaluation.matrix[2].tasks[0]: YAML reads 7 as a number; quote it: "7"'),
    ("mapping-list", [("{run: base, tasks: [cap]}", "{run: base, tasks: [{name: cap}]}")], "31: evaluation.matrix[2].tasks[0]: expected text, found a mapping"),
    ("many-epochs", [("epochs: 2", "epochs: 100000")], "5: controls.epochs: expected at most 10000, found 100000"),
    ("time-minutes", [(RUN, RUN + '    compute: {time: "4:00"}\n')], '19: runs[1].compute.time: expected a time with hours, minutes and seconds, like 02:00:00 or 1-12:00:00, found "4:00"'),
    ("nodes-name", [(RUN, RUN + "    compute: {nodes: node1}\n")], '19: runs[1].compute.nodes: expected a whole number, found "node1"'),
    ("no-flag", [(RUN, RUN + "    slurm_overrides: {requeue: false}\n")], "19: runs[1].slurm_overrides.requeue: is false; leave the key out: an option of sbatch that takes no value is there, or it is not"),
    ("no-option", [(RUN, RUN + "    slurm_overrides: {--mem-per-gpu: 1G}\n")], "19: runs[1].slurm_overrides.--mem-per-gpu: is no option of sbatch; write its name in letters, as in mail-type"),
    ("all-epochs", [("epochs: [0, 1]", "epochs: all")], '29: evaluation.matrix[0].epochs: expected a whole number, found "all"'),
    ("type-base", [("type: fine-tuned", "type: baseline")], '19: runs[1].type: expected fine-tuned, control or eval-only, found "baseline"; did you mean control?'),
    ("name-date", [("name: base", "name: template_date.txt"), ("run: base", "run: template_date.txt")], "21: runs[2].name: template_date.txt is a name of the experiment folder's own; choose another"),
    ("empty-text", [("question: Does rank matter?", "question:")], "3: experiment.question: expected text, found nothing"),
    ("octal", [("  epochs: 2\n", "  epochs: 2\n  seed: 012\n")], '6: controls.seed: YAML reads 012 as the octal number 10; write 12, or quote it: "012"'),
    ("not-octal", [("  epochs: 2\n", "  epochs: 2\n  seed: 08\n")], '6: controls.seed: expected a whole number, found "08"'),
    ("rank", [("{lora_rank: 4}", "{lora_rank: 1000000000000000000000}")], "17: runs[0].parameters.lora_rank: expected at most 65536, found 1000000000000000000000"),
    ("time", [(RUN, RUN + "    compute: {time: 12:30:00}\n")], '19: runs[1].compute.time: YAML reads 12:30:00 as the number 45000; quote it: "12:30:00"'),
    ("input", [('"Capitalize: {input}"', "{input}")], '7: controls.prompt: YAML reads {input} as a mapping; quote it: "{input}"'),
    ("bool", [("  epochs: 2\n", "  epochs: 2\n  shuffle: y\n")], '6: controls.shuffle: expected true or false, found "y"'),
    ("choice-off", [("  epochs: 2\n", "  epochs: 2\n  lr_scheduler: off\n")], "6: controls.lr_scheduler: expected cosine, linear or constant, found off (YAML reads it as false)"),
    # Types and ranges
    ("lr", [("lr: 1e-5", "lr: fast")], '6: controls.lr: expected a number, found "fast"'),
    ("lr-0", [("lr: 1e-5", "lr: 0")], "6: controls.lr: expected more than 0, found 0"),
    ("lr-inf", [("lr: 1e-5", "lr: .inf")], "6: controls.lr: expected a finite number, found inf"),
    ("epochs", [("epochs: 2", "epochs: 2.5")], "5: controls.epochs: expected a whole number, found 2.5"),
    ("type", [("type: fine-tuned", "type: finetuned")], '19: runs[1].type: expected fine-tuned, control or eval-only, found "finetuned"; did you mean fine-tuned?'),
    ("mem", [(RUN, RUN + "    compute: {mem: lots}\n")], '19: runs[1].compute.mem: expected an amount of memory like 80G, found "lots"'),
    ("module", [("{lora_rank: 4}", "{lora_attn_modules: [q]}")], '17: runs[0].parameters.lora_attn_modules[0]: expected q_proj, k_proj, v_proj or output_proj, found "q"'),
    ("not-a-mapping", [("{lora_rank: 4}", "4")], "17: runs[0].parameters: expected a mapping (key: value), found 4"),
    ("not-a-list", [("controls:", "variables: {lr: 1}\ncontrols:")], "4: variables.lr: expected a list, found 1"),
    ("missing", [("  name: capitalization\n", "")], "1: experiment.name: is required, but missing"),
    ("empty-list", [("{run: base, tasks: [cap]}", "{run: base, tasks: []}")], "31: evaluation.matrix[2].tasks: must not be empty"),
    # Unknown keys
    ("unknown-top", [("controls:", "contols: {}\ncontrols:")], "4: contols: unknown key; did you mean controls?"),
    ("unknown-control", [("  epochs: 2\n", "  epochs: 2\n  lora_rnk: 3\n")], "6: controls.lora_rnk: unknown key; did you mean lora_rank?"),
    ("unknown-parameter", [("{lora_rank: 4}", "{lora_rnk: 4}")], "17: runs[0].parameters.lora_rnk: unknown key; did you mean lora_rank?"),
    ("synonym", [("lr: 1e-5", "learning_rate: 1e-5")], "6: controls.learning_rate: unknown key; did you mean lr?"),
    ("synonym-parameter", [("{lora_rank: 4}", "{r: 4}")], "17: runs[0].parameters.r: unknown key; did you mean lora_rank?"),
    ("synonym-variable", [("controls:", "variables: {num_train_epochs: [1]}\ncontrols:")], "4: variables.num_train_epochs: is not a parameter of runs; did you mean epochs?"),
    ("synonym-eval", [("temperature: 0.0", "max_new_tokens: 9")], "24: evaluation.max_new_tokens: unknown key; did you mean max_tokens?"),
    ("unknown-eval", [("  temperature", "  temprature")], "24: evaluation.temprature: unknown key; did you mean temperature?"),
    ("unknown-experiment", [("question:", "questoin:")], "3: experiment.questoin: unknown key; did you mean question?"),
    ("unknown-old-name", [("    path: words.json", "    path: words.json\n    dataset_labl: x")], "15: data.training.dataset_labl: unknown key; did you mean dataset_label?"),
    ("both-names", [("  question:", "  dir: x\n  directory: y\n  question:")], "3: experiment.dir: directory and dir are the same key; keep one"),
    ("unknown-variable", [("controls:", "variables: {lora_rnk: [1]}\ncontrols:")], "4: variables.lora_rnk: is not a parameter of runs; did you mean lora_rank?"),
    # Names
    ("name", [("name: r4", "name: r/4"), ("run: r4", 'run: r/4')], '16: runs[0].name: expected a name of letters, digits, ., _ and -, beginning with a letter or digit, at most 128 long, found "r/4"'),
    ("name-newline", [("name: r4", 'name: "r4\\n"'), ("run: r4", 'run: "r4\\n"')], '16: runs[0].name: expected a name of letters, digits, ., _ and -, beginning with a letter or digit, at most 128 long, found "r4\\n"'),
    ("name-dots", [("name: r4", "name: r..4"), ("run: r4", 'run: r..4')], "16: runs[0].name: r..4 has two dots in a row; a name must not"),
    ("name-repeats", [("name: r4", "name: r4" + 20 * "-a"), ("run: r4", "run: r4" + 20 * "-a")], "16: runs[0].name: ends in 20 times the same, which Snakemake takes for an error; shorten it"),
    ("name-twice", [("name: base", "name: r8"), ("    - {run: base, tasks: [cap]}\n", "")], "21: runs[2].name: r8 is already the name of runs[1]"),
    ("name-case", [("name: base", "name: R8"), ("run: base", "run: R8")], "21: runs[2].name: R8 differs only in upper and lower case from runs[1]"),
    ("name-reserved", [("name: base", "name: results"), ("run: base", "run: results")], "21: runs[2].name: results is a name of the experiment folder's own; choose another"),
    ("name-log", [("name: base", "name: run-inspect.log"), ("run: base", "run: run-inspect.log")], "21: runs[2].name: run-inspect.log is a name of the experiment folder's own; choose another"),
    ("name-file", [("name: base", "name: cap.py"), ("run: base", "run: cap.py")], "21: runs[2].name: cap.py would be the run's folder, but a file has that name"),
    ("task-twice", [("      script: cap.py\n", "      script: cap.py\n    - {name: CAP, script: cap.py}\n")], "28: evaluation.tasks[1].name: CAP differs only in upper and lower case from evaluation.tasks[0]"),
    # References
    ("unknown-run", [("run: base", "run: bse")], '31: evaluation.matrix[2].run: there is no run "bse"; did you mean base?'),
    ("unknown-task", [("{run: base, tasks: [cap]}", "{run: base, tasks: [xyz]}")], '31: evaluation.matrix[2].tasks[0]: there is no task "xyz"; known: cap'),
    ("unknown-reference", [("  matrix:", "  reference: bse\n  matrix:")], '28: evaluation.reference: there is no run "bse"; did you mean base?'),
    ("unknown-selector", [("  matrix:", "  select_on: caps\n  matrix:")], '28: evaluation.select_on: is neither a task nor validation_loss: "caps"; did you mean cap?'),
    ("no-validation-loss", [("  matrix:", "  select_on: validation_loss\n  matrix:")], "28: evaluation.select_on: validation_loss is only known with validation_during_training: true"),
    ("metric-direction", [("      script: cap.py\n", "      script: cap.py\n      metric: {name: mae, better: smaller}\n")], '28: evaluation.tasks[0].metric.better: expected higher or lower, found "smaller"'),
    ("unknown-model", [("type: control", "type: control\n    model: tny")], '23: runs[2].model: there is no model "tny"; did you mean tiny?'),
    ("untrained", [("epochs: [0, 1]", "epochs: [0, 2]")], "29: evaluation.matrix[0].epochs[1]: epoch 2 of run r4 is not trained; its epochs are 0 to 1"),
    ("untrained-own", [("{lora_rank: 4}", "{epochs: 1}")], "29: evaluation.matrix[0].epochs[1]: epoch 1 of run r4 is not trained; its only epoch is 0"),
    ("no-epochs", [("epochs: [0, 1]", "epochs: []")], "29: evaluation.matrix[0].epochs: must not be empty; null means all epochs"),
    ("control-epochs", [("{run: base, tasks: [cap]}", "{run: base, tasks: [cap], epochs: [0]}")], "31: evaluation.matrix[2].epochs: must be null: run base is control and has no epochs"),
    ("repeated", [("{run: base, tasks: [cap]}", "{run: r8, tasks: [cap], epochs: [1]}")], "31: evaluation.matrix[2]: run r8 on task cap after epoch 1 appears twice, first in evaluation.matrix[1]"),
    ("repeated-inside", [("epochs: [0, 1]", "epochs: [1, 1]")], "29: evaluation.matrix[0]: run r4 on task cap after epoch 1 appears twice"),
    # Checkpoints
    ("eval-only", [("type: control", "type: eval-only")], "21: runs[2].checkpoint_path: is required for an eval-only run: the folder of its checkpoint"),
    ("checkpoint-missing", [("type: control", "type: eval-only\n    parameters: {checkpoint_path: nowhere}")], '23: runs[2].parameters.checkpoint_path: there is no folder "DIR/nowhere"'),
    ("checkpoint-empty", [("type: control", "type: eval-only\n    checkpoint_path: elsewhere")], '23: runs[2].checkpoint_path: DIR/elsewhere holds no adapter (adapter_model.safetensors) and no model (*.safetensors); did you mean the folder "epoch_0" in it?'),
    ("checkpoint-of-control", [("type: control", "type: control\n    checkpoint_path: elsewhere/epoch_0")], "23: runs[2].checkpoint_path: is for eval-only runs; this one is control"),
    ("two-checkpoints", [("type: control", "type: eval-only\n    checkpoint_path: elsewhere\n    parameters: {checkpoint_path: elsewhere/epoch_0}")], "23: runs[2].checkpoint_path: differs from parameters.checkpoint_path; keep one"),
    # Prompts and sampling
    ("prompt", [("{input}", "it")], '7: controls.prompt: must contain {input}; it is "Capitalize: it"'),
    ("prompt-comment", [('"Capitalize: {input}"', "Word #1, {input}")], '7: controls.prompt: must contain {input}; it is "Word"'),
    ("prompt-run", [("{lora_rank: 4}", '{prompt: "Hi"}')], '17: runs[0].parameters.prompt: must contain {input}; it is "Hi"'),
    ("task-file", [("script: cap.py", "script: words.json")], "27: evaluation.tasks[0].script: words.json is not a Python file (.py): put the task into one"),
    ("prompt-task", [("script: cap.py", "script: cap.py\n      prompt: Hi")], '28: evaluation.tasks[0].prompt: must contain {input}; it is "Hi"'),
    ("prompt-field", [("{input}", "{input} {other}")], "7: controls.prompt: has {other} beside {input}; write {{ and }} for braces"),
    ("prompt-conversion", [("{input}", "{input!r}")], "7: controls.prompt: has {input!r} beside {input}; write {{ and }} for braces"),
    ("prompt-brace", [("{input}", "{input} {")], "7: controls.prompt: is not a valid template (Single '{' encountered in format string); write {{ and }} for braces"),
    ("sampling", [("temperature: 0.0", "do_sample: true")], "23: evaluation.temperature: is required with do_sample: true"),
    ("sampling-0", [("temperature: 0.0", "temperature: 0.0\n  do_sample: true")], "24: evaluation.temperature: must be more than 0 with do_sample: true"),
    # Paths
    ("pattern", [("runs:", 'output: {checkpoint_pattern: "{run}/out"}\nruns:')], '15: output.checkpoint_pattern: must contain {epoch}; it is "{run}/out"'),
    ("pattern-shared", [("runs:", 'output: {checkpoint_pattern: "out/{run}{epoch}"}\nruns:')], "15: output.checkpoint_pattern: runs would share folders; put something other than digits between {run} and {epoch}"),
    ("pattern-out", [("runs:", 'output: {checkpoint_pattern: "../{run}/{epoch}"}\nruns:')], "15: output.checkpoint_pattern: \"../{run}/{epoch}\" leads out of the experiment's folder; write the full path"),
    ("pattern-run", [("runs:", 'output: {checkpoint_pattern: "{run}/epoch_{epoch}"}\nruns:')], "15: output.checkpoint_pattern: would have checkpoints in the folder of run r4 among other files of the run; write {run}/artifacts/epoch_{epoch}"),
    ("pattern-checkpoints", [("runs:", 'output: {checkpoint_pattern: "{run}/checkpoints/epoch_{epoch}"}\nruns:')], "15: output.checkpoint_pattern: would have checkpoints in r4/checkpoints among other files of the run; write {run}/artifacts/epoch_{epoch}"),
    ("pattern-attempts", [("runs:", 'output: {checkpoint_pattern: "x/../{run}/attempts/mine/epoch_{epoch}/"}\nruns:')], "15: output.checkpoint_pattern: would have checkpoints in r4/attempts among other files of the run; write {run}/artifacts/epoch_{epoch}"),
    ("pattern-trainings", [("runs:", 'output: {checkpoint_pattern: "{run}/trainings/epoch_{epoch}"}\nruns:')], "15: output.checkpoint_pattern: would have checkpoints in r4/trainings among other files of the run; write {run}/artifacts/epoch_{epoch}"),
    ("path-nul", [("runs:", 'output: {base_directory: "a\\0b"}\nruns:')], '15: output.base_directory: "a\\x00b": no path has a NUL character'),
    ("path-out", [("words.json", "../words.json")], "14: data.training.path: \"../words.json\" leads out of the experiment's folder; write the full path"),
    ("path-home", [("models/tiny", "~/tiny")], '11: models.base[0].path: "~/tiny": ~ and $ are not expanded; write the full path'),
    # Files
    ("model", [("models/tiny", "models/big")], '11: models.base[0].path: there is no folder "DIR/models/big"'),
    ("model-hub", [("models/tiny", "meta-llama/Llama-3.2-1B")], '11: models.base[0].path: there is no folder "DIR/meta-llama/Llama-3.2-1B"; nothing is downloaded: write the path of a copy on this machine'),
    ("model-config", [("models/tiny", "models")], '11: models.base[0].path: "DIR/models" has no config.json; did you mean the folder "tiny" in it?'),
    ("model-untrainable", [("models/tiny", "models/bert")], "11: models.base[0].path: DIR/models/bert: torchtune cannot train this model: its architecture is 'bert'; supported are llama, qwen2"),
    ("data", [("words.json", "word.json")], '14: data.training.path: there is no file "DIR/word.json"; did you mean words.json?'),
    ("data-folder", [("words.json", "models")], '14: data.training.path: "DIR/models" is a folder; expected a file'),
    ("data-format", [("    path: words.json", "    path: words.json\n    format: csv")], "15: data.training.format: is csv, but words.json ends in .json"),
    ("steps", [("epochs: 2\n", "epochs: 2\n  gradient_accumulation_steps: 2\n")], "15: data.training.path: split train has 4 rows, fewer than one optimizer step takes (batch_size 4 × gradient_accumulation_steps 2 = 8)"),
    ("steps-run", [("{lora_rank: 4}", "{batch_size: 5}")], "17: runs[0].parameters.batch_size: split train has 4 rows, fewer than one optimizer step takes (batch_size 5 × gradient_accumulation_steps 1 = 5)"),
    ("no-training-data", [("    path: words.json", ""), ("  training:\n", ""), ("data:\n", ""), ("script: cap.py", "script: cap.py\n      dataset: words.json")], "1: data.training: is required: run r4 is fine-tuned"),
    ("validation", [("epochs: 2\n", "epochs: 2\n  validation_during_training: true\n")], '15: data.training.path: split validation is missing; there is "train", "test" (validation_during_training)'),
    ("script", [("cap.py", "cup.py")], '27: evaluation.tasks[0].script: there is no file "DIR/cup.py"; did you mean cap.py?'),
    ("function", [("cap.py", "cap.py@cop")], "27: evaluation.tasks[0].script: DIR/cap.py has no task cop; did you mean cap?"),
    ("args", [("script: cap.py", "script: cap.py\n      args: {prmpt: 1}")], "28: evaluation.tasks[0].args.prmpt: task cap has no such parameter; did you mean prompt?"),
    ("dataset", [("script: cap.py", "script: cap.py\n      dataset: x.json")], '28: evaluation.tasks[0].dataset: there is no file "DIR/x.json"'),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input(folder: Path, changes: list[tuple[str, str]], line: str) -> None:
    assert errors(folder, changed(*changes)) == [f"{FILE}:{line}"]


@pytest.mark.parametrize(
    ("base", "pattern", "where"),
    [
        ("<folder>/r4/eval", None, "base_directory: would have checkpoints in r4/eval"),
        ("<folder>/../<name>/", "{run}/eval/epoch_{epoch}", "checkpoint_pattern: would have checkpoints in r4/eval"),
        ("<link>", "{run}/epoch_{epoch}", "checkpoint_pattern: would have checkpoints in the folder of run r4"),
        ("<parent>", "{run}/epoch_{epoch}", "checkpoint_pattern: would have checkpoints in the folder of run <name>"),
        ("<folder>", "{run}/out/epoch_{epoch}", None),
        ("/scratch/me", "{run}/epoch_{epoch}", None),
        # Own job scripts write them, and nobody moves them away.
        (".", "{run}/checkpoint-{epoch}", None),
    ],
)
def test_checkpoints_lie_apart(folder: Path, base: str, pattern: str | None, where: str | None) -> None:
    (folder / "link").symlink_to(folder)
    paths = {"<folder>": folder, "<parent>": folder.parent, "<link>": folder / "link", "<name>": folder.name}
    for name, path in paths.items():
        base, where = base.replace(name, str(path)), where and where.replace(name, str(path))
    values = yaml.safe_load(GOOD)
    values["output"] = {"base_directory": base} | ({"checkpoint_pattern": pattern} if pattern else {})
    if base == str(folder.parent):
        values["runs"][0]["name"] = values["evaluation"]["matrix"][0]["run"] = folder.name
    found = errors(folder, yaml.safe_dump(values)) if where else read(folder, yaml.safe_dump(values))[1]
    instead = "write {run}/artifacts/epoch_{epoch}" if pattern else "choose another folder"
    expected = [f"{where} among other files of the run; {instead}"] if where else []
    assert [line.partition(": output.")[2] for line in found] == expected


def test_synonyms_are_of_keys_that_exist() -> None:
    known = {*Parameters.all_keys(), *EvaluationSettings.all_keys(), *Compute.all_keys()}
    assert set(SYNONYMS.values()) <= known
    assert not known & SYNONYMS.keys()


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    text = changed(
        ("lr: 1e-5", "lr: fast"),
        ("{lora_rank: 4}", "{lora_rnk: 4}"),
        ("models/tiny", "models/big"),
        ("{input}", "it"),
        ("epochs: [0, 1]", "epochs: [7]"),
        ("run: base", "run: bse"),
        ("script: cap.py", "script: cup.py"),
        ("name: r8", "name: R4"),
        ("type: control", "type: eval-only"),
        ("  temperature: 0.0", "  seed: 011"),
    )
    assert errors(folder, text) == [
        f'{FILE}:6: controls.lr: expected a number, found "fast"',
        f'{FILE}:7: controls.prompt: must contain {{input}}; it is "Capitalize: it"',
        f'{FILE}:11: models.base[0].path: there is no folder "DIR/models/big"',
        f"{FILE}:17: runs[0].parameters.lora_rnk: unknown key; did you mean lora_rank?",
        f"{FILE}:18: runs[1].name: R4 differs only in upper and lower case from runs[0]",
        f"{FILE}:21: runs[2].checkpoint_path: is required for an eval-only run: the folder of its checkpoint",
        f'{FILE}:24: evaluation.seed: YAML reads 011 as the octal number 9; write 11, or quote it: "011"',
        f'{FILE}:27: evaluation.tasks[0].script: there is no file "DIR/cup.py"; did you mean cap.py?',
        f"{FILE}:29: evaluation.matrix[0].epochs[0]: epoch 7 of run r4 is not trained; its epochs are 0 to 1",
        f'{FILE}:30: evaluation.matrix[1].run: there is no run "r8"; known: r4, R4, base',
        f'{FILE}:31: evaluation.matrix[2].run: there is no run "bse"; did you mean base?',
    ]


def test_model_is_needed_where_there_are_several(folder: Path) -> None:
    assert errors(folder, changed(TWO_MODELS)) == [
        f"{FILE}:{line}: runs[{index}].model: is required if there are several base models: tiny, other"
        for index, line in enumerate((17, 19, 22))
    ]


def test_own_parameters_fill_a_step(folder: Path) -> None:
    both = ("{lora_rank: 4}", "{batch_size: 2}"), ("{lora_rank: 8}", "{gradient_accumulation_steps: 1}")
    text = changed(("epochs: 2\n", "epochs: 2\n  gradient_accumulation_steps: 2\n"), *both)
    assert read(folder, text)[1] == []


def test_required_parameters_of_a_task(folder: Path) -> None:
    write(folder, "cap.py", "@task\ndef cap(data_path, prompt, temperature, scorer): ...")
    assert errors(folder, GOOD) == [
        f"{FILE}:26: evaluation.tasks[0].args: task cap needs scorer, which nothing provides; set it in args"
    ]
    read(folder, changed(("  temperature", "  scorer: match\n  temperature")))
    read(folder, changed(("script: cap.py", "script: cap.py\n      args: {scorer: match}")))


def test_a_task_without_data(folder: Path) -> None:
    text = changed(
        ("data:\n  training:\n    path: words.json\n", ""),
        ("{lora_rank: 4}\n", "{lora_rank: 4}\n    data: words.json\n"),
    ).replace("{lora_rank: 8}\n", "{lora_rank: 8}\n    data: words.json\n")
    message = "is required: task cap needs data_path, and there is no data.training"
    assert f"{FILE}:25: evaluation.tasks[0].dataset: {message}" in errors(folder, text)


def test_eval_only_run(folder: Path) -> None:
    text = changed(("type: control", "type: eval-only\n    parameters: {checkpoint_path: elsewhere/epoch_0}"))
    assert resolve(read(folder, text)[0], folder).run_by_name["base"].checkpoint == folder / "elsewhere/epoch_0"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([("  question:", "  owner: me\n  question:")], "3: experiment.owner: unknown key, ignored"),
        ([("temperature: 0.0", "temperature: 0.7")], "24: evaluation.temperature: is ignored without do_sample: true"),
        (
            [("    path: words.json", "    path: words.json\n    splits: {train: 3, test: 1}")],
            "15: data.training.splits.train: says 3, but the data file has 4",
        ),
        (
            [("    path: words.json", "    path: words.json\n    splits: {tests: 1}")],
            "15: data.training.splits.tests: the data file has no such split; did you mean test?",
        ),
        (
            [("script: cap.py", "script: cap.py\n      assistant_prefix: Sure")],
            "28: evaluation.tasks[0].assistant_prefix: task cap takes no assistant_prefix, so its evaluations run without it",
        ),
    ],
)
def test_warnings(folder: Path, changes: list[tuple[str, str]], line: str) -> None:
    summary, warnings = read(folder, changed(*changes))
    assert warnings == [f"{FILE}:{line}"]
    assert summary.experiment.name == "capitalization"


PLAIN_TASK = "@task\ndef upper(data_path: str): ..."
SYSTEM = ("  prompt:", "  system_prompt: Be brief.\n  prompt:")
NO_PROMPT = "27: evaluation.tasks[0].script: task upper takes no prompt, so its evaluations run without it"
NO_SYSTEM_PROMPT = "evaluation.tasks[0].script: task upper takes no system_prompt, so its evaluations run without it"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ([], [f"{NO_PROMPT}, unlike the training"]),
        ([("Capitalize: {input}", "{input}")], []),
        ([SYSTEM, ("Capitalize: ", "")], [f"28: {NO_SYSTEM_PROMPT}, unlike the training"]),
        (
            [("Capitalize: ", ""), ("{lora_rank: 4}", "{system_prompt: S}")],
            [f"27: {NO_SYSTEM_PROMPT}, unlike the training"],
        ),
        (
            [("Capitalize: ", ""), ("    type: control", "    parameters: {prompt: 'X {input}'}\n    type: control")],
            [NO_PROMPT.replace("27", "28")],
        ),
        ([("Capitalize: ", ""), ("  temperature", "  system_prompt: S\n  temperature")], [f"28: {NO_SYSTEM_PROMPT}"]),
        ([("Capitalize: ", ""), ("script: cap.py", 'script: cap.py\n      prompt: "X {input}"')], [NO_PROMPT]),
        ([SYSTEM, ("Capitalize: ", ""), ("  temperature", '  system_prompt: ""\n  temperature')], []),
        ([("script: cap.py", 'script: cap.py\n      prompt: "{input}"')], []),
    ],
)
def test_prompts_that_a_task_does_not_take(folder: Path, changes: list[tuple[str, str]], lines: list[str]) -> None:
    write(folder, "cap.py", PLAIN_TASK)
    assert read(folder, changed(*changes))[1] == [f"{FILE}:{line}" for line in lines]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            "    - {run: r8, tasks: [cap]}\n",
            "18: runs[1].name: no line of evaluation.matrix names r8: it is trained, but never evaluated",
        ),
        (
            "    - {run: base, tasks: [cap]}\n",
            "21: runs[2].name: no line of evaluation.matrix names base: it is not used",
        ),
    ],
)
def test_runs_without_evaluation(folder: Path, entry: str, line: str) -> None:
    assert read(folder, changed((entry, "")))[1] == [f"{FILE}:{line}"]


VARIES = "differs between runs, but is not in variables: their results may differ because of it"


@pytest.mark.parametrize(
    ("variables", "own", "line"),
    [
        ("", "lora_rank: 4, lr: 0.1", None),
        ("variables: {lora_rank: [4, 8]}", "lora_rank: 4", None),
        ("variables: {lora_rank: [4, 8]}", "lora_rank: 4, seed: 2, lr: 1.0e-5, num_workers: 2", None),
        ("variables: {lora_rank: [4, 8], lr: [1e-5, 1e-3]}", "lora_rank: 4, lr: 0.001", None),
        ("variables: {lora_rank: [4, 8]}", "lora_rank: 4, lr: 0.1", f"lr: {VARIES}"),
        ("variables: {lr: [1e-5]}", "lora_rank: 4", f"lora_rank: {VARIES}"),
        ("variables: {lora_rank: [4, 8]}", "lora_rank: 16", "lora_rank: is 16, but variables.lora_rank lists 4, 8"),
        ("variables: {lora_rank: [4, 8], seed: []}", "lora_rank: 4, seed: 2", "seed: is 2, but variables.seed lists no value"),
    ],
)  # fmt: skip
def test_what_varies_without_being_listed(folder: Path, variables: str, own: str, line: str | None) -> None:
    text = changed(("controls:", f"{variables}\ncontrols:"), ("{lora_rank: 4}", f"{{{own}}}"))
    assert read(folder, text)[1] == ([f"{FILE}:18: runs[0].parameters.{line}"] if line else [])


def test_unknown_hyperparameters_of_other_tools(folder: Path) -> None:
    text = changed(("{lora_rank: 4}", "{lora_rnk: 4}"), ("controls:", "variables: {optim: [a]}\ncontrols:"))
    assert len(errors(folder, text)) == 2
    _, warnings = read(folder, text, strict=False)
    assert warnings == [
        f"{FILE}:4: variables.optim: is not a parameter of runs",
        f"{FILE}:18: runs[0].parameters.lora_rnk: unknown key, ignored; did you mean lora_rank?",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("run: r4", "run: r5"), "there is no run r5"),
        (("tasks: [cap], epochs", "tasks: [sort], epochs"), "there is no task sort"),
        (("parameters: {lora_rank: 4}", "model: huge"), "there is no model huge"),
        (("epochs: [0, 1]", "epochs: [0, 2]"), "run r4 has no checkpoint of epoch 2"),
        (("type: control", "type: eval-only"), "run base has no checkpoint"),
        (("data:\n  training:\n    path: words.json\n", ""), "run r4 has no training data"),
        (("controls:", "output: {checkpoint_pattern: 'a/{0}'}\ncontrols:"), "a/{0} is no pattern of {run} and {epoch}"),
    ],
)
def test_experiment_that_does_not_fit_together_is_refused_in_one_line(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_experiment(write(folder, FILE, changed(change)))
    assert str(caught.value) == f"{FILE}: {message}; `snakemake -n` lists every problem"


def test_experiment_is_read_without_its_files_but_not_with_a_misspelt_key(folder: Path) -> None:
    path = write(folder, FILE, GOOD.replace("models/tiny", "models/gone").replace("cap.py", "gone.py"))
    assert read_experiment(path).run_by_name["r4"].model.path == folder / "models/gone"
    path.write_text(GOOD.replace("lora_rank: 4", "lora_ranc: 4").replace("{run: r8,", "{run: r8, run: r4,"))
    with pytest.raises(InputError) as caught:
        read_experiment(path)
    assert [problem.message for problem in caught.value.problems] == [
        "unknown key; did you mean lora_rank?",
        "written twice, first in line 30; keep one",
    ]


def test_valid_file_is_validated_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are those of the summary, not validated anew."""
    validated: list[object] = []

    def validate(model: type[Section], values: object) -> Section:
        validated.append(model)
        return model.__pydantic_validator__.validate_python(values)  # type: ignore[no-any-return]

    monkeypatch.setattr(Section, "model_validate", classmethod(validate))
    read(folder, GOOD)
    assert validated == [ExperimentSummary]
