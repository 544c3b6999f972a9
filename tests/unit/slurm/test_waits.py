"""Why jobs wait: what each of SLURM's reasons calls for."""

from __future__ import annotations

import pytest

from run_experiment.slurm.waits import PASSING, remedy

RESOURCES = ("BB", "Billing", "Energy", "GRES", "License", "Unknown")
# Of SLURM's page "Job Reason Codes", and of its library; without those of jobs that have ended.
REASONS = [
    "AccountNotAllowed AccountingPolicy AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpCpuLimit",
    "AssocGrpJobsLimit AssocGrpMemLimit AssocGrpMemMinutes AssocGrpMemRunMinutes AssocGrpNodeLimit",
    "AssocGrpNodeMinutes AssocGrpNodeRunMinutes AssocGrpSubmitJobsLimit AssocGrpWallLimit",
    "AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode AssocMaxJobsLimit",
    "AssocMaxMemMinutesPerJob AssocMaxMemPerJob AssocMaxMemPerNode AssocMaxNodeMinutesPerJob",
    "AssocMaxNodePerJobLimit AssocMaxSubmitJobLimit AssocMaxWallDurationPerJobLimit AssociationJobLimit",
    "AssociationResourceLimit AssociationTimeLimit BadConstraints BeginTime BurstBufferOperation",
    "BurstBufferResources BurstBufferStageIn Cleaning DeadLine Dependency DependencyNeverSatisfied FedJobLock",
    "FrontEndDown InvalidAccount InvalidQOS JobArrayTaskLimit JobHeldAdmin JobHeldUser JobHoldMaxRequeue Licenses",
    "MaxCpuPerAccount MaxJobsPerAccount MaxMemPerLimit MaxMemoryPerAccount MaxNodePerAccount",
    "MaxSubmitJobsPerAccount NodeDown None PartitionConfig PartitionDown PartitionInactive PartitionNodeLimit",
    "PartitionTimeLimit PowerNotAvail PowerReserved Priority Prolog QOSGrpCPUMinutesLimit",
    "QOSGrpCPURunMinutesLimit QOSGrpCpuLimit QOSGrpJobsLimit QOSGrpMemLimit QOSGrpMemoryMinutes",
    "QOSGrpMemoryRunMinutes QOSGrpNodeLimit QOSGrpNodeMinutes QOSGrpNodeRunMinutes QOSGrpSubmitJobsLimit",
    "QOSGrpWallLimit QOSJobLimit QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit QOSMaxCpuPerNode",
    "QOSMaxCpuPerUserLimit QOSMaxJobsPerUserLimit QOSMaxMemoryMinutesPerJob QOSMaxMemoryPerJob",
    "QOSMaxMemoryPerNode QOSMaxMemoryPerUser QOSMaxNodeMinutesPerJob QOSMaxNodePerJobLimit QOSMaxNodePerUserLimit",
    "QOSMaxSubmitJobPerUserLimit QOSMaxWallDurationPerJobLimit QOSMinCpuNotSatisfied QOSMinMemory QOSMinNode",
    "QOSNotAllowed QOSResourceLimit QOSTimeLimit QOSUsageThreshold ReqNodeNotAvail RequiresReservation Reservation",
    "ReservationDeleted Resources SchedDefer",
    *(
        f"{kind}Grp{one} {kind}Grp{one}Minutes {kind}Grp{one}RunMinutes"
        for kind in ("Assoc", "QOS")
        for one in RESOURCES
    ),
    *(f"{kind}Max{one}PerJob {kind}Max{one}MinutesPerJob" for kind in ("Assoc", "QOS") for one in RESOURCES),
    *(f"QOSMax{one}PerUser Max{one}PerAccount QOSMin{one}" for one in RESOURCES),
]
SENTENCES = [
    "job requeued in held state",
    "launch failed requeued held",
    "user env retrieval failed requeued held",
    "ReqNodeNotAvail, May be reserved for other job",
    "ReqNodeNotAvail, UnavailableNodes:n1",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
]


@pytest.mark.parametrize("reason", [*" ".join(REASONS).split(), *SENTENCES])
def test_each_of_slurms_reasons_passes_by_itself_or_has_a_way_out(reason: str) -> None:
    assert bool(remedy(reason, "17")) is not bool(PASSING.fullmatch(reason))
    assert remedy(reason.replace(" ", "_"), "17") == remedy(reason, "17")


def test_limits_that_are_used_up_are_told_from_limits_of_what_runs_at_once() -> None:
    assert "used up its time" in remedy("QOSGrpWallLimit", "17")
    assert "used up its time" in remedy("AssocGrpGRESMinutes", "17")
    assert "when other jobs" in remedy("AssocGrpGRES", "17")
    assert "when other jobs" in remedy("AssocGrpCPURunMinutesLimit", "17")
