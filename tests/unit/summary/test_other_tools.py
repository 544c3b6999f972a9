"""Keys of other tools: taken as they are meant, or refused with what to do instead; never ignored in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_summary import FILE, GOOD, TASK, changed, errors, read, write

from run_experiment.common.suggestions import SYNONYMS
from run_experiment.experiment.columns import Columns
from run_experiment.experiment.resolve import resolve

RECIPES = "cruijff_kit.tools.torchtune.custom_recipes.lora_finetune_single_device"
PRODUCT = "batch_size 4 × gradient_accumulation_steps 1 = 4"
ONLY_RECIPE = "expected lora_finetune_single_device"
KINDS = "expected chat_completion or text_completion"
OWN_RECIPE = "write the command of another recipe in the run's finetune.slurm"


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("get_cosine_schedule_with_warmup", "cosine"),
        ("torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup", "cosine"),
        ("get_linear_schedule_with_warmup", "linear"),
        ("linear", "linear"),
        ("constant_with_warmup", "constant"),
        ("constant", "constant"),
    ],
)
def test_names_of_schedules(folder: Path, name: str, meaning: str) -> None:
    summary, warnings = read(folder, changed(("  epochs: 2\n", f"  epochs: 2\n  lr_scheduler: {name}\n")))
    assert summary.controls.lr_scheduler == meaning
    assert warnings == []


def test_keys_that_change_nothing_train_the_same(folder: Path) -> None:
    keys = (
        "  batch_size_val: 8\n  num_workers: 0\n  log_every_n_steps: 5\n  packed: false\n"
        "  save_adapter_weights_only: true\n  input_key: input\n  output_key: output\n  input_formatting: ''\n"
        f"  custom_recipe: {RECIPES}_nightly\n"
    )
    summary, warnings = read(folder, changed(("  epochs: 2\n", f"  epochs: 2\n{keys}")))
    assert warnings == []
    given, plain = (resolve(one, folder) for one in (summary, read(folder, GOOD)[0]))
    for run, as_before in zip(given.fine_tuned, plain.fine_tuned, strict=True):
        assert run.training
        assert as_before.training
        assert run.training.hyperparameters.recorded() == as_before.training.hyperparameters.recorded()
    assert [one.columns for one in given.evaluations] == [one.columns for one in plain.evaluations]


def test_a_variable_that_changes_nothing(folder: Path) -> None:
    text = changed(("controls:", "variables: {lora_rank: [4, 8], num_workers: [0, 4]}\ncontrols:"))
    assert read(folder, text)[1] == [f"{FILE}:4: variables.num_workers: varies, but changes nothing here"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("packed: true", "needs max_seq_len beside it: the tokens of a pack, such as 2048"),
        ("save_adapter_weights_only: false", "expected true, found false; checkpoints are always adapters here"),
        ("training_samples: 0", "expected more than 0, found 0"),
        ("training_samples: 3", "takes 3 rows, fewer than one optimizer step takes (" + PRODUCT + ")"),
        ('input_key: ""', "must not be empty"),
        ("input_formatting: raw", 'the data file "words.json" is not in a folder "raw"; write its whole path'),
        ("custom_recipe: x.py", f'{ONLY_RECIPE}, found "x.py"; {OWN_RECIPE}'),
        ("custom_recipe: lora_finetune_distributed", f'{ONLY_RECIPE}, found "lora_finetune_distributed"; {OWN_RECIPE}'),
        ("run_val_every_n_steps: 50", "unknown key; did you mean validation_during_training?"),
        ("base_recipe: llama3_2/1B_lora_single_device", "unknown key; write the recipe's values yourself"),
    ],
)
def test_refused(folder: Path, key: str, message: str) -> None:
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  {key}\n"))
    assert errors(folder, text) == [f"{FILE}:6: controls.{key.partition(':')[0]}: {message}"]


VALIDATION = "put rows into a split named validation, and set validation_during_training: true"
# Keys as axolotl, LLaMA-Factory, TRL, unsloth and torchtune's configs have them: which key is meant, or what to do.
OF_TRAINERS = {
    "learning_rate: 2e-4": "lr",
    "num_epochs: 3": "epochs",
    "num_train_epochs: 3": "epochs",
    "lora_r: 16": "lora_rank",
    "per_device_train_batch_size: 4": "batch_size",
    "max_seq_length: 512": "max_seq_len",
    "sample_packing: true": "packed",
    "max_samples: 100": "training_samples",
    "random_state: 3407": "seed",
    "use_gradient_checkpointing: unsloth": "enable_activation_checkpointing",
    "base_model: x": "name the model's folder in models.base",
    "bf16: true": "write dtype: bf16",
    "val_set_size: 0.1": VALIDATION,
    "eval_strategy: epoch": VALIDATION,
    "load_in_8bit: true": "write load_in_4bit: true with trainer: trl, or leave it out",
    "finetuning_type: full": "leave it out for LoRA; write load_in_4bit: true for QLoRA, full_finetuning: true to "
    "train the whole model",
    "lora_target: all": "write lora_target_modules: all-linear with trainer: trl, or lora_attn_modules and "
    "apply_lora_to_mlp",
    "target_modules: [q_proj]": "lora_target_modules",
    "warmup_ratio: 0.1": "write num_warmup_steps",
    "datasets: [x]": "name the data file, or a list of several, in data.training.path",
    "output_dir: out": "checkpoints go to the runs' folders beside this file, or below output.base_directory",
    "deepspeed: x.json": "write gpus: N in a run's compute, with trainer: trl",
}


@pytest.mark.parametrize(
    ("place", "line", "section", "prefix"),
    [
        ("  epochs: 2\n  KEY\n", 6, "controls.", ""),
        ("KEY\n", 4, "", "controls."),
        ("    KEY\n", 17, "runs[0].", "parameters."),
    ],
)
@pytest.mark.parametrize(("key", "meant"), OF_TRAINERS.items())
def test_keys_of_other_trainers(
    folder: Path, key: str, meant: str, place: str, line: int, section: str, prefix: str
) -> None:
    before = {6: "  epochs: 2\n", 4: "controls:\n", 17: "    parameters: {lora_rank: 4}\n"}[line]
    given = place.replace("KEY", key)
    text = changed((before, given if line == 6 else given + before))
    name = key.partition(":")[0]
    instead = f"did you mean {prefix}{meant}?" if name in SYNONYMS else meant
    assert errors(folder, text) == [f"{FILE}:{line}: {section}{name}: unknown key; {instead}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (("  temperature: 0.0\n", "  temperature: 0.0\n  lr: 1e-4\n"), "25: evaluation.lr: did you mean controls.lr?"),
        (("  epochs: 2\n", "  epochs: 2\n  max_new_tokens: 9\n"), "6: controls.max_new_tokens: EVALUATION"),
        (("  epochs: 2\n", "  epochs: 2\n  wandb_project: x\n"), "6: controls.wandb_project: OUTPUT"),
        (("controls:\n", "partition: gpu\ncontrols:\n"), "4: partition: did you mean runs[].compute.partition?"),
    ],
)
def test_keys_in_another_section_than_theirs(folder: Path, text: tuple[str, str], line: str) -> None:
    line = line.replace("EVALUATION", "did you mean evaluation.max_tokens?")
    line = line.replace("OUTPUT", "did you mean output.wandb_project?")
    place, key, message = line.split(": ")
    assert errors(folder, changed(text)) == [f"{FILE}:{place}: {key}: unknown key; {message}"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("device: gpu", 'expected auto, cpu or cuda, found "gpu"; did you mean cuda?'),
        ("dtype: fp16", 'expected auto, bf16 or fp32, found "fp16"; models are trained in bf16 or fp32 (dtype)'),
        ("lora_attn_modules: all-linear", f'expected a list, found "all-linear"; {OF_TRAINERS["lora_target: all"]}'),
        ("dataset_type: chat", f'{KINDS}, found "chat"; did you mean chat_completion?'),
    ],
)
def test_values_of_other_trainers(folder: Path, key: str, message: str) -> None:
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  {key}\n"))
    assert errors(folder, text) == [f"{FILE}:6: controls.{key.partition(':')[0]}: {message}"]


def test_modules_of_other_trainers(folder: Path) -> None:
    text = changed(("  epochs: 2\n", "  epochs: 2\n  lora_attn_modules: [v_proj, o_proj]\n"))
    assert read(folder, text)[0].controls.lora_attn_modules == ("v_proj", "output_proj")
    (line,) = errors(folder, text.replace("o_proj", "up_proj"))
    assert line.endswith('found "up_proj"; write apply_lora_to_mlp: true for the matrices of the MLP')


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("dataset_path: words.json", "did you mean runs[].dataset_path?"),
        ("training_condition: A", "did you mean runs[].training_condition?"),
        ("slurm_overrides: {mem: 40G}", "did you mean runs[].slurm_overrides?"),
        ("eval_dataset_path: words.json", "name the data file in the task's dataset"),
    ],
)
def test_keys_of_a_run_among_its_parameters(folder: Path, key: str, instead: str) -> None:
    text = changed(("{lora_rank: 8}", f"{{lora_rank: 8, {key}}}"))
    assert errors(folder, text) == [f"{FILE}:20: runs[1].parameters.{key.partition(':')[0]}: unknown key; {instead}"]


def test_a_key_without_a_counterpart_in_a_scaffolded_folder(folder: Path) -> None:
    text = changed(("  epochs: 2\n", "  epochs: 2\n  base_recipe: x\n"))
    message = "unknown key, ignored; write the recipe's values yourself"
    assert read(folder, text, strict=False)[1] == [f"{FILE}:6: controls.base_recipe: {message}"]


@pytest.mark.parametrize("split", ["test", "unknown"])
def test_a_split_that_the_data_does_not_have_and_need_not(folder: Path, split: str) -> None:
    write(folder, "words.json", '{"train": [' + ", ".join(['{"input": "a", "output": "A"}'] * 4) + "]}")
    text = changed(("    path: words.json", f"    path: words.json\n    splits: {{train: 4, {split}: 0}}"))
    assert read(folder, text)[1] == []


def test_batches_of_an_evaluation(folder: Path) -> None:
    text = changed(("  temperature: 0.0\n", "  temperature: 0.0\n  batch_size: 8\n"))
    assert errors(folder, text) == [f"{FILE}:25: evaluation.batch_size: unknown key; did you mean max_connections?"]


def test_input_formatting_that_the_path_has_already(folder: Path) -> None:
    write(folder, "raw/words.json", (folder / "words.json").read_text())
    text = changed(("words.json", "raw/words.json"), ("  epochs: 2\n", "  epochs: 2\n  input_formatting: raw\n"))
    assert read(folder, text)[1] == []


def test_input_formatting_of_a_scaffolded_folder(folder: Path) -> None:
    text = changed(("  epochs: 2\n", "  epochs: 2\n  input_formatting: raw\n"))
    message = 'the data file "words.json" is not in a folder "raw"; write its whole path'
    assert read(folder, text, strict=False)[1] == [f"{FILE}:6: controls.input_formatting: {message}"]


def test_more_training_samples_than_there_are(folder: Path) -> None:
    text = changed(("{lora_rank: 8}", "{lora_rank: 8, training_samples: 5}"))
    assert read(folder, text)[1] == [
        f"{FILE}:20: runs[1].parameters.training_samples: is 5, but split train has 4 rows"
    ]


QUESTIONS = '{"train": [' + ", ".join(['{"question": "q", "input": "x", "answer": "a"}'] * 4) + "]}"
COLUMNS = "  epochs: 2\n  input_key: question\n  output_key: answer\n"


def test_columns_of_other_names(folder: Path) -> None:
    """A task is given them if it takes them, and else has to name them."""
    write(folder, "words.json", QUESTIONS)
    text = changed(("  epochs: 2\n", COLUMNS))
    summary, warnings = read(folder, text)
    assert warnings == [
        f'{FILE}:16: data.training.path: training reads question and answer only, and leaves out "input"; '
        "put into question what belongs to the prompt",
        f"{FILE}:29: evaluation.tasks[0].script: task cap takes no input_key and does not name the column "
        '"question", which training reads',
    ]
    assert {one.columns for one in resolve(summary, folder).evaluations} == {Columns("question", "answer")}
    write(folder, "cap.py", TASK.replace("k: int = 1", "k: int = 1, *, input_key: str"))
    assert len(read(folder, text)[1]) == 1


def test_column_that_is_not_there(folder: Path) -> None:
    text = changed(("{lora_rank: 8}", "{lora_rank: 8, output_key: answer}"))
    message = 'row 1 of split train: answer is missing; the row has "input", "output"'
    assert errors(folder, text) == [f"{FILE}:14: data.training.path: {message}"]


def test_columns_of_a_spreadsheet(folder: Path) -> None:
    write(folder, "words.csv", "question;answer\n" + "a;b\n" * 4)
    text = changed(("words.json", "words.csv"), ("  epochs: 2\n", COLUMNS))
    write(folder, "cap.py", TASK.replace("k: int = 1", "k: int = 1, *, input_key: str"))
    assert read(folder, text)[1] == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            ("  - name: r8\n", "  - name: r8\n    slurm_overrides: {dependency: 17}\n"),
            "19: runs[1].slurm_overrides.dependency: not allowed: Snakemake says when a job starts",
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    slurm_overrides: {job_name: mine}\n"),
            "19: runs[1].slurm_overrides.job_name: is set when the job is submitted; leave it out",
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    slurm_overrides: {partitoin: gpu}\n"),
            "19: runs[1].slurm_overrides.partitoin: unknown key; did you mean partition?",
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    slurm_overrides: {nodelist: a b}\n"),
            "19: runs[1].slurm_overrides.nodelist: expected one word as #SBATCH lines take it, without spaces, quotes "
            'and #, or true for a flag, found "a b"; write it in the #SBATCH lines of the job script',
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    compute: {gres: gpu:2}\n"),
            "19: runs[1].compute.gres: unknown key; write gpus: N",
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    compute: {mem_gb: 80}\n"),
            "19: runs[1].compute.mem_gb: unknown key; did you mean mem?",
        ),
        (
            ("  - name: r8\n", '  - name: r8\n    compute: {mem: "80"}\n'),
            '19: runs[1].compute.mem: expected an amount of memory like 80G, found "80"',
        ),
        (
            ("  - name: r8\n", "  - name: r8\n    compute: {constraint: a100 & nvlink}\n"),
            "19: runs[1].compute.constraint: expected one word as #SBATCH lines take it, without spaces, quotes and #, "
            'found "a100 & nvlink"',
        ),
    ],
)
def test_other_sections(folder: Path, changes: tuple[str, str], line: str) -> None:
    assert errors(folder, changed(changes)) == [f"{FILE}:{line}"]


def test_a_run_s_requests_of_the_cluster(folder: Path) -> None:
    """`slurm_overrides` is stronger than `compute`."""
    keys = (
        "    compute: {time: '1:00:00', mem: 20G, partition: cpu}\n"
        "    slurm_overrides: {partition: gpu, constraint: 'a100|h100', cpus_per_task: 8, mem: 40G}\n"
    )
    summary, warnings = read(folder, changed(("  - name: r8\n", f"  - name: r8\n{keys}")))
    assert warnings == []
    compute = resolve(summary, folder).run_by_name["r8"].compute
    assert compute is not None
    assert compute.model_dump(exclude_none=True) == {
        "time": "1:00:00",
        "mem": "40G",
        "partition": "gpu",
        "constraint": "a100|h100",
        "cpus_per_task": 8,
    }


def test_further_options_of_sbatch(folder: Path) -> None:
    keys = "    slurm_overrides: {gres: 'gpu:a100:2', mem_per_cpu: 4G, nodelist: n1, exclusive: true, ntasks: 2}\n"
    summary, warnings = read(folder, changed(("  - name: r8\n", f"  - name: r8\n{keys}")))
    assert warnings == []
    compute = resolve(summary, folder).run_by_name["r8"].compute
    assert compute is not None
    assert compute.options == {
        "gres": "gpu:a100:2",
        "mem-per-cpu": "4G",
        "nodelist": "n1",
        "exclusive": "",
        "ntasks": "2",
    }


def test_probabilities_are_asked_for_of_the_model(folder: Path) -> None:
    text = changed(("  temperature: 0.0\n", "  temperature: 0.0\n  logprobs: true\n  top_logprobs: 5\n"))
    summary, warnings = read(folder, text)
    generation = resolve(summary, folder).evaluations[0].generation
    assert (generation.logprobs, generation.top_logprobs, warnings) == (True, 5, [])


@pytest.mark.parametrize("given", ["task", "nothing", "config"])
def test_prompts_that_reach_a_task(folder: Path, given: str) -> None:
    """By its function, by no way at all, or by the config beside each of its scripts."""
    taken = ', prompt: str = "{input}"' if given == "task" else ""
    write(folder, "cap.py", f"from inspect_ai import task\n@task\ndef cap(data_path: str{taken}): ...\n")
    for cell in (
        "r4/eval/cap_epoch0",
        "r4/eval/cap_epoch1",
        "r8/eval/cap_epoch0",
        "r8/eval/cap_epoch1",
        "base/eval/cap",
    ):
        if given == "config":
            write(folder, f"{cell}/cell.slurm", "#!/bin/bash\ninspect eval cap.py\n")
            write(folder, f"{cell}/eval.yaml", 'prompt: "Capitalize: {input}"\n')
    warnings = read(folder, GOOD)[1]
    assert [line.partition("script: ")[2] for line in warnings] == {
        "nothing": ["task cap takes no prompt, so its evaluations run without it, unlike the training"]
    }.get(given, [])
    # A config without it gives none.
    if given == "config":
        write(folder, "r8/eval/cap_epoch1/eval.yaml", "system_prompt: x\n")
        assert len(read(folder, GOOD)[1]) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"dataset_type": "text_completion"}, [", unlike the training"]),
        # Of a task that takes the system prompt itself it is not known either.
        ({"dataset_type": "text_completion", "parameter": "system_prompt"}, [", unlike the training"]),
        ({"dataset_type": "text_completion", "system_prompt": '""'}, []),
        ({"dataset_type": "text_completion", "parameter": "any_other"}, []),
    ],
)
def test_a_system_prompt_where_there_is_no_template_for_it(
    folder: Path, changes: dict[str, str], expected: list[str]
) -> None:
    """Tasks of other tools give a model that is shown plain text no system message."""
    template = "any_other" if changes.get("parameter") == "any_other" else "use_chat_template"
    more = "" if changes.get("parameter") in (None, "any_other") else ', system_prompt=""'
    write(
        folder,
        "cap.py",
        f'@task\ndef cap(data_path: str, config_path: str = "", {template}: bool = True{more}): ...\n',
    )
    kind, prompt = changes.get("dataset_type", "chat_completion"), changes.get("system_prompt", "Be brief.")
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  dataset_type: {kind}\n  system_prompt: {prompt}\n"))
    message = "task cap is given use_chat_template: false, so it may leave out the system_prompt"
    assert [line.partition("script: ")[2] for line in read(folder, text)[1]] == [f"{message}{end}" for end in expected]
