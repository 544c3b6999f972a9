"""What SLURM's clients complain of, as exceptions: which requests may succeed later, and which may have succeeded."""

from __future__ import annotations

import re

from run_experiment.slurm.client_process import ClientResult

# A limit on how many jobs wait or run. The words that follow it name limits on a job's size, too, which stay.
_SUBMIT_LIMITS = {
    r"(QOS|Assoc)(Max|Grp)SubmitJob\w*Limit": "jobs of the user, the account or the QOS have to end first",
}
# Errors that may pass by themselves, and why. The request was not carried out.
_PASSING = {
    r"temporarily unable to accept job|Resource temporarily unavailable": "slurmctld has as many jobs as it can hold",
    r"Unable to contact slurm controller": "slurmctld restarts, or is too busy to answer",
    r"standby mode": "the backup controller has not taken over yet",
    r"persist(ent)?[ _]conn|PersistInit|Problem talking to the database": "slurmdbd restarts, or is too busy to answer",
    r"Unable to connect to database|Database connection reference is invalid": "slurmdbd is without its data base",
    r"Connection (refused|reset|closed)|Broken pipe|No route to host|Network is unreachable": "a host restarts",
    r"Temporary failure in name resolution|Unable to resolve": "the name server does not answer",
    r"failed to fetch config|cannot stat file .*slurm\.conf": "the file server or slurmctld, which have slurm.conf",
    r"[Mm]unge \w*code failed|Protocol authentication error": "munged restarts, or is too busy to answer",
    r"(rate|RPC) limit": "slurmctld asks to be asked less often",
    r"System submissions disabled": "an administrator has stopped submissions",
    r"I/O error writing script/environment to file|Unable to create job record": "slurmctld's disk or memory is full",
}
# Errors that pass with a maintenance, perhaps hours later; requests for other partitions, nodes or reservations may
# succeed before.
_UNAVAILABLE = {
    r"Required partition not available|Requested partition configuration not available now|Partition in DOWN state": (
        "the partition is drained or inactive"
    ),
    r"Required node not available|Nodes required for job are DOWN|Requested nodes are busy": "nodes have to come back",
    r"Requested reservation not usable now": "the reservation has not begun",
}
# As above, but the request may have been carried out, or may be later.
_UNANSWERED = {
    r"timed out": "an answer took longer than MessageTimeout",
    r"Zero Bytes were transmitted": "the connection was closed early",
    r"Message (send|receive) failure|Communication (connection|shutdown) failure|Insane message length": "likewise",
}


class SlurmError(Exception):
    """A request that SLURM refused, or a client that could not be run; in the client's own words."""


class PassingError(SlurmError):
    """A request that may succeed later. A submission may have been accepted nevertheless: look before the next."""


class UnavailableError(PassingError):
    """A request that SLURM does not accept now because of what it asks for; others may be accepted before."""


class SubmitLimitError(PassingError):
    """A request for more jobs than the user, the account or the QOS may have now."""


class NoAccountingError(SlurmError):
    """The cluster keeps no accounts of jobs."""


class UnansweredError(PassingError):
    """A request that SLURM may carry out after we gave up waiting."""


def error_of(client: str, result: ClientResult) -> SlurmError:
    """The error that a client reports, in its own words."""
    words = result.errors.strip() or result.output.strip() or f"{client} ended with exit status {result.returncode}"
    kinds = (
        (UnansweredError, _UNANSWERED),
        (UnavailableError, _UNAVAILABLE),
        (SubmitLimitError, _SUBMIT_LIMITS),
        (PassingError, _PASSING),
    )
    for kind, patterns in kinds:
        if any(re.search(pattern, words) for pattern in patterns):
            return kind(words)
    return SlurmError(words)
