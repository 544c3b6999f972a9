"""SLURM's job states: which of them are ends."""

from __future__ import annotations

# What squeue and sacct write once a job has no more to come, as SLURM's page "Job State Codes" lists them.
# All else counts as live, since an end that is not known must not be reported:
# - PENDING, RUNNING, SUSPENDED, and EXPEDITING of late: the base states that are no ends.
# - CONFIGURING, POWER_UP_NODE, RESIZING, SIGNALING, STOPPED, UPDATE_DB: the job holds its nodes.
# - COMPLETING, STAGE_OUT: its processes or its files are still being seen to, and the state to come is not said.
# - REQUEUED, REQUEUE_FED, REQUEUE_HOLD, RESV_DEL_HOLD, SPECIAL_EXIT: it waits, perhaps held, and starts anew.
# - LAUNCH_FAILED, RECONFIG_FAIL: flags beside a base state, which alone says whether the job waits again.
_ENDS = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        # This and PREEMPTED, too, may be followed by a new start, which accounting learns of some seconds later.
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        # A federation's other cluster took the job: on this one there is no more to come.
        "REVOKED",
        "TIMEOUT",
    }
)


def first_word(state: str) -> str:
    """The state alone: `CANCELLED` of `CANCELLED by 1000`; empty if there is none."""
    return state.partition(" ")[0]


def is_live(state: str) -> bool:
    """Whether a job in this state may still run or run again; true of states that are not known.

    Accounting calls a requeued job PREEMPTED or NODE_FAIL until it has its new start: ask the queue, too.
    """
    return first_word(state) not in _ENDS


def succeeded(state: str) -> bool:
    """Whether the job's script ended with exit status 0."""
    return first_word(state) == "COMPLETED"
