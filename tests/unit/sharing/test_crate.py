"""`run-experiment export`: the crate says what was made of what, by what and when, and holds no secret."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from sample_logs import samples_of, write_log
from small_experiment import train

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.report.collect import collect
from run_experiment.results.analysis.samples import summaries
from run_experiment.sharing.masked_log import masked_log

DONE, FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"


def exported(experiment: ExperimentFolder, *options: str) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """The entities of a crate by id, and its files by name."""
    path = experiment.path.parent / "crate.zip"
    assert main(["export", str(experiment.path), str(path), *options]) == 0
    with zipfile.ZipFile(path) as crate:
        files = {name: crate.read(name) for name in crate.namelist()}
    metadata = json.loads(files["ro-crate-metadata.json"])
    return {one["@id"]: one for one in metadata["@graph"]}, files


def ids(value: Any) -> list[str]:
    return [one["@id"] for one in (value if isinstance(value, list) else [value])]


def references(value: Any) -> list[str]:
    """Ids that a property's value refers to."""
    return [one["@id"] for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def test_it_is_a_workflow_run_crate(done: ExperimentFolder) -> None:
    collect(done.path)
    entities, files = exported(done)
    root = entities["./"]
    assert ids(root["conformsTo"]) == [
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    ]
    workflow = entities[root["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(workflow["@type"])
    run = entities["#workflow-run"]
    assert (run["instrument"]["@id"], run["actionStatus"]) == (workflow["@id"], DONE)
    assert {"experiment_summary.yaml", "words.json", "shout.py"} <= set(ids(run["object"]))
    assert {"results/summary.md", "results/evals.csv", "results/report.html"} <= set(ids(run["result"]))
    assert {one["@id"] for one in root["mentions"]} == {name for name in entities if "instrument" in entities[name]}
    # What RO-Crate 1.1 and the profiles ask for: facts of the root, formal parameters, and no id without an entity.
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert all(root[key] for key in ("name", "description", "datePublished", "license"))
    for parameter, example in (("input", "experiment_summary.yaml"), ("output", "results/summary.md")):
        (formal,) = ids(workflow[parameter])
        assert entities[formal]["@type"] == "FormalParameter"
        assert entities[formal]["additionalType"] == "File"
        assert ids(entities[formal]["workExample"]) == [example]
        assert ids(entities[example]["exampleOfWork"]) == [formal]
    named = {name for one in entities.values() for value in one.values() for name in references(value)}
    assert {name for name in named if "://" not in name} <= set(entities)
    # Every file that is named is there, as it was hashed.
    parts = [entities[name] for name in ids(root["hasPart"])]
    assert all(one["@id"] in files for one in parts)
    hashed = [one for one in parts if "sha256" in one]
    assert len(hashed) > 15
    assert all(one["sha256"] == hashlib.sha256(files[one["@id"]]).hexdigest() for one in hashed)


def test_a_training_and_an_evaluation_are_actions(done: ExperimentFolder) -> None:
    facts = {"started": "2025-01-31T09:00:00+01:00", "provenance": {"versions": {"torchtune": "0.6.1"}, "host": "n1"}}
    train(done, "r4", 0, **facts)
    entities, _ = exported(done)
    training = entities["#r4"]
    assert training["instrument"]["@id"] == "https://pypi.org/project/torchtune/0.6.1/"
    assert (training["startTime"], training["endTime"]) == (facts["started"], "2025-01-31T10:00:00+01:00")
    assert (training["actionStatus"], training["description"]) == (DONE, "Job local-0 on n1")
    assert {"words.json", "#model-tiny", "#value-r4-lora_rank"} <= set(ids(training["object"]))
    assert ids(training["result"])[:2] == ["#r4/checkpoint-0", "#r4/checkpoint-1"]
    evaluation = entities["#r4/shout/epoch1"]
    assert "#r4/checkpoint-1" in ids(evaluation["object"])
    assert paths.eval_log("r4", "shout_epoch1") in ids(evaluation["result"])
    (metric,) = [entities[name] for name in ids(evaluation["result"]) if name.startswith("#value")]
    assert (metric["name"], metric["value"]) == ("match/accuracy", "0.5")


def test_all_data_files_of_a_training_are_in_it(done: ExperimentFolder) -> None:
    (done.path / "more.json").write_text('[{"input": "fig", "output": "FIG"}]')
    values = done.read()
    values["data"]["training"] = {"path": ["words.json", "more.json"]}
    done.write(values)
    train(done, "r4", 0)
    entities, files = exported(done)
    assert ids(entities["#r4"]["object"])[:2] == ["words.json", "more.json"]
    assert "more.json" in files


def test_files_of_one_name_elsewhere_are_all_in_it(done: ExperimentFolder) -> None:
    rows = [[{"input": word, "output": word.upper()}] for word in ("fig", "pea", "oak")]
    named = [done.path.parent / name / "data/train.json" for name in ("fruit", "plants", "trees")]
    for path, content in zip(named, rows, strict=True):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    values = done.read()
    values["data"]["training"] = {"path": [str(path) for path in named]}
    done.write(values)
    train(done, "r4", 0)
    entities, files = exported(done)
    places = ids(entities["#r4"]["object"])[:3]
    assert [json.loads(files[place]) for place in places] == rows
    assert places == ["elsewhere/data_train.json", "elsewhere/2/data_train.json", "elsewhere/3/data_train.json"]


def test_checkpoints_are_named_by_hash_and_copied_only_if_asked_for(done: ExperimentFolder) -> None:
    entities, files = exported(done)
    weights = done.path / "r4/artifacts/epoch_1/adapter_model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"sha256:{digest} adapter_model.safetensors" in entities["#r4/checkpoint-1"]["identifier"]
    assert not [name for name in files if name.endswith(".safetensors")]
    entities, files = exported(done, "--checkpoints")
    assert files["r4/checkpoint-1/adapter_model.safetensors"] == weights.read_bytes()
    assert "r4/checkpoint-1/" in ids(entities["#r4"]["result"])


def test_what_failed_is_an_action_with_its_error(done: ExperimentFolder) -> None:
    (done.path / "r8/eval/shout_epoch1.json").unlink()
    attempt = {"target": "shout_epoch1", "error": "out of memory", "job_id": "17", "ended": "2026-01-31T12:00:00+01:00"}
    write_record(done.path / "r8/attempts/17/attempt.json", attempt)
    entities, _ = exported(done)
    failed = entities["#r8/shout/epoch1-failed"]
    assert (failed["actionStatus"], failed["error"]) == (FAILED, "out of memory")
    assert entities["#workflow-run"]["actionStatus"] == FAILED
    assert "r8/shout/epoch1: failed as job 17: out of memory" in entities["#workflow-run"]["error"]


def test_secrets_of_the_environment_are_in_no_file(done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    script = done.path / "shout.py"
    script.write_text(f'{script.read_text()}\n# login("hf_verysecret")\n')
    (done.path / "run-inspect.log").write_text("hf_verysecret\n")
    # Of an older version, which kept it in its records.
    (done.path / "r8/finetune.json").unlink()
    facts = {"target": "finetune", "job_id": "17", "error": "hf_verysecret is refused"}
    write_record(done.path / "r8/attempts/17/attempt.json", facts)
    entities, files = exported(done)
    assert b'# login("***")' in files["shout.py"]
    assert entities["#r8-failed"]["error"] == "*** is refused"
    assert not [name for name, content in files.items() if b"hf_verysecret" in content]


def test_secrets_of_the_environment_are_in_no_log(done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    log = done.path / paths.eval_log("r4", "shout_epoch1")
    write_log(log, [{**one, "input": 'Say "hf_verysecret"'} for one in samples_of("CI")])
    (done.path / paths.eval_log("r4", "shout_epoch0")).write_bytes(b"torn, with hf_verysecret")
    whole = done.path / paths.eval_log("r8", "shout_epoch1")
    write_log(whole, samples_of("CI"))
    entities, files = exported(done)
    shared = done.path.parent / "shared.eval"
    shared.write_bytes(files[paths.eval_log("r4", "shout_epoch1")])
    with zipfile.ZipFile(shared) as archive, zipfile.ZipFile(log) as own:
        assert archive.namelist() == own.namelist()
        assert not [name for name in archive.namelist() if b"hf_verysecret" in archive.read(name)]
    assert [one["input"] for one in summaries(shared)] == ['Say "***"'] * 2
    assert files[paths.eval_log("r8", "shout_epoch1")] == whole.read_bytes()
    # Nobody can say what is in a torn one.
    assert paths.eval_log("r4", "shout_epoch0") not in files
    assert "its log is left out" in entities["#r4/shout/epoch0"]["description"]


def test_a_secret_that_json_writes_with_escapes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", 'pass"wörd')
    write_log(tmp_path / "one.eval", [{**one, "input": 'It is pass"wörd.'} for one in samples_of("C")])
    masked = masked_log(tmp_path / "one.eval")
    assert masked is not None
    (tmp_path / "masked.eval").write_bytes(masked)
    assert summaries(tmp_path / "masked.eval")[0]["input"] == "It is ***."


def test_an_experiment_that_has_not_begun_can_be_exported(done: ExperimentFolder) -> None:
    for record in done.path.glob("*/finetune.json"):
        record.unlink()
    for record in done.path.glob("*/eval/*.json"):
        record.unlink()
    entities, _ = exported(done)
    assert "startTime" not in entities["#workflow-run"]
    assert entities["#workflow-run"]["actionStatus"] == FAILED


def test_without_the_library_the_command_says_what_to_install(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    assert main(["export", str(done.path), str(tmp_path / "crate.zip")]) == 2
    assert "pip install rocrate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_named(
    done: ExperimentFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert main(["export", str(done.path), str(tmp_path / "file/crate.zip")]) == 2
    assert f"{tmp_path}/file/crate.zip could not be written: " in capsys.readouterr().err
