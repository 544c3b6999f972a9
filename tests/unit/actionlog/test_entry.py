"""What is written to the action logs: the form, no secrets, nothing forged, nothing interleaved, and no failing run.

Full disks are real: a limit on the size of files makes writes short as a full disk does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from run_experiment.actionlog.entry import (
    CUT_OFF,
    FIELDS,
    MAX_CHARACTERS,
    Action,
    ActionLogs,
    Entry,
    Log,
    duration_text,
    escape,
    render,
    unescape,
)
from run_experiment.actionlog.reader import read_action_log

NOON = datetime(2025, 1, 31, 12, 0, 5, 999_999)
FORGED = "\n[2025-01-01 00:00:00] ALL_COMPLETE: x\nDetails: …\nResult: forged\nDuration: 1 minute\n\n"
STATES = Entry(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started", subject="r8")

NASTY = st.sampled_from(
    [
        FORGED,
        "\r\n[2025-01-01 00:00:00] SUBMIT_JOB",
        f"\n{CUT_OFF}\n\n",
        "\n\n",
        "",
        "\\n",
        "\\\\u2028",
        "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg",
        "\x1b[2J\x07\x00\x9b31m",
        "\u202eevil\u2066",
        "\udcff\ud83d\ude00",
        "Result: x",
        ": ",
        " \t ",
        "/data/\\new folder/\u202e/\nDetails: x",
    ]
)
VALUE = (
    NASTY
    | st.text()
    | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))
    | st.tuples(st.text(max_size=5), NASTY, NASTY).map("".join)
)
NAMES = ("subject", *FIELDS.values())


def rendered(environment: dict[str, str] | None = None, **values: str) -> str:
    return render(Entry(Action.SUBMIT_JOB, **{"details": "d", "result": "r", **values}), NOON, environment or {})


def test_entry_has_every_field_in_its_place() -> None:
    values = {name: f"the {label}" for label, name in FIELDS.items()}
    assert render(Entry(Action.CHECKPOINT_MISSING, subject="r8", **values), NOON, {}) == (
        "[2025-01-31 12:00:05] CHECKPOINT_MISSING: r8\n"
        "Details: the Details\n"
        "Command: the Command\n"
        "Input: the Input\n"
        "Calculation: the Calculation\n"
        "Explanation: the Explanation\n"
        "Job ID: the Job ID\n"
        "Recommendation: the Recommendation\n"
        "Result: the Result\n"
        "Duration: the Duration\n"
        "\n"
    )


@pytest.mark.parametrize("subject", [None, ""])
def test_entry_without_subject_and_optional_fields(subject: str | None) -> None:
    entry = Entry(Action.ALL_COMPLETE, "All 4 jobs", "4 COMPLETED", subject=subject)
    assert render(entry, NOON, {}) == "[2025-01-31 12:00:05] ALL_COMPLETE\nDetails: All 4 jobs\nResult: 4 COMPLETED\n\n"


def test_every_action_knows_its_logs() -> None:
    of_torchtune = [action for action in Action if Log.TORCHTUNE in action.logs]
    of_inspect = [action for action in Action if Log.INSPECT in action.logs]
    ours = {
        "MONITOR_DETACHED",
        "JOB_REATTACHED",
        "OOM_RETRY",
        "RESUME_TRAINING",
        "EVAL_RETRY",
        "STALE_CACHE",
        "QUEUE_FULL",
        "MODEL_CHECK",
        "THROUGHPUT_STATUS",
        "REUSE_EVAL",
    }
    assert len(set(of_torchtune) - ours) == 8
    assert len(set(of_inspect) - ours) == 15
    assert set(Action) == {*of_torchtune, *of_inspect}
    assert ours < set(Action)
    assert Action.STATE_CHANGE.logs == (Log.TORCHTUNE, Log.INSPECT)
    assert Action.OOM_RETRY.logs == (Log.TORCHTUNE, Log.INSPECT)
    assert (Action.RESUME_TRAINING.logs, Action.EVAL_RETRY.logs) == ((Log.TORCHTUNE,), (Log.INSPECT,))
    assert [log.file for log in Log] == ["run-torchtune.log", "run-inspect.log"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\t\x00\x1b\x7f\x85", r"\t\x00\x1b\x7f\x85"),
        ("\u2028\u2029\u202e\u2066\u200f\u061c", r"\u2028\u2029\u202e\u2066\u200f\u061c"),
        ("\udcff", r"\udcff"),
        (r"C:\new", r"C:\\new"),
        ("PENDING → RUNNING, 日本, 🙂", "PENDING → RUNNING, 日本, 🙂"),
    ],
)
def test_escapes_are_visible_and_undone(text: str, line: str) -> None:
    assert escape(text) == line
    assert unescape(line) == text


def test_what_is_no_escape_stays() -> None:
    assert unescape("\\d \\x4 \\u12 \\") == "\\d \\x4 \\u12 \\"


def test_long_value_is_cut_and_says_so() -> None:
    assert "(cut" not in rendered(details="x" * MAX_CHARACTERS)
    long = rendered(details="x" * 3001)
    assert f"Details: {'x' * MAX_CHARACTERS}… (cut after 2,000 of 3,001 characters)\n" in long
    # An escape is never cut in two.
    assert r"\n" * MAX_CHARACTERS + "… (cut" in rendered(details="\n" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("name", ["HF_TOKEN", "wandb_api_key", "MySecret", "PGPASSWORD", "KEYS"])
@pytest.mark.parametrize("field", ["subject", *FIELDS.values()])
def test_secret_is_nowhere_written(name: str, field: str) -> None:
    text = rendered({name: "hf_abc", "HOME": "/home/me"}, **{field: "at hf_abc, hf_abchf_abc in /home/me"})
    assert "hf_abc" not in text
    assert "at ***, ****** in /home/me" in text


def test_escaping_and_cutting_hide_no_secret() -> None:
    secret = 'pass\\wo\nrd"\u202e'
    assert "Details: a***b\n" in rendered({"DB_PASSWORD": secret}, details=f"a{secret}b")
    across = "x" * (MAX_CHARACTERS - 3) + "s3cr3t-value"
    assert f"{'x' * (MAX_CHARACTERS - 3)}***\n" in rendered({"A_KEY": "s3cr3t-value"}, details=across)


def test_lines_of_a_secret_are_secrets() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n"
    text = rendered({"SSH_KEY": key}, details=f"whole {key.strip()}, part MIIEpAIBAAKCAQEA")
    assert "Details: whole ***, part ***\n" in text


def test_overlapping_secrets_leave_no_remainder() -> None:
    secrets = {"A_KEY": "abcdef", "B_KEY": "defghi", "C_KEY": "xabcdefghij", "D_KEY": "aaaaaaa"}
    assert "Details: ***!***j ***.\n" in rendered(secrets, details="xabcdefghij!abcdefghij aaaaaaaaaa.")


@pytest.mark.parametrize("value", ["", "     ", "1", "true", "false"])
def test_trivial_values_of_secret_variables_stay(value: str) -> None:
    assert "Details: a true, false 1\n" in rendered({"TOKENIZERS_PARALLELISM": value}, details="a true, false 1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (-5, "0 seconds"),
        (0.6, "1 second"),
        (59.4, "59 seconds"),
        (59.6, "1 minute"),
        (95, "1 minute 35 seconds"),
        (2700, "45 minutes"),
        (3600, "1 hour"),
        (3605, "1 hour"),
        (7500.2, "2 hours 5 minutes"),
        (90_061, "1 day 1 hour"),
        (5 * 86_400, "5 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# Ten texts an example.
@settings(max_examples=1000, deadline=None)
@given(values=st.fixed_dictionaries(dict.fromkeys(NAMES, VALUE)))
@example(values={"details": FORGED, "result": FORGED, "subject": FORGED, "job_id": FORGED})
@example(values={"details": "x" * 1999 + "\u2028", "result": "\\" * 2000})
def test_hostile_values_forge_nothing_and_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    before, after = rendered(details="before"), rendered(details="after")
    text = before + rendered(**values) + after
    path = tmp_path_factory.getbasetemp() / "hostile.log"
    path.write_bytes(text.encode())
    table = read_action_log(path)
    assert list(table["action"]) == ["SUBMIT_JOB"] * 3
    assert list(table["details"]) == ["before", values["details"], "after"]
    assert not table["truncated"].any()
    read = table.iloc[1]
    for name in NAMES:
        expected = values.get(name)
        assert read[name] == (expected or None if name == "subject" else expected)
    # Tools that take other characters for line ends, too, see the same lines; so do terminals.
    assert text.splitlines() == text.split("\n")[:-1]
    assert all(line.isprintable() or not any(ord(one) < 32 for one in line) for line in text.splitlines())


def test_entry_is_appended_to_one_log_or_both(tmp_path: Path) -> None:
    (tmp_path / "run-inspect.log").write_text("[2025-01-01 00:00:00] STATUS_CHECK\nDetails: a\nResult: b\n\n")
    logs = ActionLogs(tmp_path)
    start = datetime.now().replace(microsecond=0)
    logs.write(Log.INSPECT, STATES)
    logs.write(Log, STATES)
    inspect, torchtune = (read_action_log(tmp_path / f"run-{name}.log") for name in ("inspect", "torchtune"))
    assert list(inspect["action"]) == ["STATUS_CHECK", "STATE_CHANGE", "STATE_CHANGE"]
    assert list(torchtune["details"]) == ["PENDING → RUNNING"]
    assert start <= torchtune["time"][0] <= datetime.now()
    assert logs.incomplete() is None


def test_secrets_of_this_environment_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = ActionLogs(tmp_path)
    monkeypatch.setenv("CANARY_TOKEN", "canary-0815")
    logs.write(Log.INSPECT, Entry(Action.SUBMIT_EVAL, "sbatch", "failed: canary-0815"))
    assert "Result: failed: ***\n" in (tmp_path / "run-inspect.log").read_text()


def test_what_cannot_be_written_is_counted_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiment"
    monkeypatch.chdir(tmp_path)
    logs = ActionLogs(Path("experiment"))
    logs.write(Log, STATES)
    folder.mkdir()
    (folder / "run-inspect.log").mkdir()
    logs.write(Log, STATES)
    monkeypatch.chdir("/")
    (folder / "run-inspect.log").rmdir()
    logs.write([Log.INSPECT], STATES)
    assert logs.incomplete() == (
        "run-torchtune.log lacks 1 entry: No such file or directory (1); "
        "run-inspect.log lacks 2 entries: No such file or directory (1), Is a directory (1)"
    )
    assert len(read_action_log(folder / "run-torchtune.log")) == 1
    assert len(read_action_log(folder / "run-inspect.log")) == 1


def test_full_disk_is_counted(tmp_path: Path) -> None:
    (tmp_path / "run-inspect.log").symlink_to("/dev/full")
    logs = ActionLogs(tmp_path)
    logs.write(Log.INSPECT, STATES)
    assert logs.incomplete() == "run-inspect.log lacks 1 entry: No space left on device (1)"


def test_pipe_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run-inspect.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    logs = ActionLogs(tmp_path)
    for _ in range(300):
        logs.write(Log.INSPECT, Entry(Action.STATUS_CHECK, "x" * 1000, "y"))
    os.close(reader)
    assert "run-inspect.log lacks" in (logs.incomplete() or "")


def test_log_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    logs, path = ActionLogs(tmp_path), tmp_path / "run-torchtune.log"
    logs.write(Log.TORCHTUNE, STATES)
    path.rename(tmp_path / "old.log")
    logs.write(Log.TORCHTUNE, STATES)
    assert len(read_action_log(path)) == len(read_action_log(tmp_path / "old.log")) == 1
    assert logs.incomplete() is None


SHORT_WRITES = """
import resource, sys
import re
from pathlib import Path
from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
folder, room = Path(sys.argv[1]), int(sys.argv[2])
logs = ActionLogs(folder)
def write(n):
    logs.write(Log.TORCHTUNE, Entry(Action.SUBMIT_JOB, f"sbatch {n} → x", f"Job ID 123456{n}", job_id=f"123456{n}"))
write(0)
size = (folder / "run-torchtune.log").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
write(1)
write(2)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write(3)
write(4)
print(logs.incomplete())
"""


@pytest.mark.parametrize("room", [0, 1, 15, 27, 40, 48, 70, 93, 94])
def test_half_an_entry_is_told_from_a_whole_one(tmp_path: Path, room: int) -> None:
    command = [sys.executable, "-c", SHORT_WRITES, str(tmp_path), str(room)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    partly = "only a part could be written (1), " if room else ""
    assert said == f"run-torchtune.log lacks 2 entries: {partly}File too large ({1 if room else 2})"
    table = read_action_log(tmp_path / "run-torchtune.log")
    whole = table[~table["truncated"]]
    assert list(whole["job_id"]) == ["1234560", "1234563", "1234564"]
    assert list(whole["result"]) == ["Job ID 1234560", "Job ID 1234563", "Job ID 1234564"]
    assert len(table) == (4 if room else 3)


@pytest.mark.parametrize("torn", ["[2025-01-01 00:0", "[2025-01-01 00:00:00] SUBMIT_JOB: r", "\0\0\0", "Result: 12\n"])
def test_next_session_marks_what_a_crash_cut_off(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "run-torchtune.log"
    path.write_text(rendered() + torn)
    ActionLogs(tmp_path).write(Log.TORCHTUNE, STATES)
    text = path.read_text()
    assert text.startswith(f"{rendered()}{torn.rstrip()}\n{CUT_OFF}\n\n[")
    whole = read_action_log(path).query("not truncated")
    assert list(whole["action"]) == ["SUBMIT_JOB", "STATE_CHANGE"]


@pytest.mark.parametrize("end", ["", "\n\n", "a\r\n\r\n"])
def test_nothing_is_marked_where_nothing_is_torn(tmp_path: Path, end: str) -> None:
    path = tmp_path / "run-torchtune.log"
    path.write_bytes(end.encode())
    ActionLogs(tmp_path).write(Log.TORCHTUNE, STATES)
    assert CUT_OFF not in path.read_text()


WRITER = """
import sys
import re
from pathlib import Path
from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
folder, name = Path(sys.argv[1]), sys.argv[2]
logs = ActionLogs(folder)
def write(n):
    # Of several pages, some of them.
    logs.write(Log.INSPECT, Entry(Action.SUBMIT_EVAL, "é" * (n % 7 * 280), f"{name}:{n}", subject=name))
write(0)
# Begin when the other one does.
while not {": a\\n", ": b\\n"} <= {line[-4:] for line in (folder / Log.INSPECT.file).open()}:
    pass
for n in range(1, 2000):
    write(n)
print(logs.incomplete())
"""


def test_two_processes_lose_and_interleave_nothing(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), name] for name in "ab"]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert [writer.communicate()[0] for writer in writers] == ["None\n", "None\n"]
    path = tmp_path / Log.INSPECT.file
    table = read_action_log(path)
    assert CUT_OFF not in path.read_text()
    assert not table["truncated"].any()
    for name in "ab":
        of_one = table[table["subject"] == name]
        assert list(of_one["result"]) == [f"{name}:{n}" for n in range(2000)]
        assert list(of_one["details"]) == ["é" * (n % 7 * 280) for n in range(2000)]


def test_threads_share_one_writer(tmp_path: Path) -> None:
    logs = ActionLogs(tmp_path)
    threads = [threading.Thread(target=lambda: [logs.write(Log, STATES) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(read_action_log(tmp_path / log.file)) for log in Log] == [400, 400]


def test_writing_goes_on_where_another_process_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "run-inspect.log"
    path.touch()
    hold = "import fcntl, sys\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_EX)\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        logs = ActionLogs(tmp_path)
        logs.write(Log.INSPECT, STATES)
        other.communicate("\n")
    assert logs.incomplete() is None
    assert len(read_action_log(path)) == 1


def test_the_docs_name_all_actions_and_no_others() -> None:
    text = (Path(__file__).parents[3] / "docs/logs.md").read_text()
    table = "".join(line for line in text.splitlines() if line.startswith("|"))
    assert set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", table)) == set(Action)
