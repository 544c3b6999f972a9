"""What is known of a training with TRL without running it: its config, its refusals, what it can resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from experiments import ExperimentFolder
from good_summary import FILE, FILES, MODEL, changed, errors, read, write
from model_weights import write_weights
from safetensors.numpy import save_file
from small_experiment import MODEL_CONFIG, make_model, make_small_experiment, plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import describe_change
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Model, Prompting, Training
from run_experiment.finetuning.architecture import ModelError
from run_experiment.report.data import parameters
from run_experiment.trainers import docs
from run_experiment.trainers.trainer import Sizes
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_state import finish_state, state_folder

TRAINER = Trl()
ROOT = Path(__file__).parents[3]


def rendered(folder: Path, **given: Any) -> dict[str, Any]:
    model = make_model(folder / "model")
    hyperparameters = Hyperparameters.model_validate(given)
    training = Training(Model("m", model), (folder / "d.json",), Prompting("${{a}}: {input}", "", "x"), hyperparameters)
    config: dict[str, Any] = yaml.safe_load(TRAINER.render(training, "r4/artifacts", folder))
    return config


def test_config(tmp_path: Path) -> None:
    config = rendered(tmp_path, lora_attn_modules=["o_proj"], apply_lora_to_mlp=False, max_seq_len=100_000)
    assert (config["model"], config["tokenizer"], config["output_dir"]) == ("model", "model", "r4/artifacts")
    assert config["peft"] == {"r": 8, "lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": ["o_proj"]}
    assert rendered(tmp_path / "all", lora_target_modules="all-linear")["peft"]["target_modules"] == "all-linear"
    variants = rendered(tmp_path / "variants", use_dora=True, use_rslora=True)["peft"]
    assert (variants["use_dora"], variants["use_rslora"]) == (True, True)
    assert config["dataset"]["prompt"] == "${{a}}: {input}"
    assert config["dataset"]["max_seq_len"] == MODEL_CONFIG["max_position_embeddings"]
    assert config["sft"]["max_grad_norm"] == 0, "transformers would clip to 1"
    assert TRAINER.sizes(config) == Sizes(4, 1)
    assert TRAINER.seed(config) == 14
    assert TRAINER.sizes({"sft": {}}) is None
    assert TRAINER.with_sizes(Sizes(2, 2))["sft"] == {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
    }


@pytest.mark.parametrize(
    ("sizes", "devices", "shared"),
    [
        (Sizes(4, 2), 2, Sizes(4, 1)),
        (Sizes(4, 1), 4, Sizes(1, 1)),
        (Sizes(1, 8), 4, Sizes(1, 2)),
        (Sizes(3, 4), 2, Sizes(3, 2)),
        (Sizes(4, 3), 2, Sizes(3, 2)),
        (Sizes(2, 1), 4, None),
    ],
)
def test_devices_share_the_samples_of_a_step(sizes: Sizes, devices: int, shared: Sizes | None) -> None:
    assert sizes.shared(devices) == shared


@pytest.mark.parametrize("other", ["full_finetuning", "load_in_4bit"])
def test_weights_that_are_trained_or_quantized_are_not_divided(tmp_path: Path, other: str) -> None:
    given = Hyperparameters.model_validate({"fsdp": True, other: True, "lora_target_modules": ["all-linear"]})
    found = TRAINER.option_problems(given, tmp_path)
    assert found["fsdp"] == f"divides frozen weights that are not quantized: leave it out, or {other}"


def test_layers_that_are_one(tmp_path: Path) -> None:
    layers = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    (tmp_path / "config.json").write_text('{"model_type": "phi3"}')
    save_file({f"model.layers.0.{name}.weight": np.zeros((2, 2)) for name in layers}, tmp_path / "model.safetensors")
    alone = Hyperparameters()
    assert "lacks k_proj" in TRAINER.option_problems(alone, tmp_path)["lora_attn_modules"]
    together = alone.model_copy(update={"lora_attn_modules": ("q_proj", "k_proj", "v_proj")})
    assert TRAINER.option_problems(together, tmp_path) == {}
    by_name = alone.model_copy(update={"lora_target_modules": ("qkv_proj", "k_proj")})
    there = "down_proj, gate_up_proj, o_proj, qkv_proj"
    message = f"{tmp_path} has no layers named k_proj; there are {there}"
    assert TRAINER.option_problems(by_name, tmp_path) == {"lora_target_modules": message}
    for named in (("qkv_proj",), ("all-linear",)):
        assert TRAINER.option_problems(alone.model_copy(update={"lora_target_modules": named}), tmp_path) == {}


def make_files(folder: Path) -> Path:
    """All files that the good summary names."""
    for name, text in FILES.items():
        write(folder, name, text)
    write_weights(folder / "models/tiny", MODEL)
    save_file({"a": np.ones(2)}, folder / "elsewhere/epoch_0/adapter_model.safetensors")
    return folder


def test_the_summary_is_checked_by_the_trainer_of_each_run(tmp_path: Path) -> None:
    make_files(tmp_path)
    compiled = ("epochs: 2", "epochs: 2\n  compile: true")
    assert errors_of(tmp_path, compiled, ("- name: r4", "- name: r4\n    trainer: trl")) == [
        f"{FILE}:6: controls.compile: cannot be used with trl: torch.compile is not tested with it"
    ]
    dora = ("lora_rank: 4", "lora_rank: 4, use_dora: true")
    assert errors_of(tmp_path, dora) == [
        f"{FILE}:17: runs[0].parameters.use_dora: cannot be used with torchtune: it trains plain LoRA here (write "
        "trainer `trl`)"
    ]
    assert read(tmp_path, changed(dora, ("- name: r4", "- name: r4\n    trainer: trl")))[1] == []
    for config, message in (
        (
            '{"model_type": "gemma3", "text_config": {}}',
            "is made of several models (text_config in config.json); only text",
        ),
        ('{"vocab_size": 2}', "config.json has no model_type"),
    ):
        (tmp_path / "models/tiny/config.json").write_text(config)
        (line,) = errors_of(tmp_path, ("controls:", "tools: {preparation: trl}\ncontrols:"))
        assert message in line


BOTH = "is of adapters, and full_finetuning: true trains the whole model; leave one of them out"


def test_full_finetuning_has_no_keys_of_adapters(tmp_path: Path) -> None:
    """Those of other runs may stand in `controls`."""
    folder = make_files(tmp_path)
    trl = ("controls:", "tools: {preparation: trl}\ncontrols:")
    one = ("{lora_rank: 4}", "{full_finetuning: true, use_dora: false}")
    assert read(folder, changed(trl, one, ("epochs: 2", "epochs: 2\n  lora_alpha: 8")))[1] == []
    beside = ("{lora_rank: 4}", "{lora_rank: 4, full_finetuning: true}")
    assert errors_of(folder, trl, beside) == [f"{FILE}:18: runs[0].parameters.lora_rank: {BOTH}"]
    recipe = ("{lora_rank: 4}", "{custom_recipe: lora_finetune_single_device, full_finetuning: true}")
    assert errors_of(folder, trl, recipe) == [f"{FILE}:18: runs[0].parameters.custom_recipe: {BOTH}"]
    both = ("{lora_rank: 8}", "{full_finetuning: true}")
    in_controls = ("epochs: 2", "epochs: 2\n  lora_alpha: 8")
    assert errors_of(folder, trl, one, both, in_controls) == [f"{FILE}:7: controls.lora_alpha: {BOTH}"]
    in_4_bits = ("{lora_rank: 4}", "{load_in_4bit: true}")
    on_a_cpu = ("{lora_rank: 4}", "{load_in_4bit: true, device: cpu}")
    assert read(folder, changed(trl, in_4_bits))[1] == []
    key = f"{FILE}:18: runs[0].parameters.load_in_4bit"
    assert errors_of(folder, trl, on_a_cpu) == [f"{key}: needs a GPU with CUDA, and device is cpu"]
    refused = "cannot be used with torchtune: it trains LoRA adapters here (write trainer `trl`)"
    assert errors_of(folder, one) == [f"{FILE}:17: runs[0].parameters.full_finetuning: {refused}"]


def test_adapters_of_others_do_not_train_a_whole_model_anew() -> None:
    whole = Hyperparameters(full_finetuning=True)
    assert whole.recorded() == whole.model_copy(update={"lora_rank": 16, "lora_dropout": 0.5}).recorded()
    assert Hyperparameters().recorded().keys() - whole.recorded().keys() >= {"lora_rank", "lora_alpha"}


def errors_of(folder: Path, *changes: tuple[str, str]) -> list[str]:
    return errors(folder, changed(*changes))


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def test_another_trainer_trains_anew_and_says_why(experiment: ExperimentFolder) -> None:
    record = paths.finetune_record("r4")
    before = plan_of(experiment)[record].config
    assert "trainer" not in before, "records are older than the choice"
    values = experiment.read()
    values["runs"][0]["trainer"] = "trl"
    values["variables"]["trainer"] = ["torchtune", "trl"]
    experiment.write(values)
    plan = plan_of(experiment)
    after = plan[record].config
    assert describe_change(before, after) == "trainer: torchtune → trl"
    assert describe_change(after, before) == "trainer: trl → torchtune"
    assert "trainer" in parameters(plan.experiment)["differing"]
    plan.write_scripts()
    assert "run_experiment.trainers.trl_recipe --config" in (experiment.path / "r4/finetune.slurm").read_text()
    assert "run_experiment.finetuning.recipe --config" in (experiment.path / "r8/finetune.slurm").read_text()
    assert "\ntrainer: trl\n" in (experiment.path / "r4/finetune.yaml").read_text()


def test_one_trainer_is_no_parameter(experiment: ExperimentFolder) -> None:
    experiment.write({**experiment.read(), "tools": {"preparation": "trl"}})
    assert "trainer" not in parameters(plan_of(experiment).experiment)["differing"]


def saved(output: Path, step: int, epochs: int) -> Path:
    folder = state_folder(output, step)
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"12345")
    finish_state(folder, {"step": step, "epochs": epochs, "config": {}})
    return folder


def test_newest_whole_state(tmp_path: Path) -> None:
    assert TRAINER.resumption(tmp_path) is None
    assert TRAINER.what_is_missing(tmp_path) is None
    older, newer = saved(tmp_path, 3, 0), saved(tmp_path, 12, 0)
    assert not older.exists()
    state = TRAINER.resumption(tmp_path)
    assert state is not None
    assert (state.state, state.epochs, state.changes) == ("step 12", 0, {"resume_from": "checkpoint-12"})
    assert [path.parent for path in TRAINER.states(tmp_path)] == [newer]
    (newer / "optimizer.pt").write_bytes(b"1234")
    assert TRAINER.resumption(tmp_path) is None
    assert TRAINER.what_is_missing(tmp_path) == "resume_state/checkpoint-12 is not whole"


def test_a_state_needs_the_epochs_before_it(tmp_path: Path) -> None:
    saved(tmp_path, 12, 1)
    assert TRAINER.resumption(tmp_path) is None
    assert TRAINER.what_is_missing(tmp_path) == "an epoch before the saved state is missing"
    (tmp_path / "epoch_0").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "epoch_0" / name).touch()
    state = TRAINER.resumption(tmp_path)
    assert state is not None
    assert state.epochs == 1
    (tmp_path / ".epoch_1.partial").mkdir()
    TRAINER.drop_state(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0"]
    assert TRAINER.what_is_missing(tmp_path) == "resume_state is missing"


def test_a_model_without_a_length_needs_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    training = Training(Model("m", tmp_path), (tmp_path,), Prompting("", "", ""), Hyperparameters())
    with pytest.raises(ModelError, match="lacks max_position_embeddings: give max_seq_len"):
        TRAINER.max_seq_len(training)


def test_the_table_of_keys_is_that_of_the_code() -> None:
    text = (ROOT / docs.PAGE).read_text(encoding="utf-8")
    assert docs.page(text) == text, "run make docs"
    missing = [key for key in Hyperparameters.model_fields if f"| `{key}` |" not in text]
    assert missing == []
