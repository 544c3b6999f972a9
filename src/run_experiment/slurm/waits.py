"""Reasons for which a job waits that do not pass by themselves, or not soon, and what to do about each."""

from __future__ import annotations

import re

from run_experiment.slurm.job_ids import slurm_id

_RELEASE = "release it with `scontrol release {jobs}`"
# By SLURM's reason, as squeue prints it; newer versions have underscores for its blanks.
_NODES = "nodes that it needs are down, drained or reserved: `sinfo -R` and `scontrol show reservation` say why"
_REMEDIES = {
    r"JobHeldUser|job requeued in held state": f"it is held: {_RELEASE}",
    r"JobHeldAdmin": "an administrator holds it: ask them why",
    r".* requeued held": "its node could not start it: `scontrol release {jobs}` has it tried again",
    r"JobHoldMaxRequeue": f"SLURM held it after starting it too often: see its output, then {_RELEASE}",
    r"DependencyNeverSatisfied": "what it depends on failed: `scancel {jobs}`, then run the same command again",
    r"(Assoc|QOS)Grp(?!\w*Run)\w*(Minutes|Wall)\w*": "the account or QOS has used up its time: ask for more",
    r"(Assoc|QOS)Grp\w+": "it starts when other jobs of its account or QOS end, and never if it asks for more than "
    "all of them may have at once: `sacctmgr show assoc` and `sacctmgr show qos` list the limits",
    r"(Assoc|QOS)Max\w*Per(Job|Node)\w*|Partition(Time|Node)Limit|PartitionConfig|MaxMemPerLimit": "it asks for "
    "more than a job may have",
    r"(Association|QOS)TimeLimit": "it asks for more than a job may have",
    r"(Association|QOS)ResourceLimit|AccountingPolicy": "a limit of its account or QOS keeps it from starting: "
    "`sacctmgr show assoc` and `sacctmgr show qos` list them",
    r"QOSMin\w*": "it asks for less than a job of its QOS has to",
    r"QOSUsageThreshold": "the account or QOS has used more than its share: ask for more",
    r"BadConstraints": "no node has what it asks for",
    r"DeadLine": "it can no longer end before its --deadline: `scancel {jobs}`, then set a later one or none",
    r"Licenses": "it waits for a license that other jobs hold: `scontrol show licenses` lists them",
    r"RequiresReservation": "its partition takes only jobs of a reservation: name one with #SBATCH --reservation",
    r"Reservation(Deleted|Invalid)": "its reservation is gone: `scancel {jobs}`, then name another one or none",
    r"Invalid(Account|QOS)|(Account|QOS)NotAllowed": "it may not use its account or QOS here",
    r"Partition(Down|Inactive)": "its partition is closed for now: `sinfo` shows which are open",
    r"NodeDown|FrontEndDown|ReqNodeNotAvail, UnavailableNodes.*": "nodes that it needs are down or drained: "
    "`sinfo -R` says why",
    r"Reservation|ReqNodeNotAvail, Reserved for maintenance": "a reservation, such as a maintenance, comes first: "
    "`scontrol show reservation` says when it ends",
    r"ReqNodeNotAvail.*|Nodes required for job are DOWN.*": _NODES,
    r"BurstBufferOperation": "its burst buffer could not be set up: `scontrol show job {jobs}` says why",
    r"PowerNotAvail": "nodes that it needs are switched off and may not be started: `sinfo -R` says why",
}
# Reasons of SLURM's page "Job Reason Codes" for which a job waits only until others end, its time comes, or what it
# needs is ready.
PASSING = re.compile(
    r"None|Priority|Resources|Dependency|BeginTime|Prolog|Cleaning|SchedDefer|JobArrayTaskLimit|FedJobLock|"
    r"(Assoc|QOS)Max(Submit)?Jobs?\w*|AssociationJobLimit|QOSJobLimit|QOSMax\w+PerUser(Limit)?|Max\w+PerAccount|"
    r"BurstBuffer(Resources|StageIn)|PowerReserved|MPI ?Ports ?Busy"
)


def remedy(reason: str, *job_ids: str) -> str:
    """What to do about jobs that wait for this reason; empty if the wait passes by itself."""
    return _remedy(reason).format(jobs=" ".join(dict.fromkeys(map(slurm_id, job_ids))))


def is_of_each_job(reason: str) -> bool:
    """Whether the remedy names the job, so that the same one helps no other."""
    return "{jobs}" in _remedy(reason)


def _remedy(reason: str) -> str:
    plain = reason.replace("_", " ")
    return next((text for pattern, text in _REMEDIES.items() if re.fullmatch(pattern, plain)), "")
