"""Why something is not done: `-n`, status, the results page and the action logs give the same reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of, train, verify_all

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.attempts.files import note_not_submitted
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.json_files import config_hash, failed_at, write_record
from run_experiment.planning.target import Kind
from run_experiment.results.collect import collect
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import LOCAL, session_plan
from snakemake_logger_plugin_action_log.plan_table import plan_table

TRAIN_R4 = "r4/finetune.json"
R4_EVALS = ("r4/shout/epoch0", "r4/shout/epoch1")
NOT_YET = "its run is not trained yet"
FAILED = "failed as job 17: RuntimeError: loss is NaN"


@pytest.fixture(autouse=True)
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without SLURM's clients."""
    monkeypatch.setenv("PATH", str(tmp_path))


def nothing(experiment: ExperimentFolder) -> None:
    """Leave a new experiment as it is."""


def fail(experiment: ExperimentFolder) -> None:
    """Leave a failed training of today's configuration."""
    config = config_hash(plan_of(experiment)[TRAIN_R4].config)
    known = {"target": "finetune", "job_id": "17", "config_hash": config, "ended": "2026-01-31T10:00:00+01:00"}
    error = "RuntimeError: loss is NaN\n    more of it"
    write_record(experiment.path / "r4/attempts/17/attempt.json", {**known, "error": error})


def fail_and_edit(experiment: ExperimentFolder) -> None:
    fail(experiment)
    edit(experiment)


def done_and_edited(experiment: ExperimentFolder) -> None:
    complete(experiment)
    edit(experiment)


def done_and_edited_and_failed(experiment: ExperimentFolder) -> None:
    done_and_edited(experiment)
    fail(experiment)


def refuse(experiment: ExperimentFolder) -> None:
    """Leave what is noted of a training that sbatch did not accept."""
    config = config_hash(plan_of(experiment)[TRAIN_R4].config)
    note_not_submitted(experiment.path, TRAIN_R4, config, "sbatch: error: no such account\n    sbatch --mem=1G")


def refuse_and_edit(experiment: ExperimentFolder) -> None:
    refuse(experiment)
    edit(experiment)


def fail_check(experiment: ExperimentFolder) -> None:
    """Leave the log of a model's failed check."""
    plan = plan_of(experiment)
    (check,) = (need for need in plan[TRAIN_R4].needs if plan[need].kind is Kind.CHECK)
    leave_log(experiment, paths.model_check_log(Path(check).stem), "Failed: 2 of 8 rows are too long")


def fail_verification(experiment: ExperimentFolder) -> None:
    train(experiment, "r4", seed=0)
    for epoch in (0, 1):
        error = f"{failed_at(plan_of(experiment)[paths.manifest('r4', epoch)].config)}tensor x holds NaN"
        leave_log(experiment, paths.verification_log("r4", f"epoch_{epoch}"), error)


def fail_cache(experiment: ExperimentFolder) -> None:
    train(experiment, "r4", seed=0)
    train(experiment, "r8", seed=1)
    verify_all(experiment)
    (experiment.path / "r8/finetune.json").unlink()
    error = f"{failed_at(plan_of(experiment)[paths.cache_record('shout')].config)}ValueError: no such split"
    leave_log(experiment, paths.cache_log("shout"), error)


def leave_log(experiment: ExperimentFolder, log: str, last: str) -> None:
    path = experiment.path / log
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"a warning\n{last}\n")


def edit(experiment: ExperimentFolder) -> None:
    experiment.set_parameters("r4", lr=0.001)


UNCHECKED = "its model failed the check: 2 of 8 rows are too long"
REFUSED = "was not submitted: sbatch: error: no such account"
UNVERIFIED = "its checkpoint failed verification: tensor x holds NaN"
CASES: dict[str, tuple[Callable[[ExperimentFolder], None], str, str]] = {
    "never run": (nothing, "not done yet", NOT_YET),
    "failed": (fail, FAILED, "its training failed as job 17"),
    "failed, then edited": (fail_and_edit, "not done yet", NOT_YET),
    "done, then edited": (done_and_edited, "lr: 0.01 → 0.001", "its run is trained again: lr: 0.01 → 0.001"),
    "refused by sbatch": (refuse, REFUSED, "its training was not submitted"),
    "refused, then edited": (refuse_and_edit, "not done yet", NOT_YET),
    "failed check": (fail_check, UNCHECKED, UNCHECKED),
    "failed verification": (fail_verification, "", UNVERIFIED),
    "data set that does not load": (fail_cache, "", "its data set shout is not cached: ValueError: no such split"),
    "done, edited, failed": (done_and_edited_and_failed, FAILED, "its training failed as job 17"),
}


@pytest.mark.parametrize(("change", "training", "evaluations"), CASES.values(), ids=CASES)
def test_all_give_the_same_reason(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[ExperimentFolder], None],
    training: str,
    evaluations: str,
) -> None:
    experiment = make_small_experiment(tmp_path / "place" / "experiment")
    change(experiment)
    expected = {**({"r4": training} if training else {}), **dict.fromkeys(R4_EVALS, evaluations)}
    everywhere = {
        "-n": table_of(experiment),
        "jobs under -n": messages_of(experiment),
        "status": status_of(experiment, capsys),
        "page": page_of(experiment),
    }
    for reader, said in everywhere.items():
        assert {subject: why for subject, why in said.items() if subject.startswith("r4")} == expected, reader
    whole = everywhere["-n"]
    assert all(said == whole for said in everywhere.values())
    assert logs_of(experiment) == [
        grouped({subject: why for subject, why in whole.items() if "/" not in subject}),
        grouped({subject: why for subject, why in whole.items() if "/" in subject}),
    ]


def test_a_forged_record_does_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Others may write to a shared folder: what their records say is shown, with visible escapes."""
    experiment = make_small_experiment(tmp_path / "place" / "experiment")
    fail(experiment)
    record = experiment.path / "r4/attempts/17/attempt.json"
    error = "\x1b[2J\x1b]0;title\x07 \u202edone\u2066\x9b1A\r bad"
    write_record(record, json.loads(record.read_text()) | {"error": error, "host": "\x1b[1m"})
    expected = r"failed as job 17: \x1b[2J\x1b]0;title\x07 \u202edone\u2066\x9b1A\x0d bad"
    assert table_of(experiment)["r4"] == messages_of(experiment)["r4"] == expected
    main(["status", str(experiment.path), "--missing"])
    main(["status", str(experiment.path)])
    collect(experiment.path)
    texts = [capsys.readouterr().out, (experiment.path / paths.SUMMARY_PAGE).read_text(), *logs_of(experiment)]
    for text in texts[:3]:
        assert "done" in text
    for text in texts:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def table_of(experiment: ExperimentFolder) -> dict[str, str]:
    plan = plan_of(experiment)
    lines = plan_table(plan.rows(), [path for path, target in plan.targets.items() if target.wanted])
    table = lines.partition("Will run:\n")[2].partition("\n\n")[0]
    return {line.split()[0]: line.split(None, 1)[1] for line in table.splitlines()}


def messages_of(experiment: ExperimentFolder) -> dict[str, str]:
    """Reasons in the messages of jobs, as rules have them."""
    plan = plan_of(experiment)
    return {row.subject: plan[row.path].why for row in plan.rows() if row.path and row.wanted}


def status_of(experiment: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Reasons of trainings and evaluations, as JSON, which the text has too."""
    capsys.readouterr()
    assert main(["status", str(experiment.path), "--missing", "--json"]) == 3
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert main(["status", str(experiment.path), "--missing"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert all(item["reason"] in line for item, line in zip(missing, lines, strict=True))
    return {item["subject"]: item["reason"] for item in missing if item["kind"] != "verification"}


def page_of(experiment: ExperimentFolder) -> dict[str, str]:
    collect(experiment.path)
    page = (experiment.path / paths.SUMMARY_PAGE).read_text(encoding="utf-8")
    return dict(re.findall(r"^- `(.+)`: (.+)$", page.partition("## Missing")[2], re.MULTILINE))


def logs_of(experiment: ExperimentFolder) -> list[str]:
    """Explanations of what a session found to do, in both logs."""
    plan = plan_of(experiment)
    SessionLog(session_plan(plan, [path for path, target in plan.targets.items() if target.wanted], LOCAL)).close()
    tables = [(read_action_log(experiment.path / log.file), action) for log, action in IDENTIFY.items()]
    return [table.loc[table["action"] == action.value, "explanation"].item() for table, action in tables]


IDENTIFY = {Log.TORCHTUNE: Action.IDENTIFY_RUNS, Log.INSPECT: Action.IDENTIFY_EVALS}


def grouped(reasons: dict[str, str]) -> str:
    """Names by their reason, as the logs have them."""
    names = {why: [subject for subject in reasons if reasons[subject] == why] for why in reasons.values()}
    return ", ".join(f"{', '.join(subjects)} ({why})" for why, subjects in names.items())
