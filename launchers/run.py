"""Makes a plan true: skips what is done and has the rest realised.

Takes a plan without errors and the launcher of its system; gives what is known afterwards, for `ending`.
Never does: starting a process (the system's launcher does); showing results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compiler.emit import emit
from compiler.plan import Deployment, Plan, Point
from compiler.search import Ladder, ladder
from compiler.sweep import Group, group
from launchers import gates, search, writable
from launchers.ending import Measured, Seen, Telling, finish, labels_in
from launchers.ledger import is_done
from launchers.refusal import Trouble, Unfit, refuse
from launchers.results.result import Result
from launchers.store import Standing, Store, StoreError, standing_of

if TYPE_CHECKING:
    from launchers.turns import Wishes


class System(Protocol):
    """What makes plans true somewhere: a module such as `launchers.local`."""

    def check(self, groups: Sequence[Group]) -> None:
        """Raises Unfit when the groups cannot be realised as they are."""

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        """Measures the points that are wanted; gives what was measured here, by the point's digest.

        `write_files` is called once it is sure that a deployment will be started. Raises KeyboardInterrupt when told
        to stop.
        """

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        form: str,
    ) -> int:
        """Leaves the work to something that goes on when the command ends, and tells how to come back to it.

        `form` is `text` or `json`. Gives the exit code.
        """


def run(plan: Plan, system: System, output_dir: Path, telling: Telling) -> int:
    """The exit code: 0 every point valid, 3 a point is not, 4 a gate failed, 130 interrupted.

    0 as well for a search that found a load, and for a command that leaves the work to a process of its own.
    What was kept is shown, too, where something ended the command: raises that Trouble, or OSError, afterwards.
    """
    store = Store(output_dir)
    try:
        measured = measure(plan, system, store, telling.form)
    except Unfit as unfit:
        return refuse(unfit.problems)
    if isinstance(measured, int):
        return measured
    code = finish(plan, measured, store, telling)
    if measured.trouble is not None:
        raise measured.trouble
    return code


def measure(plan: Plan, system: System, store: Store, form: str) -> Measured | int:
    """Has done what is not done yet, or leaves that to what goes on without us, where `launch.detach` says so.

    Gives an exit code in the second case. Raises Unfit when nothing can be started.
    """
    detached = plan.points[0].config["launch"]["detach"] is True
    return _measure(plan, system, store, form if detached else None)


def attended(plan: Plan, system: System, store: Store) -> Measured:
    """Has done what is not done yet, and stays for it. Raises Unfit when nothing can be started.

    What ended it early, if anything did, is its `trouble`.
    """
    measured = _measure(plan, system, store, None)
    if isinstance(measured, int):
        raise TypeError("nothing was to be left to others")
    return measured


def _measure(plan: Plan, system: System, store: Store, leave: str | None) -> Measured | int:
    base, problems = gates.baselines(plan.points)
    if problems:
        raise Unfit(problems)
    started = datetime.now(UTC)
    distinct = {point.digest: point for point in plan.points}
    before = {key: _look(plan, store, point) for key, point in distinct.items()}
    settings = plan.points[0].config
    done = {
        key
        for key, point in distinct.items()
        if is_done(plan.deployment(str(point.deployment)), point, before[key])
    }
    todo = [point for key, point in distinct.items() if key not in done]
    climbed, choose = ladder(plan.points), None
    if climbed is not None:
        look = partial(_known, plan, climbed, store, before, done)
        choose = partial(_choice, climbed, look, base)
        todo = todo if choose()([]) is not None else []
    _announce(plan, len(distinct), len(done), store)
    _tell_lost(plan, list(distinct.values()), before)
    interrupted, measured, trouble = False, dict[str, Result](), None
    if todo:
        # A session takes a while to import; a finished sweep that is asked for again needs none.
        from launchers.turns import Wishes

        _check_writable(plan, store, todo)
        groups = group(plan, todo)
        write_files = partial(_write_files, plan, store)
        wishes = Wishes(
            wanted=partial(_is_wanted, store, before),
            parallel=int(settings["launch"]["parallel"]),
            max_nodes=settings["system"]["max_nodes"],
            choose=choose,
            points=plan.points,
            settled=partial(_is_settled, store, before) if climbed is None else None,
        )
        if leave is not None:
            system.check(groups)
            return system.detach(groups, store, write_files, wishes, leave)
        try:
            measured |= system.realise(groups, store, write_files, wishes)
        except KeyboardInterrupt:
            interrupted = True
        except (Trouble, OSError) as problem:
            trouble = problem
    for key, point in distinct.items():
        if before[key].note:
            store.mend(plan.deployment(str(point.deployment)), point)
    seen = [
        Seen(point, before[key], reused=True)
        if key in done
        else Seen(point, _seen(_look(plan, store, point), before[key], measured.get(str(key))), reused=False)
        for key, point in distinct.items()
    ]
    return replace(together(plan, seen, base, started, interrupted), trouble=trouble)


def together(
    plan: Plan, seen: Sequence[Seen], base: gates.Baselines, started: datetime, interrupted: bool = False
) -> Measured:
    """What is known of all points of the plan, as far as they were asked for."""
    results = [one for entry in seen if (one := entry.standing.result) is not None]
    found = search.so_far(plan.points, results, base)
    if found is not None:
        # Points of a search that nobody had to measure are no failures.
        seen = [entry for entry in seen if entry.standing.result is not None]
    return Measured(tuple(seen), base, interrupted, found, started)


def _check_writable(plan: Plan, store: Store, todo: Sequence[Point]) -> None:
    try:
        writable.check(store, [(plan.deployment(str(point.deployment)), point) for point in todo])
    except StoreError as exception:
        raise Unfit([writable.problem(store, exception)]) from exception


def _choice(
    climbed: Ladder, look: Callable[[], Sequence[Result]], base: Mapping[str, Mapping[str, float]]
) -> search.Choose:
    """How points of a search are chosen from now on; what is known by now is not measured again."""
    judge = search.judge_of(climbed.points, base)
    budget = climbed.points[0].config.get("budget")
    return search.bisect(climbed.points, judge, search.judged(look(), judge), budget)


def _known(
    plan: Plan,
    climbed: Ladder,
    store: Store,
    before: Mapping[str | None, Standing],
    done: Collection[str | None],
) -> list[Result]:
    """Results of a search that were there before, and those that others have measured since, whatever came of it."""
    found = []
    for point in climbed.points:
        now = _look(plan, store, point)
        if now.result is not None and (point.digest in done or not _is_old(now, before[point.digest])):
            found.append(now.result)
    return found


def _is_wanted(
    store: Store, before: Mapping[str | None, Standing], deployment: Deployment, point: Point
) -> bool:
    """Whether nobody has measured the point since this command began, whatever came of it."""
    now = store.look(deployment, point)
    return _is_old(now, before[point.digest]) if now.result is not None else True


def _is_settled(
    store: Store, before: Mapping[str | None, Standing], deployment: Deployment, point: Point
) -> bool:
    """Whether somebody has a valid result of the point since this command began."""
    now = store.recorded(deployment, point)
    return now.status == "done" and not _is_old(now, before[point.digest])


def _is_old(after: Standing, before: Standing) -> bool:
    """Nothing has come of a point since."""
    return after.result is None or (before.result is not None and before.result.same_attempt(after.result))


def _seen(after: Standing, before: Standing, measured: Result | None) -> Standing:
    """The standing after the command. What an earlier command left is not shown as this one's."""
    if measured is not None:
        # The store keeps a valid result though a later attempt is not.
        return standing_of(measured)
    if after.result is None or not _is_old(after, before):
        return after
    return Standing(
        after.status if after.status != "done" else "failed", ("it was not measured again",), None
    )


def _write_files(plan: Plan, store: Store, deployment: Deployment) -> None:
    """The deployment's plan and every file made from it, for all its points."""
    store.write_deployment(deployment, emit(deployment, plan.points))


def _look(plan: Plan, store: Store, point: Point) -> Standing:
    return store.look(plan.deployment(str(point.deployment)), point)


def _announce(plan: Plan, distinct: int, done: int, store: Store) -> None:
    double = len(plan.points) - distinct
    parts = [_count(distinct, "point"), _count(len(plan.deployments), "deployment")]
    parts += [f"{double} asked for twice and measured once"] if double else []
    parts += [f"{done} done before"] if done else []
    print(f"servix: {', '.join(parts)}; results in {store.root}", file=sys.stderr)


def _tell_lost(plan: Plan, points: Sequence[Point], before: Mapping[str | None, Standing]) -> None:
    """Measurements that were begun and of which nothing, or not all, can be read."""
    for label, point in zip(labels_in(plan, points), points, strict=True):
        standing = before[point.digest]
        lost = standing.reasons if standing.status == "failed" and standing.result is None else ()
        if lost or standing.note:
            print(f"servix: {label}: {'; '.join(lost) or standing.note}", file=sys.stderr)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
