"""Reasons for which a job waits that do not pass by themselves, or not soon, and what to do about each."""

from __future__ import annotations

import re

from run_experiment.slurm.job_ids import slurm_id

_RELEASE = "release it with `scontrol release {job_id}`"
# By SLURM's reason, as squeue prints it; newer versions have underscores for its blanks.
_REMEDIES = {
    r"JobHeldUser|job requeued in held state": f"it is held: {_RELEASE}",
    r"JobHeldAdmin": "an administrator holds it: ask them why",
    r"(launch|user env retrieval) failed requeued held": "its node could not start it: `scontrol release {job_id}` "
    "has it tried again",
    r"JobHoldMaxRequeue": f"SLURM held it after starting it too often: see its output, then {_RELEASE}",
    r"DependencyNeverSatisfied": "what it depends on failed: `scancel {job_id}`, then run the same command again",
    r"(Assoc|QOS)Grp(?!\w*Run)\w*Minutes\w*": "the account or QOS has used up its time: ask for more",
    r"(Assoc|QOS)Max\w*Per(Job|Node)\w*|Partition(Time|Node)Limit": "it asks for more than a job may have",
    r"(Association|QOS)TimeLimit": "it asks for more than a job may have",
    r"QOSMin\w*": "it asks for less than a job of its QOS has to",
    r"QOSUsageThreshold": "the account or QOS has used more than its share: ask for more",
    r"BadConstraints": "no node has what it asks for",
    r"Reservation(Deleted|Invalid)": "its reservation is gone: `scancel {job_id}`, then name another one or none",
    r"Invalid(Account|QOS)|(Account|QOS)NotAllowed": "it may not use its account or QOS here",
    r"Partition(Down|Inactive)": "its partition is closed for now: `sinfo` shows which are open",
    r"NodeDown|ReqNodeNotAvail, UnavailableNodes.*": "nodes that it needs are down or drained: `sinfo -R` says why",
    r"Reservation|ReqNodeNotAvail, Reserved for maintenance": "a reservation, such as a maintenance, comes first: "
    "`scontrol show reservation` says when it ends",
}


def remedy(reason: str, job_id: str) -> str:
    """What to do about a job that waits for this reason; empty if the wait passes by itself."""
    plain = reason.replace("_", " ")
    found = (text for pattern, text in _REMEDIES.items() if re.fullmatch(pattern, plain))
    return next(found, "").format(job_id=slurm_id(job_id))
