"""What sbatch says, and whether SLURM has the job: none is submitted twice or lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from slurm_shims import Cluster, Submitting, request, wait_for

from run_experiment.slurm.events import Delayed, Submitted

PLUGIN = "snakemake_executor_plugin_slurm_attached"


def test_a_submission_that_slurm_did_not_answer_is_tried_again_once_accepted(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 1.0)
    cluster.shim(
        tmp_path / "bin",
        "sbatch",
        f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -lt 3 ] && "
        '{ echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; }; echo 17',
    )
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(20, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "17"}
    assert [type(event) for event in here.told] == [Delayed, Submitted]


@pytest.mark.parametrize("seconds", [0, 4], ids=["at once", "after long"])
def test_a_submission_that_slurm_accepts_after_its_answer_was_given_up_is_not_made_twice(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """However long sbatch waited for an answer: the job may come for a while after that."""
    monkeypatch.setattr(f"{PLUGIN}.submitting.sbatch._ASK_AGAIN", 0.2)
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 4.0)
    late = f'sleep {seconds}; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    cluster.shim(tmp_path / "bin", "sbatch", f"echo x >> {tmp_path}/tries; {late}")
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.told)
    # The first look comes a second later.
    time.sleep(2)
    cluster.queue(tmp_path / "bin", "41 PENDING a")
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "41"}
    assert (tmp_path / "tries").read_text() == "x\n"
    assert here.ledger.open()["a/finetune.json"].job_id == "41"


@pytest.mark.parametrize("minutes", [-4, 0, 4], ids=["behind", "alike", "ahead"])
def test_a_job_that_ended_before_it_was_looked_for_is_not_submitted_again(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """Whatever SLURM's clock says beside ours; an earlier job for the same target is not taken for it."""
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 0.0)
    late = 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    cluster.shim(tmp_path / "bin", "sbatch", f"echo x >> {tmp_path}/tries; {late}")
    time_of = f"$(date -d '{minutes} min' +%Y-%m-%dT%H:%M:%S)"
    rows = "; ".join(f'echo "{job_id}${{mark}}a$mark{time_of}$mark{tmp_path}$mark"' for job_id in (43, 44))
    find = "for word; do case $word in --delimiter=*) mark=${word#--delimiter=};; esac; done"
    cluster.shim(tmp_path / "bin", "sacct", f"{find}; {rows}")
    here = Submitting(tmp_path)
    former = request("a").submission
    here.ledger.accepted(former, "44")
    here.ledger.settled(former.target, "44", "FAILED")
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "43"}
    assert (tmp_path / "tries").read_text() == "x\n"


def test_accounts_that_cannot_be_asked_keep_no_job_from_being_submitted(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 0.0)
    late = 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    tries = tmp_path / "tries"
    cluster.shim(
        tmp_path / "bin", "sbatch", f"echo x >> {tries}; [ $(wc -l < {tries}) = 2 ] && echo 7 || {{ {late}; }}"
    )
    cluster.shim(tmp_path / "bin", "sacct", 'echo "sacct: fatal: Bad SLURM configuration" >&2; exit 1')
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted or here.refused)
    here.submitter.stop()
    assert here.accepted == {"a": "7"}


def test_a_job_that_sbatch_refused_and_slurm_has_is_followed(tmp_path: Path, cluster: Cluster) -> None:
    """A site's wrapper may print the id, and fail after that."""
    cluster.shim(tmp_path / "bin", "sbatch", 'echo 35; echo "wrapper: no mail" >&2; exit 1')
    cluster.queue(tmp_path / "bin", "35 PENDING a")
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted or here.refused)
    here.submitter.stop()
    assert (here.accepted, here.refused) == ({"a": "35"}, {})
    assert here.ledger.open()["a/finetune.json"].job_id == "35"
