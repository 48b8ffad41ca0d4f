"""What the store holds for every point of a command, read once and without starting anything.

Taken from: `status`, `report`, `explain`; `run` and `action=plan` ask it what is done. Gives: one entry per point,
and what could not be read.
Never does: writing; waiting for a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compiler.errors import Problem, error, format_problem
from compiler.plan import Deployment, Plan, Point
from launchers.results.frame import labels_of
from launchers.store import Standing, Store, works_on

READABLE = "make it readable, or choose another folder with output_dir=..."


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on a deployment. Null: the note in the lock does not say."""

    pid: int | None
    host: str | None
    since: str | None
    """ISO 8601, UTC."""
    job: str | None = None
    """Id of the job of Slurm that it is, or will be."""
    state: str | None = None
    """What Slurm says of that job."""

    def __str__(self) -> str:
        since = f", since {self.since.replace('T', ' ').replace('+00:00', ' UTC')}" if self.since else ""
        if self.job is not None:
            return f"job {self.job}, {self.state or 'in the queue'}{since}"
        return f"process {self.pid or '?'} on {self.host or '?'}{since}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One point that was asked for, and what is stored of it."""

    point: Point
    deployment: Deployment | None
    """Null for a point that has problems; nothing is stored of it."""
    standing: Standing
    attempts: int = 0
    """Attempts there were, as far as their folders are there."""
    folder: Path | None = None
    """Where its results are, or would be."""
    holder: Holder | None = None
    """Who measures it now."""
    double_of: str | None = None
    """The point of the same digest that was asked for before it."""
    label: str = ""
    """What to call it, so that it can be told from the others."""

    @property
    def reused(self) -> bool:
        """True when the same command would take the stored result and not measure again."""
        return self.deployment is not None and is_done(self.deployment, self.point, self.standing)


def is_done(deployment: Deployment, point: Point, standing: Standing) -> bool:
    """True when a stored result is taken and the point not measured again; with a moving image it never is."""
    return standing.status == "done" and deployment.repeatable and not point.config.get("force")


def ledger(plan: Plan, store: Store) -> list[Entry]:
    """One entry per point of the plan, in order."""
    deployments = {deployment.digest: deployment for deployment in plan.deployments}
    holders = {digest: store.holder(deployment) for digest, deployment in deployments.items()}
    seen: dict[str, Entry] = {}
    entries: list[Entry] = []
    for point in plan.points:
        if point.digest is None or point.deployment is None:
            reasons = tuple(format_problem(problem) for problem in point.problems)
            entries.append(Entry(point, None, Standing("invalid", reasons)))
        elif point.digest in seen:
            first = seen[point.digest]
            entries.append(replace(first, point=point, double_of=first.point.name))
        else:
            entry = _entry(store, deployments[point.deployment], point, holders[point.deployment])
            seen[point.digest] = entry
            entries.append(entry)
    return _labelled(entries)


def _labelled(entries: Sequence[Entry]) -> list[Entry]:
    """The same with labels: a point that has problems is called by its name."""
    known = [(entry.point, entry.deployment.name) for entry in entries if entry.deployment is not None]
    labels = iter(labels_of([(one.name, on, one.overrides, str(one.digest), 0) for one, on in known]))
    return [
        replace(entry, label=entry.point.name if entry.deployment is None else next(labels))
        for entry in entries
    ]


def unread(plan: Plan, store: Store) -> tuple[list[Problem], list[str]]:
    """What forbids to read the store at all, and what else of it cannot be read for the points of the plan."""
    for path in (store.root, store.root / "store"):
        if (reason := _reason(path)) is not None:
            return [error("output-dir", "output_dir", str(path), f"cannot be read: {reason}", READABLE)], []
    paths = [store.deployment_dir(deployment) for deployment in plan.deployments]
    paths += [store.lock_path(deployment) for deployment in plan.deployments]
    return [], list(_told(paths))


def _told(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        if (reason := _reason(path)) is not None:
            yield f"{path}: {reason}; {READABLE}"


def _reason(path: Path) -> str | None:
    """Why a file or folder that is there cannot be read; null where it can, or is not there."""
    try:
        if path.parent.name == ".locks":
            path.open("rb").close()
        else:
            os.scandir(path).close()
    except FileNotFoundError:
        return None
    except OSError as problem:
        return (problem.strerror or str(problem)).lower()
    return None


def _entry(store: Store, deployment: Deployment, point: Point, note: Mapping[str, Any] | None) -> Entry:
    standing, holder = store.recorded(deployment, point), None
    if standing.status != "done" and works_on(note, str(point.digest)):
        standing = Standing("running", (), standing.result)
        holder = _holder(note or {})
    folder = store.point_dir(deployment, point)
    return Entry(point, deployment, standing, store.attempts(deployment, point), folder, holder)


def _holder(note: Mapping[str, Any]) -> Holder:
    pid, host, since = note.get("pid"), note.get("host"), note.get("since")
    job, state = (str(note[key]) if key in note else None for key in ("job", "state"))
    return Holder(
        pid if isinstance(pid, int) else None,
        host if isinstance(host, str) else None,
        _time(since),
        job,
        state,
    )


def _time(since: Any) -> str | None:
    """Seconds since 1970 as ISO 8601; null for what is none."""
    try:
        return datetime.fromtimestamp(float(since), UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None
