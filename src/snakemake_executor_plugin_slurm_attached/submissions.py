"""A submission and the job that SLURM made of it, which know each other by the job's comment."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts.turns import withdraw
from run_experiment.common.clock import NODE_CLOCK_SKEW, now, stamp
from run_experiment.slurm import clients
from run_experiment.slurm.errors import NoAccountingError
from run_experiment.slurm.job_ids import element_of, slurm_id, submitted_id
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.ends.left_behind import attempts, has_begun, is_made, made_unseen

# Seconds for which a job may be on its way although SLURM does not show it: an sbatch that outlived its main process or
# that got no answer, an accounting that is late.
ON_ITS_WAY = 20.0
# Longest pause, in seconds, between two tries of what SLURM did not answer.
LONGEST_PAUSE = 60.0
# States beside SLURM's: of what it never accepted, and of a job that it does not know any more.
NOT_SUBMITTED, LOST = "NOT SUBMITTED", "LOST"
_MARK = "run-experiment"
# Folder of what SLURM and the jobs' commands say.
OUTPUTS = Path("logs/slurm")
# A file's name may have 255 bytes, of which the id takes some.
_MOST_OF_A_NAME = 200
# In bytes.
_LONGEST_COMMENT = 1000


def planned_submission(folder: Path, facts: Mapping[str, Any]) -> Submission:
    """The submission of a job with these facts; the queue knows it by its comment. Raises ValueError."""
    try:
        target, config_hash, name = (str(facts[fact]) for fact in ("target", "config_hash", "name"))
    except KeyError as error:
        raise ValueError(f"the job file lacks {error}") from error
    return Submission(target, config_hash, name, _comment(folder, [{target: config_hash}]), os.getuid(), stamp(now()))


def together(folder: Path, elements: Sequence[Sequence[Submission]]) -> list[Submission]:
    """Submissions that are made by one job, or by one array: with its name and its comment."""
    everything = [one for element in elements for one in element]
    comment = _comment(folder, [{one.target: one.config_hash for one in element} for element in elements])
    name = f"{everything[0].name}+{len(everything) - 1}"
    return [replace(one, name=name, comment=comment) for one in everything]


def _comment(folder: Path, elements: Sequence[Mapping[str, str]]) -> str:
    """What the queue shows of a job: the experiment, and the configuration of each target.

    Of an array it says that of all elements, which SLURM gives the same comment.
    """
    hashes = ";".join(",".join(one[:16] for one in element.values()) for element in elements)
    return f"{_MARK} {_key(folder)} {hashes} {';'.join(map(','.join, elements))}"


def _elements(comment: str) -> list[dict[str, str]]:
    """The targets that a job of ours makes, with the beginnings of their hashes, for each element if it is an array."""
    words = comment.split(" ", 3)
    if len(words) < 4:
        return []
    hashes, targets = (word.split(";") for word in words[2:])
    pairs = zip(targets, hashes, strict=False)
    return [dict(zip(target.split(","), one.split(","), strict=False)) for target, one in pairs]


def is_array(submission: Submission) -> bool:
    """Whether a submission is an element of an array, or a part of one."""
    return len(_elements(submission.comment)) > 1


def targets_of(comment: str, job_id: str = "") -> dict[str, str]:
    """The targets that a job of ours makes, with the beginnings of their configurations' hashes.

    Those of one element if the id is of one, else of all.
    """
    elements, number = _elements(comment), element_of(job_id)
    if number is not None:
        elements = elements[number - 1 : number] if number else []
    return {target: one for element in elements for target, one in element.items()}


def fits_comment(submissions: Sequence[Submission]) -> bool:
    """Whether one job can have a comment that names all; SLURM takes no longer ones."""
    return len(together(Path(), [submissions])[0].comment.encode()) <= _LONGEST_COMMENT


def dated(submission: Submission) -> Submission:
    """The same submission, made now."""
    return replace(submission, time=stamp(now()))


def find(submission: Submission) -> str | None:
    """Id of the live job of a submission: the one that it names, or any if it names none. Raises SlurmError."""
    own = [job.job_id for job in clients.queue() if job.comment == submission.comment]
    ids = [with_id(submission, job_id).job_id for job_id in own if _makes(job_id, submission)]
    return next((job_id for job_id in ids if submission.job_id in (None, job_id)), None)


def _makes(job_id: str, submission: Submission) -> bool:
    """Whether a job with the comment of a submission makes its target: elements of an array have one comment."""
    return element_of(job_id) is None or submission.target in targets_of(submission.comment, job_id)


def find_submitted(submission: Submission) -> str | None:
    """The id that sbatch gave for a submission, if its job is live, or another element of its array.

    Raises SlurmError.
    """
    own = (job for job in clients.queue() if job.comment == submission.comment)
    return next((submitted_id(job.job_id) for job in own), None)


def cancel(submissions: Collection[Submission]) -> None:
    """Cancel live jobs, but none that only has the id of one that SLURM forgot. Raises SlurmError."""
    wanted = {(slurm_id(submission.job_id), submission.comment) for submission in submissions}
    clients.cancel([job.job_id for job in clients.queue() if (job.job_id, job.comment) in wanted])


def cancel_for(folder: Path, submission: Submission) -> bool:
    """End what a live job does for a target; returns whether the job itself was cancelled. Raises SlurmError, OSError.

    A job that makes others, too, and has not begun with this one or is done with it, goes on without it.
    """
    if _is_shared(submission) and (_is_over(folder, submission) or _is_withdrawn(folder, submission)):
        return False
    cancel([submission])
    return True


def _is_shared(submission: Submission) -> bool:
    return slurm_id(submission.job_id) != submission.job_id


def _is_withdrawn(folder: Path, submission: Submission) -> bool:
    """Withdraw a target from its job, unless that has begun with it: an attempt shows this if its note was removed."""
    return not has_begun(folder, submission) and withdraw(folder, str(submission.job_id))


def _is_over(folder: Path, submission: Submission) -> bool:
    """Whether a job has made a target, or failed to."""
    return is_made(folder, submission) or bool(attempts(folder, submission))


def with_id(submission: Submission, job_id: str) -> Submission:
    """The submission as SLURM accepted it, by the id of its job, or of any element of its array."""
    elements = _elements(submission.comment)
    own = next((number for number, element in enumerate(elements, 1) if submission.target in element), None)
    if own is None:
        return replace(submission, job_id=slurm_id(job_id))
    targets = list(elements[own - 1])
    element = f"_{own}" if len(elements) > 1 else ""
    place = f"+{targets.index(submission.target) + 1}" if len(targets) > 1 else ""
    return replace(submission, job_id=f"{submitted_id(job_id)}{element}{place}")


def note_settled(ledger: Ledger, submission: Submission, state: str) -> None:
    """Note how a job ended, or that there never was one."""
    # Who starts again finds out anew what could not be noted.
    with suppress(OSError):
        ledger.settled(submission.target, submission.job_id or "", state)


def output_of(folder: Path, submission: Submission) -> Path:
    """File of what SLURM and the job's command say; the job's script has a log of its own."""
    unknown = "%A_%a" if is_array(submission) else "%j"
    return folder / OUTPUTS / f"{submission.name[:_MOST_OF_A_NAME]}-{slurm_id(submission.job_id or unknown)}.out"


def find_ended(folder: Path, submission: Submission, ledger: Ledger) -> Submission:
    """A submission of unknown id, with that of the job that it brought and that has ended, if it did.

    A job of the same name that the ledger knows is another one: times alone would not tell, since SLURM's clock may
    differ from ours. Raises SlurmError, OSError.
    """
    if submission.job_id:
        return submission
    others = ledger.other_jobs(submission)
    found = made_unseen(folder, submission, others)
    if found.job_id:
        return found
    try:
        since = datetime.fromisoformat(submission.time) - NODE_CLOCK_SKEW
        job_ids = clients.accounted_ids(submission.name, folder, since)
    except NoAccountingError:
        return submission
    known = set(map(submitted_id, others))
    new = [job_id for job_id in job_ids if job_id not in known]
    return with_id(submission, new[-1]) if new else submission


def is_own(folder: Path, comment: str) -> bool:
    """Whether a job was submitted from this folder: a copied folder has the ledger of the original."""
    words = comment.split(" ", 3)
    return len(words) == 4 and words[:2] == [_MARK, _key(folder)]


def on_its_way(submission: Submission) -> float:
    """Seconds for which an sbatch may still bring a job that was meant to be submitted."""
    age = time.time() - datetime.fromisoformat(submission.time).timestamp()
    return max(0.0, ON_ITS_WAY - age) if age >= 0 else ON_ITS_WAY


def _key(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]
