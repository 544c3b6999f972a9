"""Reasons for which a job waits that do not pass by themselves, and what to do about each."""

from __future__ import annotations

import re

# By SLURM's reason, as squeue prints it.
_REMEDIES = {
    r"JobHeldUser": "it is held: release it with `scontrol release {job_id}`",
    r"JobHeldAdmin": "an administrator holds it: ask them why",
    r"launch failed requeued held": "its node could not start it: `scontrol release {job_id}` has it tried again",
    r"DependencyNeverSatisfied": "what it depends on failed: `scancel {job_id}`, then run the same command again",
    r"(Assoc|QOS)Grp(?!\w*Run)\w*Minutes\w*": "the account or QOS has used up its time: ask for more",
    r"(Assoc|QOS)Max\w*Per(Job|Node)\w*|Partition(Time|Node)Limit": "it asks for more than a job may have",
    r"BadConstraints": "no node has what it asks for",
    r"Reservation(Deleted|Invalid)": "its reservation is gone: `scancel {job_id}`, then name another one or none",
    r"Invalid(Account|QOS)|(Account|QOS)NotAllowed": "it may not use its account or QOS here",
}


def remedy(reason: str, job_id: str) -> str:
    """What to do about a job that waits for this reason; empty if the wait passes by itself."""
    found = (text for pattern, text in _REMEDIES.items() if re.fullmatch(pattern, reason))
    return next(found, "").format(job_id=job_id)
