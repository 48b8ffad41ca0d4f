"""Which deployment is worked on when, and by whom: one after the other, or side by side where the nodes allow.

Takes groups and a way to measure one whose lock is held. A group that another command works on is left to the end;
while nothing else is to do, that command's events are shown.
Never does: starting a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.plan import Deployment, Point
from compiler.sweep import Group
from launchers.display import Display, View
from launchers.follow import Follower
from launchers.lock import Lock
from launchers.results.result import Result
from launchers.search import Choose
from launchers.store import Store

POLL_S = 0.1
SETTLED_S = 1.0
"""Results that others write are looked for so often."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a command wants of the groups it hands over."""

    wanted: Callable[[Deployment, Point], bool]
    """Whether a point is still to be measured, asked once its deployment is ours alone."""
    parallel: int = 1
    """Deployments at the same time."""
    max_nodes: int | None = None
    """Nodes there are for all of them; null: any number."""
    choose: Callable[[], Choose] | None = None
    """Gives what to measure next by the results so far, asked once a deployment is ours alone; null: every point."""
    points: Sequence[Point] = ()
    """Every point of the command, those that are done included: what a search knows already."""
    settled: Callable[[Deployment, Point], bool] | None = None
    """Whether another command has a valid result of a point, which is not waited for then; null: never."""


@dataclass(slots=True)
class _Waiting:
    """A group whose turn has not come."""

    group: Group
    lock: Lock
    follower: Follower
    view: View
    left: list[Point]
    """Points that nobody has a valid result of, as far as was looked."""
    attached: bool = False
    looked_at: float = 0.0


class Turns:
    """The groups of one command."""

    def __init__(
        self,
        store: Store,
        wishes: Wishes,
        display: Display,
        measure: Callable[[Group], Awaitable[list[Result]]],
    ) -> None:
        self.results: dict[str, Result] = {}
        """What was measured here, by the point's digest."""
        self.attached: Mapping[str, Any] | None = None
        """Whose work is shown, while nothing of ours is going on."""
        self._shown: Lock | None = None
        self._store, self._wishes, self._display, self._measure = store, wishes, display, measure
        self._running: dict[asyncio.Task[list[Result]], _Waiting] = {}

    async def take(self, groups: Sequence[Group]) -> None:
        """Returns when every group has had its turn. When one fails or this is cancelled, all are stopped first."""
        waiting = [self._waiting(group) for group in groups]
        try:
            while waiting or self._running:
                waiting = [entry for entry in waiting if not (self._begin(entry) or self._is_settled(entry))]
                self._follow(waiting)
                await self._pause()
        finally:
            await self._stop()
            for entry in waiting:
                entry.lock.__exit__()

    def is_attached(self) -> bool:
        """Whether the session that was shown last still holds its deployment."""
        now = self._shown.holder() if self._shown is not None else None
        return (
            now is not None
            and self.attached is not None
            and all(now.get(key) == self.attached.get(key) for key in ("pid", "host", "since"))
        )

    def _waiting(self, group: Group) -> _Waiting:
        lock = self._store.lock(group.deployment, group.points)
        follower = Follower(self._store.events_path(group.deployment))
        return _Waiting(group, lock, follower, self._display.of(group.deployment), list(group.points))

    def _begin(self, entry: _Waiting) -> bool:
        """Starts work on a group where there is room and nobody else works on it."""
        if not self._has_room(entry.group.deployment) or not entry.lock.take():
            return False
        if entry.attached:
            # What the other one said at last.
            entry.follower.look(entry.view)
            self._display.forget(entry.view)
        self._running[asyncio.ensure_future(self._turn(entry))] = entry
        return True

    def _is_settled(self, entry: _Waiting) -> bool:
        """True when others have measured every point of a group, and who works on the deployment still is at more."""
        now, is_settled = time.monotonic(), self._wishes.settled
        if is_settled is None or now - entry.looked_at < SETTLED_S:
            return False
        entry.looked_at = now
        while entry.left and is_settled(entry.group.deployment, entry.left[0]):
            del entry.left[0]
        if entry.left:
            return False
        entry.lock.__exit__()
        if entry.attached:
            entry.follower.look(entry.view)
            self._display.forget(entry.view)
            name = entry.group.deployment.name
            self._display.say(f"servix: all that was asked for on {name} is measured; its session goes on")
        return True

    def _has_room(self, deployment: Deployment) -> bool:
        if not self._running:
            return True
        used = sum(entry.group.deployment.num_nodes for entry in self._running.values())
        limit = self._wishes.max_nodes
        fits = limit is None or used + deployment.num_nodes <= limit
        return fits and len(self._running) < self._wishes.parallel

    async def _turn(self, entry: _Waiting) -> list[Result]:
        with contextlib.ExitStack() as stack:
            stack.push(entry.lock.__exit__)
            return await self._measure(entry.group)

    def _follow(self, waiting: Sequence[_Waiting]) -> None:
        """Shows what another command does on the first group we wait for."""
        self.attached = self._shown = None
        if self._running or not waiting:
            return
        entry = waiting[0]
        holder = entry.lock.holder()
        if holder is None:
            return
        self.attached, self._shown = holder, entry.lock
        if not entry.attached:
            entry.attached = True
            entry.follower.catch_up(entry.view.note)
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            self._display.say(f"servix: attached to {who}, which measures on {entry.group.deployment.name}")
            self._display.attach(entry.view)
        entry.follower.look(entry.view)

    async def _pause(self) -> None:
        if not self._running:
            await asyncio.sleep(POLL_S)
            return
        done, _ = await asyncio.wait(self._running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
            self.results |= {result.point_digest: result for result in task.result()}

    async def _stop(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        while tasks and not all(task.done() for task in tasks):
            # A second cancellation must not leave what the first began to stop.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (problem := task.exception()) is not None:
                # What could not be stopped or deleted; what ended the others is raised, or is a signal.
                self._display.say(f"warning: {str(problem) or type(problem).__name__}")
