"""An experiment folder with a training and an evaluation whose scripts take no time."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny_jobs import EVAL_LOG, TRAIN, manifest_of, write_script

from run_experiment.inputs.data_files import split_hash
from run_experiment.inputs.file_hashes import file_hash
from run_experiment.jobs.specs import EvaluationJob, FinetuneJob
from run_experiment.jobscripts.edits import Rendered


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    (tmp_path / "words.json").write_text(json.dumps({"train": [{"input": "a"}], "test": [{"input": "b"}]}))
    return tmp_path


@pytest.fixture
def training(folder: Path) -> FinetuneJob:
    """A fine-tune whose script works."""
    write_script("r4/finetune.slurm", TRAIN)
    Path("r4/finetune.yaml").write_text(Rendered("", "lr: 0.1\n").text)
    config = {"data": {"train": {"sha256": split_hash([folder / "words.json"], "train")}}, "lr": 0.1}
    checkpoints = ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"]
    files = {"r4/finetune.slurm": "", "r4/finetune.yaml": ""}
    return FinetuneJob(
        run="r4",
        config=config,
        files=files,
        target="r4/finetune.json",
        name="tiny.r4",
        script="r4/finetune.slurm",
        data=str(folder / "words.json"),
        checkpoints=checkpoints,
        output_dir="r4/artifacts",
    )


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs as inspect-ai leaves them, and a file that is none."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
        write_eval_log,
    )

    folder = tmp_path_factory.mktemp("logs")
    spec = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        dataset=EvalDataset(samples=2),
        model="none/none",
        config=EvalConfig(),
        packages={"inspect_ai": version("inspect-ai")},
    )
    other = spec.model_copy(update={"packages": {"inspect_ai": "0.0.1"}})
    limited = spec.model_copy(update={"config": EvalConfig(limit=1)})
    score = EvalScore(name="match", scorer="match", metrics={"accuracy": EvalMetric(name="accuracy", value=0.5)})
    results = EvalResults(total_samples=2, completed_samples=2, scores=[score])
    short = results.model_copy(update={"completed_samples": 1})
    for name, log in {
        "success": EvalLog(status="success", eval=spec, results=results, samples=[]),
        "other": EvalLog(status="success", eval=other, results=results, samples=[]),
        "short": EvalLog(status="success", eval=spec, results=short, samples=[]),
        "error": EvalLog(status="error", eval=spec, samples=[]),
        "limited": EvalLog(status="success", eval=limited, results=results, samples=[]),
    }.items():
        write_eval_log(log, str(folder / f"{name}.eval"))
    (folder / "torn.eval").write_bytes((folder / "success.eval").read_bytes()[:200])
    return folder


@pytest.fixture
def evaluation(folder: Path) -> EvaluationJob:
    """An evaluation of a verified checkpoint, with a result of an earlier one in its place."""
    Path("r4/checkpoints").mkdir(parents=True)
    Path("r4/checkpoints/epoch_0.json").write_text(json.dumps(manifest_of("abc")))
    EVAL_LOG.parent.mkdir(parents=True)
    EVAL_LOG.write_text("earlier")
    data = {"split": "test", "sha256": split_hash([folder / "words.json"], "test")}
    Path("cap.py").write_text("a task")
    Path("r4/eval/cap_epoch0.args.yaml").write_text(Rendered("", "{}\n").text)
    return EvaluationJob(
        run="r4",
        config={
            "data": data,
            "task": {"script": {"sha256": file_hash(Path("cap.py"))}},
            "checkpoint": {"adapter": {"sha256": "abc"}},
        },
        files={"r4/eval/cap_epoch0.slurm": "", "r4/eval/cap_epoch0.args.yaml": ""},
        target="r4/eval/cap_epoch0.json",
        name="tiny.r4.cap.e0",
        script="r4/eval/cap_epoch0.slurm",
        cell="cap_epoch0",
        task=str(folder / "cap.py"),
        data=str(folder / "words.json"),
        manifest="r4/checkpoints/epoch_0.json",
        cache="cache/cap-1",
    )
