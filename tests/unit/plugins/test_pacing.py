"""Jobs are submitted not too fast, and not too many."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from slurm_shims import Cluster, Submitting, request, wait_for

from run_experiment.slurm.events import QueueFull
from run_experiment.slurm.ledger import Ledger
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.messages import message
from snakemake_executor_plugin_slurm_attached.submitting.pacing import Pacing


def test_jobs_of_a_kind_are_submitted_apart(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    begun = time.monotonic()
    for number in range(3):
        here.submitter.put(request(f"a{number}", stagger=0.4))
    wait_for(10, lambda: len(here.accepted) == 3)
    assert time.monotonic() - begun > 0.8
    here.submitter.stop()


def test_jobs_wait_until_the_queue_has_room_for_them(tmp_path: Path, cluster: Cluster) -> None:
    cluster.shim(
        tmp_path / "bin",
        "squeue",
        # The format ends in `%k` and a separator, which is different every time.
        "for last; do :; done; mark=${last##*%k}\n"
        f"[ -e {tmp_path}/full ] || exit 0\n"
        "for job in 901 902; do\n"
        """printf "%s$job%sRUNNING%sNone%sother%s(null)%s\\n" "$mark" "$mark" "$mark" "$mark" "$mark" "$mark"\n"""
        "done",
    )
    (tmp_path / "full").touch()
    here = Submitting(tmp_path, limit=3, refresh=0.2)
    for number in range(2):
        here.submitter.put(request(f"a{number}"))
    wait_for(10, lambda: here.accepted)
    time.sleep(1.5)
    assert set(here.accepted) == {"a0"}
    (tmp_path / "full").unlink()
    wait_for(10, lambda: len(here.accepted) == 2)
    here.submitter.stop()


def test_a_queue_that_others_fill_is_reported_once(tmp_path: Path, cluster: Cluster) -> None:
    """The allocation that Snakemake itself runs in is no job that could end first."""
    cluster.queue(tmp_path / "bin", "7 RUNNING salloc", "8 PENDING b", "9 PENDING c")
    reported: list[int] = []
    pacing = Pacing(2, 0.1, set, reported.append, "7")
    waiting = threading.Thread(target=lambda: pacing.wait("finetune", 0, lambda: None))
    waiting.start()
    wait_for(10, lambda: reported)
    time.sleep(1.5)
    cluster.queue(tmp_path / "bin", "7 RUNNING salloc", "8 PENDING b")
    waiting.join(10)
    assert not waiting.is_alive()
    assert reported == [2]
    assert message(QueueFull(2)) == (
        "waiting: 2 of your jobs are in the queue, none of this experiment (slurm-attached-max-queued)"
    )


def test_the_queue_that_earlier_jobs_were_looked_for_in_is_counted(tmp_path: Path, cluster: Cluster) -> None:
    """Each client that is started costs the controller of a site."""
    cluster.queue(tmp_path / "bin", "8 PENDING b")
    pacing = Pacing(3, 60, set)
    assert earlier_jobs(tmp_path, Ledger(tmp_path / "ledger.jsonl"), lambda event: None, pacing.queue) == {}
    cluster.shim(tmp_path / "bin", "squeue", f"touch {tmp_path}/asked")
    assert pacing.wait("finetune", 0, lambda: None)
    assert pacing.room == 2
    assert not (tmp_path / "asked").exists()
