"""SLURM's job states, and which of them are final."""

from __future__ import annotations

# Final states in squeue and sacct, as SLURM's page "Job State Codes" lists them.
# Everything else counts as live, since an end must not be reported unless it is certain:
# - PENDING, RUNNING, SUSPENDED, and EXPEDITING of late: the base states that are no ends.
# - CONFIGURING, POWER_UP_NODE, RESIZING, SIGNALING, STOPPED, UPDATE_DB: the job holds its nodes.
# - COMPLETING, STAGE_OUT: its processes or files are being cleaned up, and the final state is not known.
# - REQUEUED, REQUEUE_FED, REQUEUE_HOLD, RESV_DEL_HOLD, SPECIAL_EXIT: it waits, perhaps held, to start again.
# - LAUNCH_FAILED, RECONFIG_FAIL: flags beside a base state, which alone says whether the job waits again.
_ENDS = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        # A new start may follow this and PREEMPTED; accounting learns of it some seconds later.
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        # Another cluster of the federation took the job; on this one it is over.
        "REVOKED",
        "TIMEOUT",
    }
)

# In squeue, of a job that waits for its start or for another one.
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})


def first_word(state: str) -> str:
    """The state alone, `CANCELLED` of `CANCELLED by 1000`; empty if there is none."""
    return state.partition(" ")[0]


def is_live(state: str) -> bool:
    """True if a job in this state may still run or run again; also for unknown states.

    Accounting calls a requeued job PREEMPTED or NODE_FAIL until it has its new start: ask the queue, too.
    """
    return first_word(state) not in _ENDS


def is_waiting(state: str) -> bool:
    """True if squeue shows this state of a job that waits, perhaps held, to start or to start again."""
    return state in _WAITING


def succeeded(state: str) -> bool:
    """True if the job's script ended with exit status 0."""
    return first_word(state) == "COMPLETED"
