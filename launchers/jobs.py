"""The jobs of one command: submitted within a limit, followed while they are in the queue, settled when they are over.

Takes groups and a way to submit one; shows what the sessions in the jobs write to their event logs.
Never does: measuring; ending a job; taking the word of Slurm for a result.

A job that ends leaves a result for every point it was to measure: its session writes them, and for those it did not
come to, a failed one is written here, with the reason that Slurm gives and the end of the job's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from compiler.plan import Point
from compiler.search import is_searched
from compiler.sweep import Group
from launchers import queue, session, submitted
from launchers.display import Display, View
from launchers.events import EventLog
from launchers.follow import Follower
from launchers.lock import Busy
from launchers.refusal import Trouble
from launchers.results.result import Result
from launchers.results.tail import tail
from launchers.store import Store
from launchers.submitted import Submitted
from launchers.turns import Wishes

POLL_S = 0.2
LINES = 20
LOCK_S = 30.0

Submit = Callable[[Group], str]
"""Submits the job of a group; gives its id. Raises Refused."""


class Refused(Trouble):
    """Slurm did not take the job; the message is Slurm's."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A group that is not done."""

    group: Group
    follower: Follower
    view: View
    tried: bool = False
    """Its job was submitted by this command, or was refused."""
    job: str | None = None
    """The job that is followed."""
    state: str = ""
    """What was last told of it."""


class Jobs:
    """The groups of one command."""

    def __init__(self, store: Store, wishes: Wishes, display: Display, submit: Submit, limit: int) -> None:
        self.results: dict[str, Result] = {}
        """What was measured for this command, by the point's digest."""
        self._store, self._wishes, self._display, self._submit = store, wishes, display, submit
        self._limit = limit
        self._waiting: list[_Entry] = []

    @property
    def alive(self) -> list[str]:
        """Ids of jobs that are in the queue, as far as is known."""
        return [entry.job for entry in self._waiting if entry.job is not None]

    async def take(self, groups: Sequence[Group]) -> None:
        """Returns when nothing is left to do for any group. Groups of one deployment come one after the other."""
        later: dict[str, list[Group]] = {}
        for group in groups:
            later.setdefault(group.deployment.digest, []).append(group)
        self._waiting = [self._entry(parts.pop(0)) for parts in later.values()]
        while self._waiting:
            over = [entry for entry in self._waiting if self._over(entry)]
            rest = [later[entry.group.deployment.digest] for entry in over]
            self._waiting = [entry for entry in self._waiting if entry not in over]
            self._waiting += [self._entry(parts.pop(0)) for parts in rest if parts]
            if self._waiting:
                await asyncio.sleep(POLL_S)

    def _entry(self, group: Group) -> _Entry:
        follower = Follower(self._store.events_path(group.deployment))
        return _Entry(group, follower, self._display.of(group.deployment))

    def _folder(self, entry: _Entry) -> Path:
        return self._store.deployment_dir(entry.group.deployment)

    def _over(self, entry: _Entry) -> bool:
        """One look at a group: true when nothing is left to do for it."""
        note = submitted.read(self._folder(entry))
        if note is not None:
            try:
                state = submitted.look(note)
            except queue.Silent as silent:
                self._say(entry, f"Slurm does not answer: {silent}")
                return False
            if state is not None:
                self._follow(entry, note, str(state))
                return False
            self._settle(entry, note)
        if self._is_held(entry):
            return False
        wanted = self._wanted(entry)
        if not wanted or entry.tried:
            self._collect(entry)
            return True
        if len(self.alive) < self._limit:
            self._start(entry, wanted)
        return False

    def _wanted(self, entry: _Entry) -> list[Point]:
        deployment, choose = entry.group.deployment, self._wishes.choose
        if choose is not None and choose()([]) is None:
            return []
        return [point for point in entry.group.points if self._wishes.wanted(deployment, point)]

    def _start(self, entry: _Entry, points: Sequence[Point]) -> None:
        deployment = entry.group.deployment
        entry.tried = True
        entry.follower.look(lambda _: None)
        try:
            note = submit(self._store, Group(deployment, tuple(points)), self._submit)
        except Busy:
            entry.tried = False
            return
        except Refused as refused:
            with self._log(entry) as tell:
                session.fail(deployment, points, self._store, tell, (f"sbatch refused the job: {refused}",))
            return
        entry.job = note.job
        self._say(entry, f"job {note.job} is submitted")

    def _follow(self, entry: _Entry, note: Submitted, state: str) -> None:
        """Shows what goes on in a job that is in the queue."""
        if entry.job != note.job:
            entry.job = note.job
            entry.follower.catch_up(entry.view.note)
            self._say(entry, f"attached to job {note.job}")
        self._say(entry, f"job {note.job} is {state}")
        entry.follower.look(entry.view)

    def _is_held(self, entry: _Entry) -> bool:
        """Whether a session that is no job we know of works on the deployment."""
        holder = self._store.holder(entry.group.deployment)
        if holder is None:
            return False
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        self._say(entry, f"attached to {who}")
        entry.follower.look(entry.view)
        return True

    def _settle(self, entry: _Entry, note: Submitted) -> None:
        """The job is over: points that it did not come to fail, if anybody waits for it."""
        deployment = entry.group.deployment
        entry.follower.look(entry.view)
        self._display.forget(entry.view)
        end = queue.ended(note.job)
        watched, entry.job = entry.job == note.job, None
        try:
            lock = self._store.lock(deployment, timeout_s=LOCK_S)
            with lock:
                if submitted.read(self._folder(entry)) != note:
                    return
                missing = [
                    p
                    for p in _points(self._folder(entry), entry.group, note)
                    if not self._has(p, note, entry)
                ]
                reasons = (queue.reason(note.job, end), *_log(self._folder(entry), note.job))
                if is_searched(entry.group.points):
                    # What a search did not ask for is no failure.
                    entry.tried |= watched
                    missing = []
                if watched and missing:
                    with self._log(entry) as tell:
                        session.fail(deployment, missing, self._store, tell, reasons)
                elif missing:
                    self._say(entry, f"{reasons[0]}, before it was done; it is submitted again")
                submitted.remove(self._folder(entry))
                if watched and end.word != "COMPLETED" and is_searched(entry.group.points):
                    raise Trouble(
                        f"{'; '.join(reasons[:1])}, before the search was over; the same command goes on"
                    )
        except Busy:
            # Somebody else settles it, or works on the deployment.
            return

    def _has(self, point: Point, note: Submitted, entry: _Entry) -> bool:
        """Whether a point has a result that is younger than the job."""
        result = self._store.latest(entry.group.deployment, point)
        return result is not None and datetime.fromisoformat(result.finished_at).timestamp() >= note.since

    def _collect(self, entry: _Entry) -> None:
        for point in entry.group.points:
            result = self._store.latest(entry.group.deployment, point)
            if result is not None:
                self.results[str(point.digest)] = result

    @contextlib.contextmanager
    def _log(self, entry: _Entry):  # type: ignore[no-untyped-def]
        with EventLog(self._store.events_path(entry.group.deployment), (entry.view,)) as tell:
            yield tell

    def _say(self, entry: _Entry, text: str) -> None:
        """One line for a person, when it is news."""
        if text != entry.state:
            entry.state = text
            self._display.say(f"servix: {entry.group.deployment.name}: {text}")


def submit(store: Store, group: Group, how: Submit) -> Submitted:
    """Submits the job of a group and notes it, with nobody else at it. Raises Busy, Refused, StoreError."""
    with store.lock(group.deployment, group.points):
        since = time.time()
        note = Submitted(how(group), since, tuple(str(point.digest) for point in group.points))
        submitted.write(store.deployment_dir(group.deployment), note)
    return note


def _log(folder: Path, job: str) -> list[str]:
    name = f"{job}.log"
    said = tail(folder / "jobs" / name, LINES)
    return [f"end of {name}:\n{said}"] if said else []


def _points(folder: Path, group: Group, note: Submitted) -> list[Point]:
    """What the job was to measure: also for another command, as far as that can be read."""
    known = {str(point.digest): point for point in group.points}
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = {str(point.digest): point for point in submitted.work(folder)[0].points} | known
    return [known[digest] for digest in note.points if digest in known]
