"""Makes a plan true: skips what is done, has the rest realised, then shows, records and judges the results.

Takes a plan without errors and the launcher of its system; gives an exit code.
Never does: starting a process (the system's launcher does).
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO

from compiler import digest
from compiler.emit import emit
from compiler.errors import error
from compiler.plan import Deployment, Plan, Point
from compiler.search import Ladder, ladder
from compiler.sweep import Group, group
from launchers import best, gates, search
from launchers.best import Best, Reproduce
from launchers.detach import detach
from launchers.refusal import Unfit, refuse
from launchers.results import repeats, report, table
from launchers.results.frame import csv_text
from launchers.results.result import Result
from launchers.store import Standing, Store, StoreError, as_json, standing_of, write_atomically
from launchers.turns import Wishes

OK, POINT_FAILED, GATE_FAILED, INTERRUPTED = 0, 3, 4, 130


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


@dataclass(frozen=True, slots=True)
class Seen:
    """A point of the command, what is known of it afterwards, and whether that was there before."""

    point: Point
    standing: Standing
    reused: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command knows when nothing runs any more."""

    seen: tuple[Seen, ...]
    """Every distinct point; of a search, those that have a result."""
    base: Mapping[str, Mapping[str, float]]
    """Metrics of the baselines, by path."""
    interrupted: bool
    search: search.Search | None
    started: datetime

    @property
    def results(self) -> list[Result]:
        """Results that can be read, in the order of their points."""
        found = [entry.standing.result for entry in self.seen]
        return [result for result in found if result is not None]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a command shows and records."""

    measured: Measured
    verdicts: tuple[gates.GateVerdict, ...]
    best: Best | None
    spreads: tuple[repeats.Spread, ...]


def run(
    plan: Plan,
    system: System,
    output_dir: Path,
    form: str,
    arguments: Sequence[str],
    reproduce: Reproduce | None = None,
) -> int:
    """The exit code: 0 every point valid, 3 a point is not, 4 a gate failed, 130 interrupted.

    0 as well for a search that found a load, and for a command that leaves the work to a process of its own.
    Raises StoreError when results cannot be written.
    """
    store = Store(output_dir)
    try:
        measured = measure(plan, system, store, partial(detach, store, form))
    except Unfit as unfit:
        return refuse(unfit.problems)
    return OK if measured is None else finish(plan, measured, store, form, arguments, reproduce)


def measure(
    plan: Plan, system: System, store: Store, leave: Callable[[int], int] | None = None
) -> Measured | None:
    """Has done what is not done yet. Null when `leave` took over, which is asked where `launch.detach` says so.

    Raises Unfit when nothing can be started.
    """
    base, problems = gates.baselines(plan)
    if problems:
        raise Unfit(problems)
    started = datetime.now(UTC)
    distinct = {point.digest: point for point in plan.points}
    before = {key: _look(plan, store, point) for key, point in distinct.items()}
    settings = plan.points[0].config
    done = {key for key, point in distinct.items() if _is_done(plan, point, before[key])}
    todo = [point for key, point in distinct.items() if key not in done]
    climbed, choose = ladder(plan.points), None
    if climbed is not None:
        choose = _choice(climbed, [before[key].result for key in done], base)
        todo = todo if choose([]) is not None else []
    _announce(plan, len(distinct), len(done), store)
    interrupted, measured = False, dict[str, Result]()
    if todo:
        _check_writable(store)
        groups = group(plan, todo)
        if leave is not None and settings["launch"]["detach"] is True:
            system.check(groups)
            leave(len(todo))
            return None
        wishes = Wishes(
            wanted=partial(_is_wanted, store, before),
            parallel=int(settings["launch"]["parallel"]),
            max_nodes=settings["system"]["max_nodes"],
            choose=choose,
        )
        try:
            measured |= system.realise(groups, store, partial(_write_files, plan, store), wishes)
        except KeyboardInterrupt:
            interrupted = True
    seen = [
        Seen(
            point,
            _seen(_look(plan, store, point), before[key], measured.get(str(key)), key in done),
            key in done,
        )
        for key, point in distinct.items()
    ]
    if climbed is None:
        return Measured(tuple(seen), base, interrupted, None, started)
    # Points that nobody had to measure are no failures.
    seen = [entry for entry in seen if entry.standing.result is not None]
    return Measured(tuple(seen), base, interrupted, _found(climbed, seen, base), started)


def finish(
    plan: Plan,
    measured: Measured,
    store: Store,
    form: str,
    arguments: Sequence[str],
    reproduce: Reproduce | None = None,
    folder: Path | None = None,
) -> int:
    """Judges, records and shows what was measured; gives the exit code. `folder`: the sweep's, made if not given."""
    seen, results = measured.seen, measured.results
    verdicts = gates.judge(plan.points, results, measured.base)
    entries = best.entries(plan.points, {one.point_digest: one for one in results}, measured.base)
    groups = [[one.result for one in found] for found in best.repeats(entries)]
    ending = Ending(measured, tuple(verdicts), best.best(entries), tuple(repeats.spreads(groups)))
    # Recorded first: whoever reads the table may be gone before its end.
    notes = _record(store, plan, ending, arguments, reproduce, folder)
    code = _exit_code(seen, verdicts, measured.interrupted)
    if measured.search is not None and measured.search.found is not None and not measured.interrupted:
        code = OK
    with contextlib.suppress(BrokenPipeError):
        _show(ending, form)
        sys.stdout.flush()
        for note in notes:
            print(note, file=sys.stderr)
    return code


def _check_writable(store: Store) -> None:
    try:
        store.check()
    except StoreError as exception:
        reason = f"cannot be written: {exception.reason}"
        problem = error("output-dir", "output_dir", str(store.root), reason, exception.hint)
        raise Unfit([problem]) from exception


def _choice(
    climbed: Ladder, known: Sequence[Result | None], base: Mapping[str, Mapping[str, float]]
) -> search.Choose:
    """How points of a search are chosen; what is `known` is not measured again."""
    by_digest = {str(point.digest): point for point in climbed.points}

    def judge(result: Result) -> bool:
        return best.passes([by_digest[result.point_digest]], result, base)

    budget = climbed.points[0].config.get("budget")
    before = search.judged([result for result in known if result is not None], judge)
    return search.bisect(climbed.points, judge, before, budget)


def _found(climbed: Ladder, seen: Sequence[Seen], base: Mapping[str, Mapping[str, float]]) -> search.Search:
    """What the results say together, those from before included."""
    judged = {
        one.point_digest: best.passes([entry.point], one, base)
        for entry in seen
        if (one := entry.standing.result) is not None
    }
    return search.outcome(climbed.key, climbed.points, climbed.values, judged)


def _is_done(plan: Plan, point: Point, standing: Standing) -> bool:
    """What was measured with a moving image never is."""
    return (
        standing.status == "done"
        and not point.config["force"]
        and plan.deployment(str(point.deployment)).repeatable
    )


def _is_wanted(
    store: Store, before: Mapping[str | None, Standing], deployment: Deployment, point: Point
) -> bool:
    """Whether nobody has measured the point since this command began, whatever came of it."""
    now = store.look(deployment, point)
    return _is_old(now, before[point.digest]) if now.result is not None else True


def _is_old(after: Standing, before: Standing) -> bool:
    """Nothing has come of a point since."""
    return after.result is None or (before.result is not None and before.result.same_attempt(after.result))


def _seen(after: Standing, before: Standing, measured: Result | None, reused: bool) -> Standing:
    """The standing after the command. What an earlier command left is not shown as this one's."""
    if measured is not None:
        # The store keeps a valid result though a later attempt is not.
        return standing_of(measured)
    if reused or after.result is None or not _is_old(after, before):
        return after
    return Standing(
        after.status if after.status != "done" else "failed", ("it was not measured again",), None
    )


def _exit_code(seen: Sequence[Seen], verdicts: Sequence[gates.GateVerdict], interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    if any(entry.standing.status != "done" for entry in seen):
        return POINT_FAILED
    return GATE_FAILED if any(not verdict.passed for verdict in verdicts) else OK


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _show(ending: Ending, form: str) -> None:
    measured = ending.measured
    if form == "json":
        results = [result.to_json() for result in measured.results]
        print(json.dumps({"schema": "servix.results/1", "results": results, **_judged(ending)}, indent=2))
        return
    if measured.results:
        table.print_table(measured.results, sys.stdout)
    _tell_missing(measured.seen, measured.interrupted, sys.stdout)
    if ending.spreads:
        print("", *repeats.lines(ending.spreads), "", sep="\n")
    for verdict in ending.verdicts:
        print(f"gate {'passed' if verdict.passed else 'FAILED'}: {verdict.text} ({verdict.reason})")
    if measured.search is not None:
        print(search.told(measured.search))
    if ending.best is not None:
        print(best.told(ending.best))
    elif asked := best.objective([entry.point for entry in measured.seen]):
        print(f"best: none, no valid point that meets its gates has {asked[0]}")


def _judged(ending: Ending) -> dict[str, object]:
    """What is said about results, for the JSON forms."""
    found = ending.measured.search
    return {
        "gates": [verdict.as_json() for verdict in ending.verdicts],
        "best": ending.best.as_json() if ending.best else None,
        "search": found.as_json() if found else None,
    }


def _tell_missing(seen: Sequence[Seen], interrupted: bool, stream: TextIO) -> None:
    """Points without any result that can be read."""
    for entry in seen:
        if entry.standing.status == "running":
            print(
                f"{entry.point.name}: another command measures it; the same command attaches to it",
                file=stream,
            )
        elif entry.standing.result is None and interrupted:
            print(f"{entry.point.name}: not measured, the command was interrupted", file=stream)
        elif entry.standing.result is None:
            reasons = "; ".join(entry.standing.reasons) or "it was not measured"
            print(f"{entry.point.name}: {entry.standing.status}: {reasons}", file=stream)


def _record(
    store: Store,
    plan: Plan,
    ending: Ending,
    arguments: Sequence[str],
    reproduce: Reproduce | None,
    folder: Path | None,
) -> list[str]:
    """Writes the sweep's folder; gives what to tell about it."""
    sweep = {
        "schema": "servix.sweep/1",
        "arguments": list(arguments),
        "started_at": ending.measured.started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "points": [_entry(store, plan, entry) for entry in ending.measured.seen],
        **_judged(ending),
    }
    chosen, results, again = _chosen(ending), ending.measured.results, None
    page = report.report_html(
        results, list(arguments), best=chosen.digest if chosen else None, spreads=ending.spreads
    )
    try:
        folder = folder or store.new_sweep()
        if chosen is not None and reproduce is not None:
            again = sweep["reproduce"] = reproduce(chosen, folder)
        write_atomically(folder / "sweep.json", as_json(sweep))
        write_atomically(folder / "results.csv", csv_text(results))
        write_atomically(folder / "report.html", page)
    except StoreError as exception:
        return [f"warning: the sweep was not recorded: {exception}"]
    return [f"report: {folder / 'report.html'}", *([f"best again: {again}"] if again else [])]


def _chosen(ending: Ending) -> Point | None:
    """The point a user will want again: the objective's, else what a search found."""
    if ending.best is not None:
        return ending.best.point
    found = ending.measured.search
    return found.found if found is not None else None


def _entry(store: Store, plan: Plan, entry: Seen) -> dict[str, object]:
    point, standing = entry.point, entry.standing
    deployment = plan.deployment(str(point.deployment))
    return {
        "name": point.name,
        "overrides": list(point.overrides),
        "digest": point.digest,
        "deployment": point.deployment,
        "short": digest.short(str(point.digest)),
        "status": standing.status,
        "reasons": list(standing.reasons),
        "reused": entry.reused,
        "folder": str(store.point_dir(deployment, point).relative_to(store.root)),
    }
