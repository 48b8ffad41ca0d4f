"""Submitting jobs: what each is to do, what Slurm says to it, and the note of it that others find.

Takes tasks and a way to submit one; leaves a note in the folder of each deployment.
Never does: submitting for a deployment that somebody else works on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compiler.sweep import Group
from launchers import submitted
from launchers.sbatch import Refused
from launchers.store import Store
from launchers.submitted import Share, Submitted


@dataclass(frozen=True, slots=True)
class Task:
    """What one job is to do."""

    groups: tuple[Group, ...]
    """One after the other; of one deployment each."""
    number: int = 1
    """Which of the jobs that measure one after the other on the same deployment."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A job that Slurm took."""

    job: str
    folder: str | None = None
    """The job's own, below `output_dir`; null: that of its deployment."""
    needs: str | None = None
    """The job that downloads for it; null: nothing had to be downloaded."""


Submit = Callable[[Task], Sent]
"""Submits a job. Raises Refused, Later."""


def submit(store: Store, tasks: Sequence[Task], how: Submit) -> list[str]:
    """Submits jobs that come one after the other on the same deployments, and notes them, with nobody else at it.

    Gives their ids. Raises Busy, StoreError; Refused when the first was, else it gives those that were taken.
    """
    points: dict[str, Group] = {}
    for task in tasks:
        for group in task.groups:
            before = points.get(group.deployment.digest)
            known = before.points if before is not None else ()
            points[group.deployment.digest] = Group(group.deployment, (*known, *group.points))
    with contextlib.ExitStack() as stack:
        for _, group in sorted(points.items()):
            stack.enter_context(store.lock(group.deployment, group.points))
        since = time.time()
        sent: list[Sent] = []
        for task in tasks:
            try:
                sent.append(how(task))
            except Refused:
                if not sent:
                    raise
                break
            _note(store, tasks[: len(sent)], sent, since)
    return [one.job for one in sent]


def _note(store: Store, tasks: Sequence[Task], sent: Sequence[Sent], since: float) -> None:
    """Writes what has been submitted by now, for each deployment."""
    shares: dict[str, list[Share]] = {}
    folders: dict[str, Path] = {}
    for task, one in zip(tasks, sent, strict=True):
        for group in task.groups:
            digests = tuple(str(point.digest) for point in group.points)
            shares.setdefault(group.deployment.digest, []).append(Share(one.job, digests))
            folders[group.deployment.digest] = store.deployment_dir(group.deployment)
    for digest, (first, *then) in shares.items():
        note = Submitted(first.job, since, first.points, sent[0].folder, tuple(then), sent[0].needs)
        submitted.write(folders[digest], note)
