"""Makes plans true on this machine: child processes, one loopback address per virtual node.

Takes groups (a deployment and its points) and the store; leaves a result for every point in it.
Never does: knowing Hydra; working on a deployment that another command works on (it shows what that does meanwhile,
then looks again).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from compiler.errors import Problem
from compiler.plan import Deployment
from compiler.sweep import Group
from launchers import session
from launchers.detach import detach as to_a_process
from launchers.display import Display
from launchers.events import EventLog
from launchers.host import Host, claimed
from launchers.leave import leave
from launchers.listening import Stopper, listening
from launchers.preflight import preflight
from launchers.refusal import Unfit
from launchers.results.result import Result
from launchers.stack import Claim
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
    with listening() as stop:
        check(groups)
        claims = {group.deployment.digest: partial(_claimed, group.deployment) for group in groups}
        return work(stop, groups, store, write_files, wishes, claims)


def detach(
    groups: Sequence[Group],
    store: Store,
    write_files: Callable[[Deployment], None],  # noqa: ARG001  (that process writes them)
    wishes: Wishes,  # noqa: ARG001  (and has the same)
    form: str,
) -> int:
    """Leaves the groups to a process of its own. Gives the exit code."""
    return to_a_process(store, form, sum(len(group.points) for group in groups))


def work(
    stop: Stopper,
    groups: Sequence[Group],
    store: Store,
    write_files: Callable[[Deployment], None],
    wishes: Wishes,
    claims: Mapping[str, Claim],
    display: Display | None = None,
) -> Mapping[str, Result]:
    """The same on the machines that `claims` (by the deployment's digest) give, until `stop` is told."""
    display = display or Display(sys.stderr, several=wishes.parallel > 1)
    turns = Turns(store, wishes, display, partial(_measure, store, write_files, wishes, display, claims))
    try:
        with display:
            stop.run(turns.take(groups))
    except KeyboardInterrupt:
        # Here, where the terminal is nobody's but ours.
        if turns.attached is not None:
            leave(turns.attached, stop.number == signal.SIGINT, turns.is_attached)
        raise
    return turns.results


def _claimed(deployment: Deployment) -> AbstractContextManager[Host]:
    return claimed(deployment.num_nodes, deployment.storage_cache_dir)


def _problems(group: Group) -> list[Problem]:
    workloads = [point.workload for point in group.points if point.workload]
    with claimed(group.deployment.num_nodes) as host:
        return preflight(group.deployment, workloads, host)


async def _measure(
    store: Store,
    write_files: Callable[[Deployment], None],
    wishes: Wishes,
    display: Display,
    claims: Mapping[str, Claim],
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
    with EventLog(store.events_path(deployment), (display.of(deployment),)) as tell:
        return await session.realise(deployment, points, store, claims[deployment.digest], tell, choose)
