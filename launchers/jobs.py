"""The jobs of one command: submitted within a limit, followed while they are in the queue, settled when they are over.

Takes groups and a way to submit one; shows what the sessions in the jobs write to their event logs.
Never does: measuring; ending a job; taking the word of Slurm for a result.

A job that ends leaves a result for every point it was to measure: its session writes them, and for those it did not
come to, a failed one is written here, with the reason that Slurm gives and the end of the job's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
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
from launchers.lock import Busy, Lock
from launchers.queue import InQueue
from launchers.refusal import Trouble
from launchers.results.result import Result
from launchers.results.tail import tail
from launchers.sbatch import Later, Refused
from launchers.store import Store
from launchers.submission import Submit, Task, submit
from launchers.submitted import Share, Submitted
from launchers.turns import Wishes

POLL_S = 0.2
LINES = 20
LOCK_S = 30.0
AGAIN_S = 5.0
"""Time between two tries to submit a job that Slurm does not take now."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A group that is not done."""

    group: Group
    number: int
    """Which of the parts of its deployment."""
    follower: Follower
    view: View
    tried: bool = False
    """Its job was submitted by this command, or was refused."""
    job: str | None = None
    """The job that is followed."""
    state: str = ""
    """What was last told of it."""
    nodes: str = ""
    """Where its job was last seen to run, as Slurm writes it; empty while it waits."""


class Jobs:
    """The groups of one command."""

    def __init__(
        self,
        store: Store,
        wishes: Wishes,
        display: Display,
        submit: Submit,
        limit: int,
        together: bool = False,
        silence_s: float = math.inf,
    ) -> None:
        """`limit`: jobs in the queue at the same time. `together`: one job for all groups that are free.

        `silence_s`: so long Slurm may be silent, or take no job while none of ours is in the queue.
        """
        self.results: dict[str, Result] = {}
        """What was measured for this command, by the point's digest."""
        self.left = 0
        """Points that jobs did not come to because their time was up."""
        self._store, self._wishes, self._display, self._submit = store, wishes, display, submit
        self._limit, self._together = limit, together
        self._silence_s = silence_s
        self._silent_since: float | None = None
        self._full_since: float | None = None
        self._again_at = 0.0
        self._waiting: list[_Entry] = []
        self._free: list[tuple[_Entry, list[Point]]] = []

    @property
    def alive(self) -> list[str]:
        """Ids of jobs that are in the queue, as far as is known."""
        return list(dict.fromkeys(entry.job for entry in self._waiting if entry.job is not None))

    async def take(self, groups: Sequence[Group]) -> None:
        """Returns when nothing is left to do for any group. Groups of one deployment come one after the other."""
        later: dict[str, list[_Entry]] = {}
        for group in groups:
            parts = later.setdefault(group.deployment.digest, [])
            parts.append(self._entry(group, len(parts) + 1))
        self._waiting = [parts.pop(0) for parts in later.values()]
        while self._waiting:
            self._free = []
            over = [entry for entry in self._waiting if self._over(entry)]
            for several in [self._free] if self._together else [[one] for one in self._free]:
                self._start(several)
            rest = [later[entry.group.deployment.digest] for entry in over]
            self._waiting = [entry for entry in self._waiting if entry not in over]
            self._waiting += [parts.pop(0) for parts in rest if parts]
            if self._waiting:
                await asyncio.sleep(POLL_S)

    def _entry(self, group: Group, number: int) -> _Entry:
        follower = Follower(self._store.events_path(group.deployment))
        return _Entry(group, number, follower, self._display.of(group.deployment))

    def _folder(self, entry: _Entry) -> Path:
        return self._store.deployment_dir(entry.group.deployment)

    def _home(self, entry: _Entry, note: Submitted) -> Path:
        """The folder of the job itself."""
        return self._folder(entry) if note.folder is None else self._store.root / note.folder

    def _over(self, entry: _Entry) -> bool:
        """One look at a group: true when nothing is left to do for it."""
        note = submitted.read(self._folder(entry))
        if note is not None:
            try:
                current = submitted.look(note)
            except queue.Silent as silent:
                self._be_patient(entry, silent)
                return False
            self._silent_since = None
            if current is not None and not self._is_done(entry, note, current[1]):
                self._follow(entry, note, *current)
                return False
            self._settle(entry, note)
        if self._is_held(entry):
            return False
        wanted = self._wanted(entry)
        if not wanted or entry.tried:
            self._collect(entry)
            return True
        self._free.append((entry, wanted))
        return False

    def _be_patient(self, entry: _Entry, silent: queue.Silent) -> None:
        """Tells that Slurm does not answer. Raises Trouble once that has gone on for too long."""
        self._say(entry, f"Slurm does not answer: {silent}")
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        entry.follower.look(entry.view)
        if now - self._silent_since > self._silence_s:
            told = f"Slurm has not answered for {self._silence_s:g} s (hydra.launcher.silence_min): {silent}"
            raise Trouble(f"{told}; jobs go on without us, and the same command attaches to them")

    def _is_done(self, entry: _Entry, note: Submitted, state: InQueue) -> bool:
        """Whether all is measured and written, and Slurm is only tidying up."""
        if state.state != "COMPLETING" or Lock(self._store.lock_path(entry.group.deployment)).holder():
            return False
        known = _points(self._home(entry, note), entry.group)
        wanted = {digest for share in note.shares for digest in share.points}
        return wanted <= known.keys() and all(self._has(known[one], note, entry) for one in wanted)

    def _wanted(self, entry: _Entry) -> list[Point]:
        deployment, choose = entry.group.deployment, self._wishes.choose
        if choose is not None and choose()([]) is None:
            return []
        return [point for point in entry.group.points if self._wishes.wanted(deployment, point)]

    def _start(self, several: Sequence[tuple[_Entry, list[Point]]]) -> None:
        """Submits one job for these points, where there is room for one."""
        if not several or len(self.alive) >= self._limit or time.monotonic() < self._again_at:
            return
        for entry, _ in several:
            entry.follower.look(lambda _: None)
        groups = tuple(Group(entry.group.deployment, tuple(points)) for entry, points in several)
        try:
            (job,) = submit(self._store, [Task(groups, several[0][0].number)], self._submit)
        except Busy:
            return
        except Refused as refused:
            if isinstance(refused, Later) and self._waits(several[0][0], refused):
                return
            for entry, points in several:
                entry.tried = True
                with self._log(entry) as tell:
                    reasons = (refused.told,)
                    session.fail(entry.group.deployment, points, self._store, tell, reasons)
            return
        self._full_since = None
        for entry, _ in several:
            entry.tried, entry.job = True, job
            self._say(entry, f"job {job} is submitted")

    def _waits(self, entry: _Entry, refused: Later) -> bool:
        """Whether it is worth while to submit a job again that Slurm does not take now; tells so."""
        now = time.monotonic()
        if self.alive or self._full_since is None:
            self._full_since = now
        self._again_at = now + AGAIN_S
        if now - self._full_since > self._silence_s:
            return False
        self._say(entry, f"Slurm takes no more jobs for now: {refused}; tried again")
        return True

    def _follow(self, entry: _Entry, note: Submitted, job: str, state: InQueue) -> None:
        """Shows what goes on in a job that is in the queue."""
        if entry.job not in note.jobs:
            entry.follower.catch_up(entry.view.note)
            self._say(entry, f"attached to job {job}")
            self._display.attach(entry.view)
        if entry.nodes and entry.job == job and state.state == "PENDING":
            self._say(entry, f"job {job} {queue.why_again(job, entry.nodes)}; it begins anew")
            entry.nodes = ""
        # A job that is ending gives its nodes back one by one.
        entry.job, entry.nodes = job, state.nodes if state.state == "RUNNING" else entry.nodes
        self._say(entry, f"job {job} is {state}")
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
        """The jobs are over: points that they did not come to fail, if anybody waits for them."""
        entry.follower.look(entry.view)
        self._display.forget(entry.view)
        watched, entry.job = entry.job in note.jobs, None
        try:
            with self._store.lock(entry.group.deployment, timeout_s=LOCK_S):
                if submitted.read(self._folder(entry)) != note:
                    return
                for share in note.shares:
                    self._settle_one(entry, note, share, watched)
                submitted.remove(self._folder(entry))
        except Busy:
            # Somebody else settles it, or works on the deployment.
            return

    def _settle_one(self, entry: _Entry, note: Submitted, share: Share, watched: bool) -> None:
        home = self._home(entry, note)
        if is_searched(entry.group.points):
            # What a search did not ask for is no failure.
            entry.tried |= watched
            end = queue.ended(share.job)
            if watched and end.word != "COMPLETED":
                submitted.remove(self._folder(entry))
                why = queue.reason(share.job, end)
                raise Trouble(f"{why}, before the search was over; the same command goes on")
            return
        known = _points(home, entry.group)
        missing = [
            known[digest]
            for digest in share.points
            if digest in known and not self._has(known[digest], note, entry)
        ]
        if not missing:
            return
        end = queue.ended(share.job)
        reasons = self._never_started(note) or (queue.reason(share.job, end), *_log(home, share.job))
        if watched:
            self.left += len(missing) if end.is_time_up else 0
            with self._log(entry) as tell:
                session.fail(entry.group.deployment, missing, self._store, tell, reasons)
        else:
            self._say(entry, f"{reasons[0]}, before it was done; it is submitted again")

    def _never_started(self, note: Submitted) -> tuple[str, ...]:
        """Why jobs never started, where what they need was not downloaded; empty where it was."""
        if note.needs is None or not queue.ended(note.needs).is_failure:
            return ()
        folder = submitted.home_of_download(self._store.root, note.needs)
        reason = submitted.not_downloaded(self._store.root, note.needs)
        return (reason, *(_log(folder, note.needs) if folder is not None else ()))

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


def _log(folder: Path, job: str) -> list[str]:
    name = f"{job}.log"
    said = tail(folder / "jobs" / name, LINES)
    return [f"end of {name}:\n{said}"] if said else []


def _points(home: Path, group: Group) -> dict[str, Point]:
    """Points that jobs were to measure, by digest: also for another command, as far as that can be read."""
    known: dict[str, Point] = {}
    for path in sorted(home.glob("job*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            for point in submitted.work(home, path.name).plan.points:
                if point.deployment == group.deployment.digest:
                    known[str(point.digest)] = point
    return known | {str(point.digest): point for point in group.points}
