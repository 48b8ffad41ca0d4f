"""Makes plans true on this machine: child processes, one loopback address per virtual node.

Takes groups (a deployment and its points) and the store; leaves a result for every point in it.
Never does: knowing Hydra; working on a deployment that another command works on (it waits, then looks again).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from compiler.errors import Problem
from compiler.plan import Deployment, Point
from compiler.sweep import Group
from launchers import session
from launchers.display import Display
from launchers.events import EventLog
from launchers.host import claimed, preflight
from launchers.refusal import Unfit
from launchers.store import Busy, Lock, Store


def realise(groups: Sequence[Group], store: Store, write_files: Callable[[Deployment], None]) -> None:
    """Measures every point of the groups and writes a result for each, one stack after the other.

    Raises Unfit before anything is started, KeyboardInterrupt when told to stop (INT, TERM, HUP; by then
    everything has been stopped), StoreError.
    """
    if problems := [problem for group in groups for problem in _problems(group)]:
        raise Unfit(list(dict.fromkeys(problems)))
    for group in groups:
        with _lock(group, store):
            # Whoever held the lock before may have measured some of them.
            points = [point for point in group.points if store.status(group.deployment, point) != "done"]
            if points:
                write_files(group.deployment)
                _interruptible(_group(group.deployment, points, store))


def _problems(group: Group) -> list[Problem]:
    workloads = [point.workload for point in group.points if point.workload]
    with claimed(group.deployment.num_nodes) as host:
        return preflight(group.deployment, workloads, host)


def _lock(group: Group, store: Store) -> Lock:
    try:
        with store.lock(group.deployment, group.points):
            pass
    except Busy as busy:
        print(f"servix: waiting: {busy.reason}", file=sys.stderr)
    return store.lock(group.deployment, group.points, timeout_s=None)


async def _group(deployment: Deployment, points: Sequence[Point], store: Store) -> None:
    claim = partial(claimed, deployment.num_nodes, deployment.storage_cache_dir)
    path = store.deployment_dir(deployment) / "events.jsonl"
    with Display(deployment, sys.stderr) as display, EventLog(path, (display,)) as tell:
        await session.realise(deployment, points, store, claim, tell)


def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work`; the first signal cancels it, so that it stops what it started. Raises KeyboardInterrupt."""
    try:
        asyncio.run(_with_signals(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _with_signals(work: Coroutine[Any, Any, None]) -> None:
    loop, task, told = asyncio.get_running_loop(), asyncio.ensure_future(work), set[int]()

    def stop(number: int) -> None:
        if told:
            # Who asks twice does not want to wait. The guardian ends what is left.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        told.add(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    await task
