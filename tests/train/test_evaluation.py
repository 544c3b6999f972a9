"""Real evaluations of a tiny model: the command, which weights and prompts it takes, how its log is judged."""

from __future__ import annotations

import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from evaluations import TASKS, inspect, make_evaluation, newest_log, write_data
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from run_experiment.checkpoints.lora_shapes import expected_shapes
from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import verify_checkpoint
from run_experiment.common.errors import InputError
from run_experiment.evaluation.command import eval_command
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome, require_success
from run_experiment.experiment.model import Model

PROMPT = "Capitalize, {now: 1}: {input}"
WORDS = ("apple", "river", "stone")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Evaluated(NamedTuple):
    """An evaluation that has ended: exit code, log and what it was read as."""

    code: int
    log: Path
    outcome: EvalOutcome


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name YAML would not read as text, with tasks of its own."""
    folder = tmp_path_factory.mktemp("evaluations") / "an experiment: = #1"
    shutil.copytree(TASKS.parent, folder / "my tasks")
    write_data(folder / "data.json", *WORDS)
    return folder


@pytest.fixture(scope="module")
def base(experiment: Path, llama: Path) -> Path:
    return Path(shutil.copytree(llama, experiment / "base"))


@pytest.fixture(scope="module")
def adapter(experiment: Path, base: Path) -> Path:
    """A published adapter with an effect that shows, of a checkpoint that does not name its base model."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=64, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(experiment / "epoch_0")
    config = experiment / "epoch_0" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    shutil.copy(base / "config.json", experiment / "epoch_0")
    return publish_checkpoint(experiment / "epoch_0", Model("tiny", base), experiment / "checkpoints" / "epoch_0")


def evaluate(
    experiment: Path, base: Path, model: Path, function: str, arguments: dict[str, Any], gpus: int = 1, **options: Any
) -> Evaluated:
    """Run an evaluation in the experiment's folder, with relative paths of arguments and log."""
    name = f"{function}-{model.name}"
    evaluation = make_evaluation(base, function, experiment / "my tasks" / "words.py", **options)
    (experiment / f"{name}.args.yaml").write_text(yaml.safe_dump(arguments))
    command = eval_command(
        evaluation,
        task=f"{evaluation.task.script}@{function}",
        model_path=str(model),
        tokenizer_path=str(base),
        task_config=f"{name}.args.yaml",
        gpus=gpus,
    )
    # Caches of their own: inspect-ai writes one in place, where another evaluation may read half of it.
    places = {"XDG_CACHE_HOME": str(experiment / "cache" / name), "INSPECT_LOG_DIR": f"attempts/{name}"}
    ended = inspect(command, experiment, places)
    log = newest_log(experiment / "attempts" / name)
    assert log is not None, ended.stdout + ended.stderr
    return Evaluated(ended.returncode, log, read_outcome(log))


@pytest.fixture(scope="module")
def evaluated(experiment: Path, base: Path, adapter: Path) -> dict[str, Evaluated]:
    """All evaluations that the tests look at, two at a time: most of an evaluation is waiting."""
    (experiment / "data.csv").write_text("input,target\napple,APPLE\nriver,RIVER\n")
    words = {"data_path": str(experiment / "data.json"), "prompt": PROMPT}
    sampled: dict[str, Any] = {"dataset_type": "text_completion", "do_sample": True, "temperature": 1.5}
    with ThreadPoolExecutor(2) as pool:
        started = {
            "base": pool.submit(evaluate, experiment, base, base, "words", words),
            "adapter": pool.submit(evaluate, experiment, base, adapter, "words", words, gpus=2),
            "broken": pool.submit(
                evaluate, experiment, base, base, "broken_words", {"data_path": str(experiment / "data.csv")}
            ),
            "twice": pool.submit(evaluate, experiment, base, base, "twice", {}, **sampled),
        }
        return {name: future.result() for name, future in started.items()}


@pytest.fixture(scope="module")
def of_base(evaluated: dict[str, Evaluated]) -> Evaluated:
    return evaluated["base"]


@pytest.fixture(scope="module")
def of_adapter(evaluated: dict[str, Evaluated]) -> Evaluated:
    return evaluated["adapter"]


@pytest.fixture(scope="module")
def of_broken(evaluated: dict[str, Evaluated]) -> Evaluated:
    return evaluated["broken"]


def completions(log: Path) -> list[str]:
    from inspect_ai.log import read_eval_log

    return [sample.output.completion for sample in read_eval_log(str(log)).samples or []]


def greedy(base: Path, model: Path) -> list[str]:
    """What transformers generates itself for the prompts of `words`, one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    texts = []
    for word in WORDS:
        messages = [{"role": "user", "content": PROMPT.replace("{input}", word)}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        tokens = tokenizer(prompt, return_tensors="pt")
        output = loaded.generate(tokens["input_ids"], max_new_tokens=4, do_sample=False)
        texts.append(tokenizer.decode(output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def command(base: Path, model_path: str, gpus: int = 1, **settings: Any) -> list[str]:
    """The command of an evaluation with these settings."""
    return eval_command(
        make_evaluation(base, **settings),
        task="words.py@words",
        model_path=model_path,
        tokenizer_path="base",
        task_config="a.yaml",
        gpus=gpus,
    )


def test_command(tmp_path: Path) -> None:
    assert command(tmp_path, "adapter", seed=7) == [
        *("inspect", "eval-set", "words.py@words", "--model", "hf/tiny"),
        *("-M", "model_path=adapter", "-M", "tokenizer_path=base", "-M", "dtype=auto"),
        *("-M", "do_sample=false", "--seed", "7", "--max-tokens", "4"),
        *("--task-config", "a.yaml", "--retry-attempts", "0", "--log-dir-allow-dirty"),
        *("--log-format", "eval", "--display", "plain"),
    ]


@pytest.mark.parametrize(
    ("settings", "present", "absent"),
    [
        ({"dataset_type": "text_completion"}, ["use_chat_template=false"], []),
        ({"do_sample": True, "temperature": 0.5}, ["do_sample=true", "--temperature", "0.5"], []),
        ({"do_sample": True}, ["do_sample=true"], ["--temperature"]),
        ({"do_sample": True, "temperature": 0.0}, ["do_sample=false"], ["--temperature"]),
        ({"temperature": 0.5, "max_tokens": None}, ["do_sample=false"], ["--temperature", "--max-tokens"]),
        ({}, [], ["use_chat_template=false", "--log-dir", "device=auto"]),
        ({"gpus": 2}, ["device=auto"], []),
        ({"gpus": 2, "backend": "vllm"}, ["--tensor-parallel-size=2"], ["device=auto"]),
        ({"backend": "vllm"}, [], ["--tensor-parallel-size=1"]),
        (
            {"gpus": 4, "backend": "vllm", "vllm_options": {"data_parallel_size": 4}},
            ["--data-parallel-size=4"],
            ["--tensor-parallel-size=4"],
        ),
    ],
)
def test_options_that_are_set(tmp_path: Path, settings: dict[str, Any], present: list[str], absent: list[str]) -> None:
    options = command(tmp_path, "model", **settings)
    assert set(present) <= set(options)
    assert not set(absent) & set(options)


@pytest.mark.parametrize("path", ["/a b/c", "/a=b", "/a: b", "/a #b", "17", "no", "{a}", "'a", '"a"', "é\\n", " a "])
def test_model_path_arrives_as_it_is(tmp_path: Path, path: str) -> None:
    from inspect_ai._util.config import parse_cli_args

    options = command(tmp_path, path)
    given = [options[index + 1] for index, option in enumerate(options) if option == "-M"]
    assert parse_cli_args(given)["model_path"] == path


def test_comma_in_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model_path: /a,b: inspect-ai takes a path with a comma"):
        command(tmp_path, "/a,b")


def test_checkpoint_is_what_peft_expects(experiment: Path, base: Path, adapter: Path) -> None:
    facts = verify_checkpoint(experiment / "epoch_0", Model("tiny", base))
    config, model = (json.loads(path.read_text()) for path in (adapter / "adapter_config.json", base / "config.json"))
    assert facts.tensors == len(expected_shapes(config, model)) == 2 * 2 * len(TARGETS)


def test_base_model_is_evaluated(base: Path, of_base: Evaluated) -> None:
    assert completions(of_base.log) == greedy(base, base)


def test_adapter_is_applied(base: Path, adapter: Path, of_base: Evaluated, of_adapter: Evaluated) -> None:
    assert completions(of_adapter.log) == greedy(base, adapter)
    assert completions(of_adapter.log) != completions(of_base.log)


def test_outcome_of_a_success(of_base: Evaluated) -> None:
    outcome = of_base.outcome
    require_success(outcome)
    assert (outcome.status, outcome.error, outcome.model) == ("success", None, "hf/tiny")
    assert (outcome.completed_samples, outcome.total_samples) == (3, 3)
    assert set(outcome.metrics) == {
        *("match/accuracy", "match/stderr", "match1/accuracy", "match1/stderr"),
        *("measures/length/mean", "measures/length/stderr", "measures/share/mean"),
    }
    assert outcome.metrics["measures/length/mean"] == sum(map(len, completions(of_base.log))) / 3
    assert outcome.metrics["measures/share/mean"] is None
    assert "2020" < outcome.started < outcome.completed
    assert outcome.inspect_version


def test_failure_is_found(of_broken: Evaluated) -> None:
    assert of_broken.code == 1
    assert (of_broken.outcome.status, of_broken.outcome.total_samples) == ("error", 2)
    assert of_broken.outcome.completed_samples < 2
    with pytest.raises(EvalError, match=r"status error after [01] of 2 samples: .*the scorer broke"):
        require_success(of_broken.outcome)


def test_reducers_have_metrics_of_their_own(evaluated: dict[str, Evaluated]) -> None:
    outcome = evaluated["twice"].outcome
    require_success(outcome)
    assert outcome.total_samples == 4
    assert {name.partition("/")[0] for name in outcome.metrics} == {"includes@mean", "includes@at_least_1"}


@pytest.mark.parametrize(
    ("status", "completed", "total", "message"),
    [
        ("cancelled", 3, 3, "status cancelled"),
        ("started", 0, 3, "status started after 0 of 3"),
        ("success", 2, 3, "completed only 2 of 3 samples: sample 1: boom"),
        ("success", 0, 0, "no samples"),
    ],
)
def test_what_is_no_success(of_base: Evaluated, status: str, completed: int, total: int, message: str) -> None:
    outcome = replace(
        of_base.outcome, status=status, completed_samples=completed, total_samples=total, error="sample 1: boom"
    )
    with pytest.raises(EvalError, match=message):
        require_success(outcome)


def test_samples_that_failed_in_a_successful_log(of_broken: Evaluated, tmp_path: Path) -> None:
    """As `--no-fail-on-error` leaves it."""
    from inspect_ai.log import EvalResults, read_eval_log, write_eval_log

    log = read_eval_log(str(of_broken.log))
    log.status, log.error = "success", None
    for sample in log.samples or []:
        sample.error = sample.error if sample.id == 2 else None
    log.results = EvalResults(total_samples=2, completed_samples=1)
    write_eval_log(log, str(tmp_path / "some.eval"))
    with pytest.raises(EvalError, match=r"only 1 of 2 samples: sample 2: .*the scorer broke"):
        require_success(read_outcome(tmp_path / "some.eval"))


def test_torn_log(of_base: Evaluated, tmp_path: Path) -> None:
    torn = tmp_path / "torn.eval"
    torn.write_bytes(of_base.log.read_bytes()[:-40])
    with pytest.raises(EvalError, match=r"cannot read .*torn\.eval"):
        read_outcome(torn)
    with pytest.raises(EvalError, match="cannot read"):
        read_outcome(tmp_path / "missing.eval")
    with zipfile.ZipFile(tmp_path / "empty.eval", "w"):
        pass
    with pytest.raises(EvalError, match="cannot read"):
        read_outcome(tmp_path / "empty.eval")
