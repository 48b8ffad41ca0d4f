"""Makes plans true on a Kubernetes cluster: each deployment applied, measured by a Job beside it, deleted.

Takes groups and the store; leaves a result for every point in it.
Never does: choosing a cluster that nobody named (`context`); starting a process of a deployment.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from compiler.errors import error
from compiler.manifests import Settings, TooLong, manifests, settings_of
from compiler.plan import Deployment
from compiler.search import is_searched
from compiler.sweep import Group
from launchers.detach import detach as to_a_process
from launchers.display import Display
from launchers.events import EventLog
from launchers.kubernetes.api import Cluster
from launchers.kubernetes.context import CODE, Context, context_of
from launchers.kubernetes.preflight import problems
from launchers.kubernetes.turn import Turn
from launchers.leave import leave, stays
from launchers.listening import Stopper, listening
from launchers.refusal import Trouble, Unfit
from launchers.results.result import Result
from launchers.store import Store
from launchers.turns import Turns, Wishes


class Kubernetes:
    """A namespace of a cluster (`run.System`)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is that of any point: `system` is the same for all of them. Raises Unfit."""
        self.settings: Settings = settings_of(config)
        self._system: Mapping[str, Any] = config["system"]

    def check(self, groups: Sequence[Group]) -> None:
        """Raises Unfit when the cluster would refuse something, or lacks it."""
        self._ask(groups, asyncio.run)

    def _ask(self, groups: Sequence[Group], run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """The same, run by who hears signals meanwhile: one that comes at any line would leave a task behind."""
        context = context_of(self._system)
        print(f"servix: {context}", file=sys.stderr, flush=True)
        try:
            run(self._check(context, groups))
        except Trouble as trouble:
            if isinstance(trouble, Unfit):
                raise
            raise Unfit([error(CODE, "system.context", context.name, str(trouble))]) from trouble

    async def _check(self, context: Context, groups: Sequence[Group]) -> None:
        try:
            wanted = [
                (group.deployment, manifests(group.deployment, group.points, self.settings))
                for group in groups
            ]
        except TooLong as problem:
            hint = "search among fewer, or sweep them"
            raise Unfit(
                [error(CODE, "search", groups[0].points[0].config.get("search"), str(problem), hint)]
            ) from problem
        async with Cluster(context.connect, _say, silence_s=CHECK_S) as cluster:
            if found := await problems(cluster, wanted, self.settings):
                raise Unfit(found)

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        """Has the points measured; gives what was measured for this command, by digest.

        Raises Unfit before anything is applied, KeyboardInterrupt when told to stop: by then everything that was
        applied has been deleted, unless who sits at the terminal wants it to go on. Raises Trouble, StoreError.
        """
        with listening() as stop:
            self._ask(groups, stop.run)
            display = Display(sys.stderr, several=wishes.parallel > 1)
            work = _Work(self, context_of(self._system), store, write_files, wishes, display, stop)
            turns = Turns(store, wishes, display, work.measure)
            try:
                with display:
                    stop.run(work.take(turns, groups))
            except KeyboardInterrupt:
                if turns.attached is not None:
                    leave(turns.attached, stop.number == signal.SIGINT, turns.is_attached)
                raise
        return turns.results

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],  # noqa: ARG002  (that process writes them)
        wishes: Wishes,  # noqa: ARG002  (and has the same)
        form: str,
    ) -> int:
        """Leaves the groups to a process of its own, which deletes what it has applied. Gives the exit code."""
        return to_a_process(store, form, sum(len(group.points) for group in groups))


CHECK_S = 10.0
"""A cluster that does not answer for so long is not asked to run anything."""


class _Work:
    """What one command does, with a connection of its own."""

    def __init__(
        self,
        system: Kubernetes,
        context: Context,
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        display: Display,
        stop: Stopper,
    ) -> None:
        self._settings, self._context, self._store = system.settings, context, store
        self._write_files, self._wishes, self._display, self._stop = write_files, wishes, display, stop
        self._cluster: Cluster | None = None
        self._stays: bool | None = None

    async def take(self, turns: Turns, groups: Sequence[Group]) -> None:
        """Every group has its turn."""
        async with Cluster(self._context.connect, self._said) as cluster:
            self._cluster = cluster
            await turns.take(groups)

    async def measure(self, group: Group) -> list[Result]:
        """One group, whose lock is held."""
        deployment, wishes = group.deployment, self._wishes
        points = [point for point in group.points if wishes.wanted(deployment, point)]
        searched = is_searched(group.points)
        choose = wishes.choose() if wishes.choose is not None else None
        if not points or (choose is not None and choose([]) is None) or self._cluster is None:
            return []
        self._write_files(deployment)
        everything = [p for p in wishes.points if p.deployment == deployment.digest] if searched else []
        with EventLog(self._store.events_path(deployment), (self._display.of(deployment),)) as tell:
            turn = Turn(
                self._cluster,
                deployment,
                points,
                self._store,
                self._settings,
                tell,
                searched=everything or (group.points if searched else ()),
                stays=self._asked,
            )
            return await turn.take()

    def _asked(self) -> bool:
        """Whether what runs goes on without us: asked once, of who sits at the terminal."""
        if self._stays is None:
            self._display.plain()
            place = f"what runs in {self._context.name}, namespace {self._context.namespace},"
            self._stays = stays(place, asks=self._stop.number == signal.SIGINT)
        return self._stays

    def _said(self, text: str) -> None:
        self._display.say(f"servix: {text}")


def _say(text: str) -> None:
    print(f"servix: {text}", file=sys.stderr, flush=True)
