"""Keys of other tools: taken as they are meant, or refused with what to do instead; never ignored in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_summary import FILE, GOOD, changed, errors, read, write

from run_experiment.experiment.resolve import resolve


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("get_cosine_schedule_with_warmup", "cosine"),
        ("torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup", "cosine"),
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
        "  save_adapter_weights_only: true\n  input_key: input\n  output_key: output\n"
    )
    summary, warnings = read(folder, changed(("  epochs: 2\n", f"  epochs: 2\n{keys}")))
    assert warnings == []
    assert resolve(summary, folder).runs == resolve(read(folder, GOOD)[0], folder).runs


def test_a_variable_that_changes_nothing(folder: Path) -> None:
    text = changed(("controls:", "variables: {num_workers: [0, 4]}\ncontrols:"))
    assert read(folder, text)[1] == [f"{FILE}:4: variables.num_workers: varies, but changes nothing here"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("packed: true", "expected false, found true; samples are not packed here"),
        ("save_adapter_weights_only: false", "expected true, found false; checkpoints are always adapters here"),
        ("input_key: question", 'expected input, found "question"; rename the column in the data file'),
        ("training_samples: 100", "unknown key; give the run a data file with these rows (data)"),
        ("input_formatting: raw", "unknown key; prompt is the template of the input"),
        ("custom_recipe: x.py", "unknown key; write the command in the run's finetune.slurm"),
        ("run_val_every_n_steps: 50", "unknown key; did you mean validation_during_training?"),
    ],
)
def test_refused(folder: Path, key: str, message: str) -> None:
    text = changed(("  epochs: 2\n", f"  epochs: 2\n  {key}\n"))
    assert errors(folder, text) == [f"{FILE}:6: controls.{key.partition(':')[0]}: {message}"]


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
