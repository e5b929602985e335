"""What of a sweep was given to a queue: which jobs wait there, and their end.

Each submission is a file of its own in the sweep's folder, so that no two machines write the same one.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from roga_domainbed.errors import Failed
from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, read_json
from roga_domainbed.launch import Job, slurm_commands
from roga_domainbed.launch.task import FOLDER

_LARGEST = 2**28  # bytes of a submission's file


@dataclass(frozen=True)
class Submission:
    """A job array in a queue.

    Attributes:
        id: of the array, or of a single job.
        cluster: its name; empty where it is not known.
        host: where it was submitted.
        at: Unix time in seconds.
        tasks: the names of each task's job folders.
    """

    id: str
    cluster: str
    host: str
    at: float
    tasks: tuple[tuple[str, ...], ...]

    def is_queued(self, task: int, places: Collection[str]) -> bool:
        """Whether ``task`` is among ``places``, as ``slurm_commands.queued`` gives them."""
        return f"{self.id}_{task}" in places or (len(self.tasks) == 1 and self.id in places)


def keep(folder: str | os.PathLike, id: str, cluster: str, tasks: Iterable[Sequence[Job]]) -> Submission:
    """Note in the sweep's folder what was submitted.

    Raises:
        OSError: it cannot be written.
    """
    names = tuple(tuple(job.id for job in task) for task in tasks)
    submission = Submission(id, cluster, socket.gethostname(), time.time(), names)
    with replacing(_path(folder, submission), durable=True) as partial:
        partial.write_text(json.dumps(asdict(submission)), encoding="utf-8")
    return submission


def submissions(folder: str | os.PathLike) -> list[Submission]:
    """Those of the sweep in ``folder`` that were not cancelled; files that are none are passed over."""
    found = []
    for path in sorted(Path(folder, FOLDER).glob("submission-*.json")):
        try:
            fields = read_json(path, dict, at_most=_LARGEST)
            tasks = tuple(tuple(map(str, task)) for task in fields["tasks"])
            found.append(Submission(**{**fields, "tasks": tasks}))
        except (OSError, Malformed, KeyError, TypeError):
            continue
    return found


def waiting(folder: str | os.PathLike) -> set[str]:
    """The names of the job folders whose tasks are in a queue, waiting or at work.

    Where the queue does not answer, or is another cluster's: of all that were ever submitted.
    """
    found = submissions(folder)
    if not found:
        return set()
    here = _here()
    ours = [submission for submission in found if submission.cluster == here]
    try:
        places = slurm_commands.queued(submission.id for submission in ours)
    except slurm_commands.NoAnswer:
        ours, places = [], set()
    is_ours = {submission.id for submission in ours}
    names: set[str] = set()
    for submission in found:
        unknown = submission.cluster != here or submission.id not in is_ours
        for index, task in enumerate(submission.tasks):
            if unknown or submission.is_queued(index, places):
                names.update(task)
    return names


def cancel(folder: str | os.PathLike) -> int:
    """Take everything of the sweep out of the queue; how many submissions there were.

    Jobs at work are sent SIGTERM and end with a checkpoint.

    Raises:
        Failed: some could not be cancelled from this machine.
    """
    found, here = submissions(folder), _here()
    ours = [submission for submission in found if submission.cluster == here]
    problem = ""
    if ours:
        try:
            slurm_commands.cancel(submission.id for submission in ours)
        except slurm_commands.NoAnswer as error:
            problem, ours = f" ({error})", []
    for submission in ours:
        _path(folder, submission).unlink(missing_ok=True)
    left = [submission for submission in found if submission not in ours]
    if left:
        where = {f"{each.host}{f' (cluster {each.cluster})' if each.cluster else ''}" for each in left}
        raise Failed(
            f"not cancelled{problem}: scancel {' '.join(each.id for each in left)}, submitted on "
            f"{', '.join(sorted(where))}; run it there"
        )
    return len(found)


def _here() -> str | None:
    """The name of this machine's cluster; None without one."""
    try:
        return slurm_commands.config().get("ClusterName", "")
    except slurm_commands.NoAnswer:
        return None


def _path(folder: str | os.PathLike, submission: Submission) -> Path:
    return Path(folder, FOLDER, f"submission-{submission.cluster}-{submission.id}.json")
