"""What runs leave behind, and what counts as done.

    <root>/store/<deployment>/plan.json, and every emitted file
    <root>/store/<deployment>/<point>/attempts/<n>/   logs, raw tool output, events, result.json
    <root>/store/<deployment>/<point>/result.json     written last and atomically
    <root>/store/.locks/<deployment>                  held while a session works on the deployment
    <root>/allocations/<deployments>/                 script and logs of jobs for several deployments
    <root>/sweeps/<time>/                             sweep.json, results.csv, trajectory.csv, report.html

Takes deployments, points and results; gives folders, statuses and results.
Never does: deciding what to run, or calling anything done that is not a readable, valid result of that point.

A folder is found by the short digest at its end: names are for people, and the same point may be asked for
under another name.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compiler.digest import digest, short
from compiler.plan import Deployment, Point, Status
from launchers import deployed, submitted
from launchers.atomic import StoreError, as_json, guarded, write_atomically
from launchers.lock import Busy, Lock
from launchers.results.result import Result
from launchers.standing import (
    RESULT,
    Standing,
    attempt_numbers,
    last_result,
    read_result,
    recorded,
    standing_of,
)

__all__ = [
    "RESULT",
    "Attempt",
    "Busy",
    "Lock",
    "Standing",
    "Store",
    "StoreError",
    "as_json",
    "read_result",
    "slug",
    "standing_of",
    "works_on",
    "write_atomically",
    "write_job",
]

OWN_FILES = frozenset({"plan.json", "run.sh", "lmcache.yaml", "events.jsonl", deployed.NAME})
"""Files of a deployment's folder."""
SWEEP = "SERVIX_SWEEP"
"""Environment variable that names the folder of a command which was left to a process of its own."""
LONGEST_SLUG = 64


@dataclass(frozen=True, slots=True)
class Attempt:
    """A fresh folder that no other writer has."""

    number: int
    """Counts from 1."""
    folder: Path


class Store:
    """The outputs of all runs under one root. Nothing is created before something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, tuple[int, dict[str, Path]]] = {}

    def deployment_dir(self, deployment: Deployment) -> Path:
        """The folder of a deployment; it may not exist yet."""
        return self._folder(self.root / "store", deployment.name, deployment.digest)

    def point_dir(self, deployment: Deployment, point: Point) -> Path:
        """The folder of a point; it may not exist yet. Raises ValueError for a point that has no digest."""
        return self._folder(self.deployment_dir(deployment), point.name, _digest(point))

    def events_path(self, deployment: Deployment) -> Path:
        """The event log of a deployment; it may not exist yet."""
        return self.deployment_dir(deployment) / "events.jsonl"

    def write_deployment(self, deployment: Deployment, files: Mapping[str, str]) -> Path:
        """The deployment's folder, holding `files` (relative path -> text). Scripts (`#!`) are executable.

        Raises StoreError when it cannot be written, ValueError for a path that leaves the folder.
        """
        folder = self.deployment_dir(deployment)
        for name, text in files.items():
            path = folder / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name!r} leaves the deployment's folder")
            write_atomically(path, text, mode=0o777 if text.startswith("#!") else 0o666)
        return folder

    def job_dir(self, deployments: Sequence[Deployment]) -> Path:
        """The folder of a job: that of its deployment, or one of its own for several; it may not exist yet."""
        if len(deployments) == 1:
            return self.deployment_dir(deployments[0])
        key = digest({"deployments": sorted(one.digest for one in deployments)})
        return self.root / "allocations" / f"{len(deployments)}-deployments-{short(key)}"

    def write_job(self, deployments: Sequence[Deployment], files: Mapping[str, str]) -> Path:
        """The same folder, holding `files` (name -> text). Raises StoreError."""
        return write_job(self.job_dir(deployments), files)

    def new_attempt(self, deployment: Deployment, point: Point) -> Attempt:
        """The next attempt at a point. Two callers never get the same one. Raises StoreError."""
        parent = self.point_dir(deployment, point) / "attempts"
        with guarded(parent):
            parent.mkdir(parents=True, exist_ok=True)
            number = max(attempt_numbers(parent), default=0)
            while True:
                number += 1
                folder = parent / str(number)
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    return Attempt(number, folder)

    def write_result(self, deployment: Deployment, point: Point, result: Result, final: bool = True) -> Path:
        """The point's `result.json`, after the attempt's own. A valid one stays if the new one is not.

        An attempt that is not `final` is about to be made again: nothing has come of the point yet.

        Raises StoreError when it cannot be written, ValueError for the result of another point.
        """
        if result.point_digest != _digest(point):
            raise ValueError(f"result of point {result.point_digest} given for {point.digest}")
        folder = self.point_dir(deployment, point)
        text = as_json(result.to_json())
        write_atomically(folder / "attempts" / str(result.attempt) / RESULT, text)
        standing = self.recorded(deployment, point)
        if final and (result.verdict.valid or standing.status != "done"):
            write_atomically(folder / RESULT, text)
        elif standing.note and standing.result is not None:
            write_atomically(folder / RESULT, as_json(standing.result.to_json()))
        return folder / RESULT

    def mend(self, deployment: Deployment, point: Point) -> None:
        """Writes a lost `result.json` again, from the attempt that counts; not while somebody works there."""
        lock = self.lock(deployment, (point,))
        # The point is done all the same: a store that may only be read is no trouble.
        with contextlib.suppress(StoreError):
            try:
                standing = self.recorded(deployment, point) if lock.take() else Standing("new")
                if standing.note and standing.result is not None:
                    folder = self.point_dir(deployment, point)
                    write_atomically(folder / RESULT, as_json(standing.result.to_json()))
            finally:
                lock.__exit__()

    def result(self, deployment: Deployment, point: Point) -> Result | None:
        """The last result of a point, valid or not; null when there is none that can be read."""
        return self.look(deployment, point).result

    def status(self, deployment: Deployment, point: Point) -> Status:
        """`done` (a valid result is there), `running` (a session holds it), `invalid`, `failed` or `new`."""
        return self.look(deployment, point).status

    def look(self, deployment: Deployment, point: Point) -> Standing:
        """Status, reasons and last result of a point. A cut or foreign file is never done.

        Where the point's own is lost, the newest valid attempt counts, and `note` says so.

        The result carries the name and the overrides of `point`: it may have been measured under another name.
        """
        standing = self.recorded(deployment, point)
        if standing.status != "done" and works_on(self.holder(deployment), _digest(point)):
            return Standing("running", (), standing.result)
        if standing.note and self.holder(deployment) is not None:
            # Whoever works there is just between an attempt's file and the point's.
            return replace(standing, note="")
        return standing

    def recorded(self, deployment: Deployment, point: Point) -> Standing:
        """The same without asking who works on it: never `running`."""
        standing = recorded(self.point_dir(deployment, point), point)
        if standing.status == "done":
            return standing
        since = standing.result.finished_at if standing.result is not None else None
        why = submitted.why_over(self.deployment_dir(deployment), _digest(point), since)
        return standing if why is None else Standing("failed", (why,), standing.result)

    def holder(self, deployment: Deployment) -> dict[str, Any] | None:
        """Who works on the deployment now (`pid`, `host`, `points`, ...), or is to (`job`); null when nobody does."""
        found = Lock(self.lock_path(deployment), is_over=submitted.is_over).holder()
        job = submitted.holder(self.deployment_dir(deployment))
        if job is None and found is None:
            job = deployed.holder(self.deployment_dir(deployment))
        return found if job is None else {**(found or {}), **job}

    def latest(self, deployment: Deployment, point: Point) -> Result | None:
        """What came of a point at last, also where an older valid result stays; null when nothing came of it."""
        kept = self.recorded(deployment, point).result
        if kept is None or not kept.verdict.valid:
            return kept
        parent = self.point_dir(deployment, point) / "attempts"
        number = max(attempt_numbers(parent), default=0) if parent.is_dir() else 0
        found = read_result(parent / str(number) / RESULT)
        return found if isinstance(found, Result) else kept

    def attempts(self, deployment: Deployment, point: Point) -> int:
        """How many attempts at a point there were, as far as they are still there."""
        try:
            return len(attempt_numbers(self.point_dir(deployment, point) / "attempts"))
        except OSError:
            return 0

    def lock(
        self, deployment: Deployment, points: tuple[Point, ...] = (), timeout_s: float | None = 0
    ) -> Lock:
        """The right to work on a deployment, as a context manager; released when the process dies.

        `points` are shown as `running` to others (none: all of the deployment). Waits up to `timeout_s`
        (null: as long as it takes), then raises Busy. What was `running` may be `done` then: look again.
        """
        digests = [_digest(point) for point in points]
        note = {"points": digests, "deployment": deployment.name, **submitted.own_note()}
        return Lock(self.lock_path(deployment), note, timeout_s, submitted.is_over)

    def new_sweep(self) -> Path:
        """A fresh folder for one command, named after the time (UTC), never shared. Raises StoreError."""
        if (given := os.environ.pop(SWEEP, None)) is not None and Path(given).is_dir():
            return Path(given)
        parent = self.root / "sweeps"
        name = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
        with guarded(parent):
            parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", *(f"_{number}" for number in range(2, 10_000))):
                with contextlib.suppress(FileExistsError):
                    folder = parent / f"{name}{suffix}"
                    folder.mkdir()
                    return folder
        raise StoreError(parent, "10000 sweeps in one second", "wait a second")

    def results(self) -> list[Result]:
        """The last result of every point of every deployment, oldest first; unreadable ones are left out."""
        folders = {
            path.parent for name in (RESULT, "attempts") for path in self.root.glob(f"store/*/*/{name}")
        }
        found = [last_result(folder) for folder in folders]
        return sorted((r for r in found if r is not None), key=lambda r: (r.started_at, r.point_name))

    def lock_path(self, deployment: Deployment) -> Path:
        """The file that is locked while a session works on the deployment."""
        return self.root / "store" / ".locks" / short(deployment.digest)

    def _folder(self, parent: Path, name: str, digest: str) -> Path:
        """`<parent>/<slug>-<short digest>`: this one or, where it is not there, one with another slug."""
        there, usual = self._list(parent), f"{slug(name)}-{short(digest)}"
        return there.get(usual) or there.get(short(digest)) or parent / usual

    def _list(self, parent: Path) -> dict[str, Path]:
        """Name and short digest -> folder. Kept while the parent is unchanged: plans ask for thousands of points."""
        try:
            changed = parent.stat().st_mtime_ns
            kept = self._listed.get(parent)
            if kept is None or kept[0] != changed:
                with os.scandir(parent) as entries:
                    names = sorted(entry.name for entry in entries if entry.is_dir())
                found = {key: parent / name for name in names for key in (name.rpartition("-")[2], name)}
                kept = (changed, found)
                self._listed[parent] = kept
        except OSError:
            return {}
        return kept[1]


def write_job(folder: Path, files: Mapping[str, str]) -> Path:
    """The folder of a job, holding `files`, and that of its log: Slurm makes none. Raises StoreError."""
    for name, text in files.items():
        write_atomically(folder / name, text, mode=0o777 if text.startswith("#!") else 0o666)
    with guarded(folder / "jobs"):
        (folder / "jobs").mkdir(exist_ok=True)
    return folder


def works_on(holder: Mapping[str, Any] | None, digest: str) -> bool:
    """True when who holds a deployment's lock measures the point of that digest."""
    if holder is None:
        return False
    points = holder.get("points")
    return not isinstance(points, list) or not points or digest in points


def slug(name: str) -> str:
    """A name that is safe in a path and in a shell; "point" when nothing is left of it.

    >>> slug("aiperf.concurrency=2, a/b")
    'aiperf.concurrency=2-a-b'
    """
    plain = re.sub(r"[^A-Za-z0-9._=]+", "-", name).strip("-.")
    return plain[:LONGEST_SLUG].strip("-.") or "point"


def _digest(point: Point) -> str:
    if point.digest is None:
        raise ValueError(f"point {point.name!r} has problems and no digest")
    return point.digest
