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
from compiler.sweep import Group, group
from launchers import gates
from launchers.detach import detach
from launchers.refusal import Unfit, refuse
from launchers.results import report, table
from launchers.results.frame import csv_text
from launchers.results.result import Result
from launchers.results.trajectory import trajectory_csv
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


def run(plan: Plan, system: System, output_dir: Path, form: str, arguments: Sequence[str]) -> int:
    """The exit code: 0 every point valid, 3 a point is not, 4 a gate failed, 130 interrupted.

    0 as well for a command that leaves the work to a process of its own.
    Raises StoreError when results cannot be written.
    """
    base, problems = gates.baselines(plan)
    if problems:
        return refuse(problems)
    store, started = Store(output_dir), datetime.now(UTC)
    distinct = {point.digest: point for point in plan.points}
    before = {key: _look(plan, store, point) for key, point in distinct.items()}
    settings = plan.points[0].config
    done = {key for key, point in distinct.items() if _is_done(plan, point, before[key])}
    todo = [point for key, point in distinct.items() if key not in done]
    _announce(plan, len(distinct), len(done), store)
    interrupted, measured = False, dict[str, Result]()
    if todo:
        try:
            store.check()
        except StoreError as exception:
            reason = f"cannot be written: {exception.reason}"
            return refuse([error("output-dir", "output_dir", str(output_dir), reason, exception.hint)])
        try:
            groups = group(plan, todo)
            if settings["launch"]["detach"] is True:
                system.check(groups)
                return detach(store, form, len(todo))
            wishes = Wishes(
                wanted=partial(_is_wanted, store, before),
                parallel=int(settings["launch"]["parallel"]),
                max_nodes=settings["system"]["max_nodes"],
            )
            measured |= system.realise(groups, store, partial(_write_files, plan, store), wishes)
        except Unfit as unfit:
            return refuse(unfit.problems)
        except KeyboardInterrupt:
            interrupted = True
    seen = [
        Seen(point, before[key], reused=True)
        if key in done
        else Seen(point, _seen(_look(plan, store, point), before[key], measured.get(str(key))), reused=False)
        for key, point in distinct.items()
    ]
    return conclude(store, plan, seen, base, form, arguments, started, interrupted)


def conclude(
    store: Store,
    plan: Plan,
    seen: Sequence[Seen],
    base: gates.Baselines,
    form: str,
    arguments: Sequence[str],
    started: datetime,
    interrupted: bool = False,
) -> int:
    """Judges the gates, records the sweep and shows what was seen; gives the exit code."""
    verdicts = gates.judge(plan.points, [entry.standing.result for entry in seen], base)
    # Recorded first: whoever reads the table may be gone before its end.
    report_path = _record(store, plan, seen, verdicts, arguments, started)
    with contextlib.suppress(BrokenPipeError):
        _show(seen, verdicts, form, interrupted)
        sys.stdout.flush()
        if report_path is not None:
            print(f"report: {report_path}", file=sys.stderr)
    return _exit_code(seen, verdicts, interrupted)


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


def _show(seen: Sequence[Seen], verdicts: Sequence[gates.GateVerdict], form: str, interrupted: bool) -> None:
    results = [entry.standing.result for entry in seen if entry.standing.result is not None]
    if form == "json":
        document = {"schema": "servix.results/1", "results": [result.to_json() for result in results]}
        document["gates"] = [verdict.as_json() for verdict in verdicts]
        print(json.dumps(document, indent=2))
        return
    if results:
        table.print_table(results, sys.stdout)
    _tell_missing(seen, interrupted, sys.stdout)
    for verdict in verdicts:
        print(f"gate {'passed' if verdict.passed else 'FAILED'}: {verdict.text} ({verdict.reason})")


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
    seen: Sequence[Seen],
    verdicts: Sequence[gates.GateVerdict],
    arguments: Sequence[str],
    started: datetime,
) -> Path | None:
    """Writes the sweep's folder; gives the report's path, or null where it could not be written."""
    results: list[Result] = [entry.standing.result for entry in seen if entry.standing.result is not None]
    sweep = {
        "schema": "servix.sweep/1",
        "arguments": list(arguments),
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "points": [_entry(store, plan, entry) for entry in seen],
        "gates": [verdict.as_json() for verdict in verdicts],
    }
    try:
        folder = store.new_sweep()
        write_atomically(folder / "sweep.json", as_json(sweep))
        write_atomically(folder / "results.csv", csv_text(results))
        write_atomically(folder / "trajectory.csv", _trajectory(store, plan, seen))
        write_atomically(folder / "report.html", report.report_html(results, list(arguments)))
    except StoreError as exception:
        print(f"warning: the sweep was not recorded: {exception}", file=sys.stderr)
        return None
    return folder / "report.html"


def _trajectory(store: Store, plan: Plan, seen: Sequence[Seen]) -> str:
    standings = {str(entry.point.digest): entry.standing for entry in seen}
    attempts = {
        str(point.digest): store.attempts(plan.deployment(str(point.deployment)), point)
        for point in (entry.point for entry in seen)
    }
    return trajectory_csv(plan.points, standings, attempts)


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
