"""SLURM's clients, played by scripts on PATH: what they are asked, how their answers and complaints are read."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.client_process import ClientResult, run_client
from run_experiment.slurm.clients import QueuedJob, accounted_ids, accounting, cancel, queue, submit, try_submission
from run_experiment.slurm.errors import NoAccountingError, PassingError, SlurmError
from run_experiment.slurm.states import first_word, is_live, succeeded

Shim = Callable[[str, str], Path]

SQUEUE = r"""
for argument; do case $argument in --format=*) format=${argument#--format=};; esac; done
mark=${format%%%*}
row() { printf "$mark%s" "$@"; printf '%s\n' "$mark"; }
"""
SACCT = r"""
for argument; do case $argument in
    --delimiter=*) mark=${argument#--delimiter=};;
    --format=*) IFS=, read -ra columns <<< "${argument#--format=}";;
esac; done
# The columns that are not given are empty.
row() { local i; for ((i = 1; i <= ${#columns[@]}; i++)); do printf "%s$mark" "${!i}"; done; echo; }
time=2026-01-31T12:00:00
"""

LIVE = (
    *("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "POWER_UP_NODE", "UPDATE_DB"),
    *("LAUNCH_FAILED", "RECONFIG_FAIL", "EXPEDITING"),
)
ENDS = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"),
    *("PREEMPTED", "REVOKED"),
)


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """Put a script in the place of a client, with no other on PATH; it writes its arguments to `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "cat", "sleep", "env", "sh"):
        (folder / tool).symlink_to(
            next(path for path in (Path("/bin") / tool, Path("/usr/bin") / tool) if path.exists())
        )
    monkeypatch.setenv("PATH", str(folder))

    def install(client: str, commands: str) -> Path:
        calls = tmp_path / "calls"
        script = folder / client
        script.write_text(f"#!{folder}/bash\nprintf '%s\\n' \"$@\" > {calls}\n{commands}\n")
        script.chmod(0o755)
        return calls

    return install


# Clients


def test_a_client_gets_its_input_and_gives_both_outputs(shim: Shim) -> None:
    shim("sbatch", 'cat; echo "no: $1" >&2; exit 3')
    assert run_client(["sbatch", "é"], 10, "é\n") == ClientResult(3, "é\n", "no: é\n")


def test_a_client_that_reads_no_input(shim: Shim) -> None:
    shim("sbatch", "exit 1")
    assert run_client(["sbatch"], 10, "x" * 1_000_000).returncode == 1


def test_outputs_that_fill_a_pipe(shim: Shim) -> None:
    shim("squeue", "printf '%0200000d' 0 >&2; printf '%0200000d' 0; printf '\\xff'")
    result = run_client(["squeue"], 10)
    assert (len(result.output), result.output[-1], len(result.errors)) == (200_001, "\ufffd", 200_000)


def test_what_takes_too_long_is_killed_with_all_it_started(shim: Shim, tmp_path: Path) -> None:
    shim("sacct", f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"sacct did not end within 0\.5 s"):
        run_client(["sacct"], 0.5)
    assert time.monotonic() - began < 1.5
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    end = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.01)


def test_a_client_is_in_a_session_of_its_own(shim: Shim) -> None:
    shim("squeue", "read -r _ _ _ _ _ session _ < /proc/$$/stat; echo $$ $session")
    own, session = run_client(["squeue"], 10).output.split()
    assert own == session


def test_variables_that_change_what_a_client_does_do_not_reach_it(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "LANG", "MY_SLURM_NOTES", "SBATCH_ACCOUNT")
    dropped = (
        *("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_TIME_FORMAT", "SLURMD_NODENAME", "SBATCH_TEST_ONLY"),
        *("SQUEUE_FORMAT", "SACCT_FORMAT", "SCANCEL_STATE", "SBATCH_WAIT"),
        # Where messages of SLURM go that say why a job ended.
        *("SBATCH_ERROR", "SBATCH_INPUT", "SBATCH_CONTAINER"),
    )
    for name in (*kept, *dropped):
        monkeypatch.setenv(name, "x")
    shim("sbatch", "env")
    names = {line.partition("=")[0] for line in run_client(["sbatch"], 10).output.splitlines()}
    assert names >= set(kept)
    assert not names & set(dropped)


def test_a_client_costs_no_waiting(shim: Shim) -> None:
    shim("squeue", "")
    began = time.monotonic()
    for _ in range(10):
        run_client(["squeue"], 10)
    assert time.monotonic() - began < 1


# States


@pytest.mark.parametrize("state", [*LIVE, "", "UNKNOWN", "completed", "NOT_HEARD_OF by 7"])
def test_live(state: str) -> None:
    assert is_live(state)
    assert not succeeded(state)


@pytest.mark.parametrize("state", [*ENDS, "CANCELLED by 1000"])
def test_ended(state: str) -> None:
    assert not is_live(state)
    assert succeeded(state) == (state == "COMPLETED")


def test_first_word() -> None:
    assert [first_word(state) for state in ("CANCELLED by 1000", "RUNNING", "")] == ["CANCELLED", "RUNNING", ""]


# squeue


def test_the_queue(shim: Shim) -> None:
    rows = r"""
row 11 RUNNING None 'a|b
c %j "é"' $'{"x": 1}\n\x1f'
row 12 PENDING 'Nodes required for job are DOWN, DRAINED' '' '(null)'
row 13 COMPLETED None done '(null)'
row 14 REQUEUE_HOLD JobHoldMaxRequeue last '(null)'
"""
    calls = shim("squeue", SQUEUE + rows)
    assert queue() == [
        QueuedJob("11", 'a|b\nc %j "é"', '{"x": 1}\n\x1f', "RUNNING", ""),
        QueuedJob("12", "", "", "PENDING", "Nodes required for job are DOWN, DRAINED"),
        QueuedJob("14", "last", "", "REQUEUE_HOLD", "JobHoldMaxRequeue"),
    ]
    assert f"--user={os.getuid()}" in calls.read_text().splitlines()


def test_an_empty_queue_and_one_with_a_heading(shim: Shim) -> None:
    shim("squeue", "")
    assert queue() == []
    shim("squeue", SQUEUE + "echo 'CLUSTER: c1'\nrow 1 RUNNING None name comment")
    assert queue() == [QueuedJob("1", "name", "comment", "RUNNING", "")]


# sacct


def test_accounts(shim: Shim) -> None:
    rows = r"""
row 7 $'a|b\nc' 0 '' 'CANCELLED by 0' 0:15 None 2026-01-31T12:00:00 2026-01-31T12:00:01 2026-07-31T12:00:02 'n[1-2]'
row 8 d 99999 hello 'CANCELLED by 99999' 0:0 Priority 2026-01-31T12:00:00 None Unknown 'None assigned'
row 9 other 0 '' RUNNING 0:0 None Unknown Unknown Unknown n1
"""
    calls = shim("sacct", SACCT + rows)
    found = accounting(["8", "7", "10", "7"])
    assert list(found) == ["7", "8"]
    one = found["7"]
    assert (one.name, one.uid, one.comment, one.state, one.cancelled_by) == ("a|b\nc", 0, "", "CANCELLED", "root")
    assert (one.exit_code, one.reason, one.nodes) == ("0:15", "", "n[1-2]")
    times = [time for time in (one.submitted, one.started, one.ended) if time is not None]
    assert [time.strftime("%m-%d %H:%M:%S") for time in times] == ["01-31 12:00:00", "01-31 12:00:01", "07-31 12:00:02"]
    assert all(time.tzinfo is not None for time in times)
    submitted = found["8"].submitted
    assert found["8"] == AccountedJob(
        "8", "d", 99999, "hello", "CANCELLED", "99999", "0:0", "Priority", submitted, None, None, ""
    )
    assert "--jobs=7,8,10" in calls.read_text().splitlines()


def test_accounts_of_arrays(shim: Shim) -> None:
    """Elements that wait share a row, which may still name one that has started."""
    rows = """
row 7_1 a 0 '' COMPLETED 0:0 None Unknown Unknown Unknown n1
row 7_[1-2,4-5%2] a 0 '' PENDING 0:0 None Unknown Unknown Unknown 'None assigned'
"""
    calls = shim("sacct", SACCT + rows)
    found = accounting(["7_5", "7_1+2", "7_3", "7_2", "8"])
    assert {job_id: job.state for job_id, job in found.items()} == {
        "7_1+2": "COMPLETED",
        "7_2": "PENDING",
        "7_5": "PENDING",
    }
    assert "--jobs=7,8" in calls.read_text().splitlines()


# Of a job and of one of its steps: elapsed, limit, CPUs, nodes, CPU time, memory asked for, TRES allocated and used.
FIGURES = r"""
job() { row $1 a 0 '' "$2" 0:0 None $time $time ${3-$time} "${4-n1}" 4 "${@:5}"; }
step() { row $1 a '' '' COMPLETED 0:0 '' $time $time ${2-$time} n1 4 10 '' 4 1 00:01.500 '' cpu=4 "$3"; }
"""


def figures(shim: Shim, rows: str) -> AccountedJob:
    shim("sacct", SACCT + FIGURES + rows)
    found = accounting(["7", "8"])
    assert list(found) == ["7"]
    return found["7"]


def test_a_job_with_steps(shim: Shim) -> None:
    one = figures(
        shim,
        r"""
job 7 COMPLETED $time n1 2712 240 4 1 02:30:02 24G billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=24G,node=1
step 7.batch $time cpu=00:01:00,energy=0,mem=1048576K,pages=0
step 7.extern Unknown
step 7.0 $time cpu=00:01:00,energy=0,mem=12.5G,pages=0
step 7.1 $time energy=0
step 70.batch $time mem=100G
""",
    )
    assert (one.elapsed_seconds, one.time_limit_seconds, one.cpus, one.node_count, one.gpus) == (2712, 14_400, 4, 1, 2)
    assert (one.cpu_seconds, one.peak_memory_mib, one.requested_memory_mib) == (9002, 12_800, 24_576)
    assert one.settled


@pytest.mark.parametrize(
    ("rows", "settled"),
    [
        ("job 7 RUNNING Unknown; step 7.batch Unknown", False),
        ("job 7 COMPLETED", False),
        ("job 7 COMPLETED; step 7.extern", False),
        ("job 7 COMPLETED; step 7.batch Unknown", False),
        ("job 7 COMPLETED; step 7.batch; step 7.0 Unknown", False),
        ("job 7 COMPLETED; step 7.batch; step 7.0; step 7.extern Unknown", True),
        # So short that no sample was taken: none will be.
        ("job 7 FAILED; step 7.batch $time energy=0", True),
        ("job 7 REQUEUED; step 7.batch", False),
        ("job 7 PENDING Unknown 'None assigned'", False),
        ("job 7 'CANCELLED by 0' $time 'None assigned'", True),
    ],
)
def test_whether_figures_are_still_to_come(shim: Shim, rows: str, settled: bool) -> None:
    assert figures(shim, rows).settled == settled


def test_an_end_that_comes_before_the_request(shim: Shim) -> None:
    rows = r"""
row 7 allocation 0 '' COMPLETED 0:0 None $time $time $time n1 0 3 '' 1 1 00:00.012 '16?' billing=1,cpu=1,mem=100M
step 7.batch
row 8 allocation 0 '' 'CANCELLED by 0' 0:0 None $time $time $time 'None assigned' 0 0 '' 0 1 00:00:00 '16?'
"""
    shim("sacct", SACCT + FIGURES + rows)
    found = accounting(["7", "8"])
    assert [found[job_id].settled for job_id in ("7", "8")] == [False, False]


def test_a_job_that_never_had_a_node_never_started(shim: Shim) -> None:
    one = figures(shim, "job 7 'CANCELLED by 0' $time 'None assigned' 0 Partition_Limit 3 1 00:00:00 210M ''")
    assert (one.started, one.time_limit_seconds, one.cpu_seconds, one.peak_memory_mib) == (None, None, None, None)
    assert (one.cpus, one.gpus, one.requested_memory_mib) == (3, 0, 210)


@pytest.mark.parametrize(
    ("asked", "allocated", "mib"),
    [
        ("4G", "", 4096),
        ("4Gn", "cpu=8,node=2", 8192),
        ("4000Mc", "cpu=8,node=2", 32_000),
        ("1.50T", "", 1_572_864),
        ("2048K", "", 2),
        ("300", "", 300),
        ("4Gn", "cpu=8,mem=9000M,node=2", 9000),
        ("0n", "cpu=8,mem=16G", 16_384),
        ("0", "cpu=8", None),
        ("", "", None),
        ("16?", "mem=?", None),
    ],
)
def test_memory_asked_for(shim: Shim, asked: str, allocated: str, mib: float | None) -> None:
    rows = f"job 7 COMPLETED $time n1 10 10 8 2 00:01.000 '{asked}' {allocated}"
    assert figures(shim, rows).requested_memory_mib == mib


@pytest.mark.parametrize(
    ("used", "mib"),
    [("mem=3252K", 3252 / 1024), ("vmem=9G,mem=2G", 2048), ("mem=1048576", 1), ("vmem=9G", None), ("mem=0", None)],
)
def test_peak_memory(shim: Shim, used: str, mib: float | None) -> None:
    assert figures(shim, f"job 7 COMPLETED; step 7.batch $time {used}").peak_memory_mib == mib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:04.636", 5),
        ("59:59.499", 3599),
        ("00:00.020", 0),
        ("01:00:00", 3600),
        ("4-23:56:22", 431_782),
        ("00:00:00", None),
        ("", None),
    ],
)
def test_cpu_time_is_in_whole_seconds(shim: Shim, text: str, seconds: int | None) -> None:
    assert figures(shim, f"job 7 COMPLETED $time n1 10 10 8 2 '{text}'").cpu_seconds == seconds


@pytest.mark.parametrize(
    ("allocated", "gpus"),
    [("cpu=4,gres/gpu=2", 2), ("gres/gpu:a100=2,gres/gpu:h100=1", 3), ("gres/gpu:a100=2,gres/gpu=2", 2), ("cpu=4", 0)],
)
def test_allocated_gpus(shim: Shim, allocated: str, gpus: int) -> None:
    assert figures(shim, f"job 7 COMPLETED $time n1 10 10 8 2 00:01.000 4G {allocated}").gpus == gpus


def test_steps_without_their_job_are_none(shim: Shim) -> None:
    shim("sacct", SACCT + FIGURES + "step 7.batch")
    assert accounting(["7"]) == {}


def test_accounts_are_of_the_cluster_that_the_environment_names(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of the other clients, which read the variable themselves."""
    calls = shim("sacct", "true")

    def is_named(ask: Callable[[], object]) -> bool:
        ask()
        return "--clusters=other" in calls.read_text().splitlines()

    both = [lambda: accounting(["7"]), lambda: accounted_ids("train", Path("/e"), datetime.now(UTC))]
    assert not any(map(is_named, both))
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert all(map(is_named, both))


def test_no_ids_are_not_all_jobs(shim: Shim) -> None:
    calls = shim("sacct", "exit 1")
    shim("scancel", "exit 1")
    assert accounting([]) == {}
    cancel(set())
    assert not calls.exists()


@pytest.mark.parametrize("job_id", ["", "1,2", "--me", "1 2", "1_", "1_[2-3]", "1\n", "all", "١"])
def test_what_is_no_id_never_reaches_a_client(shim: Shim, job_id: str) -> None:
    calls = shim("sacct", "exit 1")
    shim("scancel", "exit 1")
    for ask in (accounting, cancel):
        with pytest.raises(ValueError, match="not a job id"):
            ask(["1", job_id])
    assert not calls.exists()


def test_a_cluster_without_accounts(shim: Shim) -> None:
    shim("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    with pytest.raises(NoAccountingError):
        accounting(["1"])


# scancel


def test_jobs_that_ended_are_no_error(shim: Shim) -> None:
    calls = shim(
        "scancel",
        "echo 'scancel: error: Kill job error on job id 1: Invalid job id specified' >&2\n"
        "echo 'scancel: error: Kill job error on job id 2: Job/step already completing or completed' >&2; exit 1",
    )
    cancel(["2", "1"])
    assert calls.read_text() == "1\n2\n"


def test_a_job_of_another_user(shim: Shim) -> None:
    shim(
        "scancel",
        "echo 'scancel: error: Kill job error on job id 1: Invalid job id specified' >&2\n"
        "echo 'scancel: error: Kill job error on job id 2: Access/permission denied' >&2; exit 210",
    )
    with pytest.raises(SlurmError, match=r"^scancel: error: Kill job error on job id 2: Access/permission denied$"):
        cancel(["1", "2"])


# sbatch


@pytest.mark.parametrize(
    "output",
    [
        "42\n",
        "42",
        "42;c1\n",
        "Welcome to the cluster of 2026\n42\n7 jobs wait\n",
        "Submitted batch job 42\n",
        "Submitted batch job 42 on cluster c1\n",
    ],
)
def test_the_id_of_a_submitted_job(shim: Shim, tmp_path: Path, output: str) -> None:
    (tmp_path / "output").write_text(output)
    calls = shim("sbatch", f"cat > {tmp_path}/script; cat {tmp_path}/output")
    assert submit(["--job-name=a b", "--mem=1G"], "#!/bin/bash\ntrue é\n") == "42"
    assert calls.read_text() == "--parsable\n--job-name=a b\n--mem=1G\n"
    assert (tmp_path / "script").read_text() == "#!/bin/bash\ntrue é\n"


def test_without_an_id_there_may_be_a_job(shim: Shim) -> None:
    shim("sbatch", "echo hello")
    with pytest.raises(PassingError, match="sbatch gave no job id: 'hello'"):
        submit([], "#!/bin/bash\n")


POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)
PASSING = [
    f"QOSMaxSubmitJobPerUserLimit\nsbatch: error: {POLICY}",
    f"QOSGrpSubmitJobsLimit\nsbatch: error: {POLICY}",
    f"AssocMaxSubmitJobLimit\nsbatch: error: {POLICY}",
    f"AssocGrpSubmitJobsLimit\nsbatch: error: {POLICY}",
    "Batch job submission failed: Required partition not available (inactive or drain)",
    "Batch job submission failed: Required node not available (down, drained or reserved)",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    "Batch job submission failed: Requested reservation not usable now",
    "Batch job submission failed: System submissions disabled",
    "Slurm temporarily unable to accept job, sleeping and retrying",
    "Batch job submission failed: Resource temporarily unavailable",
    "Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "Batch job submission failed: Socket timed out on send/recv operation",
    "Batch job submission failed: Zero Bytes were transmitted or received",
    "Batch job submission failed: Slurm backup controller in standby mode",
    "Batch job submission failed: I/O error writing script/environment to file",
    "Problem talking to the database: Connection refused",
    "Problem talking to the database: Unable to connect to database",
    "slurm_persist_conn_open_without_init: failed to open persistent connection to host:dbd:6819: No such process",
    'Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
    "s_p_parse_file: cannot stat file /etc/slurm/slurm.conf: Stale file handle, retrying in 1sec up to 60sec",
]
LASTING = [
    f"QOSMaxCpuPerUserLimit\nsbatch: error: {POLICY}",
    f"AssocMaxWallDurationPerJobLimit\nsbatch: error: {POLICY}",
    POLICY,
    "Batch job submission failed: Requested node configuration is not available",
    "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
    "Batch job submission failed: Invalid account or account/partition combination specified",
    "invalid partition specified: nope",
    "Batch job submission failed: Access denied to requested reservation",
    "Batch job submission failed: Invalid license specification",
    "Invalid generic resource (gres) specification",
    "Batch script is empty!",
]


@pytest.mark.parametrize(("words", "passing"), [(w, True) for w in PASSING] + [(w, False) for w in LASTING])
def test_complaints(shim: Shim, tmp_path: Path, words: str, passing: bool) -> None:
    (tmp_path / "words").write_text(f"sbatch: error: {words}\n")
    shim("sbatch", f"cat {tmp_path}/words >&2; exit 1")
    with pytest.raises(SlurmError) as raised:
        submit([], "#!/bin/bash\n")
    assert isinstance(raised.value, PassingError) == passing
    assert str(raised.value) == f"sbatch: error: {words}"


CALLS: list[tuple[str, Callable[[], object]]] = [
    ("sbatch", lambda: submit([], "#!/bin/bash\n", timeout=0.3)),
    ("squeue", lambda: queue(timeout=0.3)),
    ("sacct", lambda: accounting({"1"}, timeout=0.3)),
    ("scancel", lambda: cancel({"1"}, timeout=0.3)),
]


@pytest.mark.parametrize(("client", "call"), CALLS)
def test_all_clients_may_fail(shim: Shim, client: str, call: Callable[[], object]) -> None:
    with pytest.raises(SlurmError, match=f"^{client} is not on the PATH: run this on a login node of the cluster$"):
        call()
    calls = shim(client, "exit 4")
    with pytest.raises(SlurmError, match=f"^{client} ended with exit status 4$"):
        call()
    shim(client, f"echo '{client}: error: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(PassingError):
        call()
    shim(client, "sleep 60")
    with pytest.raises(PassingError, match=f"^{client} did not end within 0.3 s$"):
        call()
    script = calls.parent / "bin" / client
    script.chmod(stat.S_IRUSR)
    with pytest.raises(SlurmError, match=f"^{client} cannot be run: Permission denied$"):
        call()


@pytest.mark.parametrize(("number", "passing"), [(errno.EAGAIN, True), (errno.ENOMEM, True), (errno.ENOEXEC, False)])
def test_what_this_machine_lacks_for_a_while_passes(
    monkeypatch: pytest.MonkeyPatch, number: int, passing: bool
) -> None:
    def no_process(*arguments: object) -> ClientResult:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("run_experiment.slurm.clients.run_client", no_process)
    with pytest.raises(SlurmError, match="squeue cannot be run") as raised:
        queue()
    assert isinstance(raised.value, PassingError) == passing


@pytest.mark.parametrize(
    "words", ["Required partition not available (inactive or drain)", "Requested reservation not usable now"]
)
def test_a_trial_refuses_nothing_that_a_maintenance_ends(shim: Shim, words: str) -> None:
    shim("sbatch", f'echo "allocation failure: {words}" >&2; exit 1')
    try_submission([], "#!/bin/sh\n")


def test_the_job_s_id_is_the_last_one_that_sbatch_prints(shim: Shim) -> None:
    """A site's wrapper may print numbers of its own before."""
    shim("sbatch", "echo 4096; echo 'queue: 3 jobs'; echo 16")
    assert submit([], "#!/bin/sh\n") == "16"
