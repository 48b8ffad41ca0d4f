"""Makes plans true on this machine: child processes, one loopback address per virtual node.

Takes groups (a deployment and its points) and the store; leaves a result for every point in it.
Never does: knowing Hydra; working on a deployment that another command works on (it shows what that does meanwhile,
then looks again).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from compiler.errors import Problem
from compiler.plan import Deployment
from compiler.sweep import Group
from launchers import session
from launchers.display import Display
from launchers.events import EventLog
from launchers.host import claimed
from launchers.leave import leave
from launchers.preflight import preflight
from launchers.refusal import Unfit
from launchers.results.result import Result
from launchers.store import Store
from launchers.turns import Turns, Wishes


def check(groups: Sequence[Group]) -> None:
    """Raises Unfit when this machine cannot realise the groups as they are."""
    if problems := [problem for group in groups for problem in _problems(group)]:
        raise Unfit(list(dict.fromkeys(problems)))


def realise(
    groups: Sequence[Group], store: Store, write_files: Callable[[Deployment], None], wishes: Wishes
) -> Mapping[str, Result]:
    """Measures every point of the groups that `wishes` want; gives what was measured here, by digest.

    Raises Unfit before anything is started, KeyboardInterrupt when told to stop (INT, TERM, HUP; by then everything
    that was started here has been stopped), StoreError.
    """
    with _listening() as stop:
        check(groups)
        display = Display(sys.stderr, several=wishes.parallel > 1)
        turns = Turns(store, wishes, display, partial(_measure, store, write_files, wishes, display))
        try:
            with display:
                stop.run(turns.take(groups))
        except KeyboardInterrupt:
            # Here, where the terminal is nobody's but ours.
            if turns.attached is not None:
                leave(turns.attached, asks=stop.number == signal.SIGINT)
            raise
    return turns.results


def _problems(group: Group) -> list[Problem]:
    workloads = [point.workload for point in group.points if point.workload]
    with claimed(group.deployment.num_nodes) as host:
        return preflight(group.deployment, workloads, host)


async def _measure(
    store: Store,
    write_files: Callable[[Deployment], None],
    wishes: Wishes,
    display: Display,
    group: Group,
) -> list[Result]:
    """One group, whose lock is held."""
    deployment = group.deployment
    # Whoever held the lock before may have measured some of them.
    points = [point for point in group.points if wishes.wanted(deployment, point)]
    choose = wishes.choose() if wishes.choose is not None else None
    if not points or (choose is not None and choose([]) is None):
        return []
    write_files(deployment)
    claim = partial(claimed, deployment.num_nodes, deployment.storage_cache_dir)
    with EventLog(store.events_path(deployment), (display.of(deployment),)) as tell:
        return await session.realise(deployment, points, store, claim, tell, choose)


class _Stop:
    """INT, TERM and HUP while a command is realised: the first stops orderly, the second at once."""

    def __init__(self) -> None:
        self.told = False
        self.number: int | None = None
        """The signal that told us."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __call__(self, number: int, _: object) -> None:
        if self.told:
            # Who asks twice does not want to wait. The guardian ends what is left.
            _show_cursor()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.told, self.number = True, number
        if self._task is None or self._loop is None:
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._task.cancel)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`; a signal cancels it, so that it stops what it started. Raises KeyboardInterrupt."""
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._known(work))
        if self.told:
            raise KeyboardInterrupt

    async def _known(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._loop, self._task = asyncio.get_running_loop(), task
        try:
            await task
        finally:
            self._task = None


@contextlib.contextmanager
def _listening() -> Iterator[_Stop]:
    """Hears the signals that stop a command, save those that whoever started it had ignored (nohup)."""
    stop, before = _Stop(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_cursor() -> None:
    """A live table hides it, and is not going to end."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h")
