"""The note that a deployment's job is submitted, and what it is to measure.

    <deployment>/submitted.json    from before the job is submitted until its end has been seen

Taken from: `slurm`, which writes it, and `store`, for which a submitted job works on its deployment.
Never does: believing that a job lives because a note is there. Slurm says that.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from compiler.batch import SCHEMA as WORK_SCHEMA
from compiler.batch import WORK
from compiler.plan import Plan
from compiler.plan_json import from_json
from launchers.atomic import as_json, write_atomically
from launchers.queue import Ended, InQueue, Queue, Silent, ended, reason
from launchers.results.tail import tail

NAME = "submitted.json"
SCHEMA = "servix.submitted/1"
LINES = 50
ERROR = "error: "
"""How a line of a log starts that says why a job of ours has failed."""
_QUEUE = Queue()


@dataclass(frozen=True, slots=True)
class Share:
    """What of a deployment one job is to measure."""

    job: str
    points: tuple[str, ...]
    """Digests."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was submitted, and those that follow it on the same deployment."""

    job: str
    since: float
    """Seconds since 1970: before that nothing can be its result."""
    points: tuple[str, ...]
    """Digests of what it is to measure."""
    folder: str | None = None
    """The job's own, below `output_dir`; null: that of the deployment."""
    then: tuple[Share, ...] = ()
    """Jobs that wait for it, in their order."""
    needs: str | None = None
    """The job that downloads for it; null: nothing had to be downloaded."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """All jobs, in the order they run."""
        return (Share(self.job, self.points), *self.then)

    @property
    def jobs(self) -> list[str]:
        """Their ids."""
        return [share.job for share in self.shares]


def read(folder: Path) -> Submitted | None:
    """The job of a deployment; null where there is none, or the note cannot be read."""
    try:
        data = json.loads((folder / NAME).read_bytes())
        first, *then = [_share(entry) for entry in (data, *data.get("then", ()))]
        home, needs = (value and str(value) for value in (data.get("folder"), data.get("needs")))
        return Submitted(first.job, float(data["since"]), first.points, home, tuple(then), needs)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _share(data: Mapping[str, Any]) -> Share:
    return Share(str(data["job"]), tuple(map(str, data["points"])))


def write(folder: Path, submitted: Submitted) -> None:
    """Raises StoreError."""
    write_atomically(folder / NAME, as_json({"schema": SCHEMA, **asdict(submitted)}))


def remove(folder: Path) -> None:
    """The end of the job has been seen."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).unlink()


@dataclass(frozen=True, slots=True)
class Todo:
    """What a job is to do."""

    plan: Plan
    srun_args: tuple[str, ...]
    """Words for every srun."""
    images: Mapping[str, str]
    """Image -> the squash file that it was imported into."""


def work(folder: Path, name: str = WORK) -> Todo:
    """Reads it. Raises OSError, ValueError for a file of another form."""
    path = folder / name
    data = json.loads(path.read_bytes())
    if not isinstance(data, dict) or data.get("schema") != WORK_SCHEMA:
        raise ValueError(f"{path} is not of the form {WORK_SCHEMA}")
    images = {str(image): str(file) for image, file in data.get("images", {}).items()}
    return Todo(from_json(data["plan"]), tuple(str(word) for word in data["srun_args"]), images)


def look(submitted: Submitted) -> tuple[str, InQueue] | None:
    """The first of the jobs that are in the queue, and how it is there; null where none is. Raises `queue.Silent`."""
    states = ((job, _QUEUE.look(job)) for job in submitted.jobs)
    return next(((job, state) for job, state in states if state is not None), None)


def why_over(folder: Path, point: str, since: str | None) -> str | None:
    """Why the job that was to measure a point is over, when nobody has seen its end yet; null where that is not so.

    `since` is when the point's last result was finished, in ISO 8601; null without one.
    """
    note = read(folder)
    if note is None or os.environ.get("SLURM_JOB_ID") in note.jobs:
        return None
    job = next((share.job for share in note.shares if point in share.points), None)
    if job is None:
        return None
    if since is not None and datetime.fromisoformat(since).timestamp() >= note.since:
        return None
    try:
        if _QUEUE.look(job) is not None:
            return None
    except Silent:
        return None
    if note.needs is not None and _ended(note.needs).is_failure:
        return not_downloaded(folder.parents[1], note.needs)
    return reason(job, _ended(job))


def not_downloaded(root: Path, job: str) -> str:
    """Why a job that was to download for others has not, in its own words where it had any."""
    folder = home_of_download(root, job)
    lines = tail(folder / "jobs" / f"{job}.log", LINES).splitlines() if folder is not None else []
    told = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return f"not downloaded: {f'{told[-1]} (job {job})' if told else reason(job, _ended(job))}"


def home_of_download(root: Path, job: str) -> Path | None:
    """The folder of a job that downloads, below `output_dir`."""
    return next((path.parents[1] for path in root.glob(f"prefetch/*/jobs/{job}.log")), None)


@cache
def _ended(job: str) -> Ended:
    return ended(job)


def own_note() -> dict[str, str]:
    """What the lock of a session in a job says of it, beside its process."""
    job = os.environ.get("SLURM_JOB_ID")
    return {} if job is None else {"slurm_job": job}


def is_over(note: Mapping[str, Any]) -> bool:
    """Whether the session that left this note in a lock was in a job that is over, or in a life before ours."""
    job = note.get("slurm_job")
    if not isinstance(job, str):
        return False
    if job == os.environ.get("SLURM_JOB_ID"):
        return True
    try:
        return _QUEUE.look(job) is None
    except Silent:
        return False


def holder(folder: Path) -> Mapping[str, Any] | None:
    """The job as who works on the deployment, like the note of a lock; null when no job does.

    A job that Slurm does not tell of is taken as alive: what is submitted twice is measured twice.
    """
    found = read(folder)
    # Who asks from within the job is the job.
    if found is None or os.environ.get("SLURM_JOB_ID") in found.jobs:
        return None
    try:
        current = look(found)
    except Silent:
        current = (found.job, InQueue("UNKNOWN", "", ""))
    if current is None:
        return None
    job, state = current
    # Those before it are over.
    left = found.shares[found.jobs.index(job) :]
    points = [point for share in left for point in share.points]
    return {"job": job, "state": str(state), "since": found.since, "points": points}
