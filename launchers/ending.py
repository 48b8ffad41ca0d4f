"""The end of a command: judges, records and shows what was measured.

Takes what is known of every point; gives the exit code, a table, and the sweep's folder.
Never does: measuring, or looking into the store for results.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from compiler import digest
from compiler.plan import Plan, Point
from launchers import best, gates, search
from launchers.best import Best, Reproduce
from launchers.refusal import Trouble
from launchers.results import repeats, report, table
from launchers.results.frame import csv_text, labels_of
from launchers.results.result import Result
from launchers.results.trajectory import trajectory_csv
from launchers.store import Standing, Store, StoreError, as_json, write_atomically

NO_COMMAND = "no command measures this point alone; sweep.json has its overrides"
OK, POINT_FAILED, GATE_FAILED, INTERRUPTED = 0, 3, 4, 130


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
    trouble: Trouble | OSError | None = None
    """What ended the command before all was measured, such as a full disk; to be told after what was kept."""

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
    labels: Sequence[str]
    """What each point that was seen is called."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How a command wants to be told, and what else is to be told of it."""

    form: str
    """`text` or `json`."""
    arguments: Sequence[str]
    """What was typed."""
    reproduce: Reproduce | None = None
    """Writes the file of the best point; null: none is written."""
    left_out: Sequence[Point] = ()
    """Points that cannot run and that the plan does not hold."""
    folder: Path | None = None
    """The sweep's; null: a new one."""


def finish(plan: Plan, measured: Measured, store: Store, telling: Telling) -> int:
    """Judges, records and shows what was measured; gives the exit code."""
    seen, results = measured.seen, measured.results
    verdicts = gates.judge(plan.points, results, measured.base)
    entries = best.entries(plan.points, {one.point_digest: one for one in results}, measured.base)
    groups = [[one.result for one in found] for found in best.repeats(entries)]
    labels = labels_in(plan, [entry.point for entry in seen])
    ending = Ending(measured, tuple(verdicts), best.best(entries), tuple(repeats.spreads(groups)), labels)
    # Recorded first: whoever reads the table may be gone before its end.
    notes = _record(store, plan, ending, telling)
    if telling.left_out:
        plural = "" if len(telling.left_out) == 1 else "s"
        notes.insert(0, f"servix: {len(telling.left_out)} point{plural} left out, see above")
    with contextlib.suppress(BrokenPipeError):
        _show(ending, telling.form)
        sys.stdout.flush()
        for note in notes:
            print(note, file=sys.stderr)
    if measured.search is not None and not measured.interrupted:
        if measured.search.found is not None:
            return OK
        if measured.search.measured == 0:
            return POINT_FAILED
    return _exit_code(seen, verdicts, measured.interrupted)


def _exit_code(seen: Sequence[Seen], verdicts: Sequence[gates.GateVerdict], interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    if any(entry.standing.status != "done" for entry in seen):
        return POINT_FAILED
    return GATE_FAILED if any(not verdict.passed for verdict in verdicts) else OK


def _show(ending: Ending, form: str) -> None:
    measured = ending.measured
    if form == "json":
        results = [result.to_json() for result in measured.results]
        print(json.dumps({"schema": "servix.results/1", "results": results, **_judged(ending)}, indent=2))
        return
    if measured.results:
        table.print_table(measured.results, sys.stdout)
    _tell_missing(ending, sys.stdout)
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


def labels_in(plan: Plan, points: Iterable[Point]) -> list[str]:
    """What to call each point, so that they can be told apart."""
    named = [(point, plan.deployment(str(point.deployment)).name) for point in points]
    return labels_of([(one.name, on, one.overrides, str(one.digest), 0) for one, on in named])


def _tell_missing(ending: Ending, stream: TextIO) -> None:
    """Points without any result that can be read."""
    for label, entry in zip(ending.labels, ending.measured.seen, strict=True):
        if entry.standing.status == "running":
            print(f"{label}: another command measures it; the same command attaches to it", file=stream)
        elif entry.standing.result is None and ending.measured.interrupted:
            print(f"{label}: not measured, the command was interrupted", file=stream)
        elif entry.standing.result is None and ending.measured.trouble is not None:
            print(f"{label}: not measured, the command ended with an error", file=stream)
        elif entry.standing.result is None:
            reasons = "; ".join(entry.standing.reasons) or "it was not measured"
            print(f"{label}: {entry.standing.status}: {reasons}", file=stream)


def _record(store: Store, plan: Plan, ending: Ending, telling: Telling) -> list[str]:
    """Writes the sweep's folder; gives what to tell about it."""
    measured, chosen, again = ending.measured, _chosen(ending), None
    results, arguments = measured.results, list(telling.arguments)
    sweep = {
        "schema": "servix.sweep/1",
        "arguments": arguments,
        "started_at": measured.started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "points": [_entry(store, plan, entry) for entry in measured.seen],
        "left_out": [_invalid(point) for point in telling.left_out],
        **_judged(ending),
    }
    digest_of_best = chosen.digest if chosen else None
    left_out = [report.LeftOut.of(point) for point in telling.left_out]
    page = report.report_html(
        results, arguments, best=digest_of_best, spreads=ending.spreads, left_out=left_out
    )
    try:
        folder = telling.folder or store.new_sweep()
        if chosen is not None and telling.reproduce is not None:
            again = sweep["reproduce"] = telling.reproduce(chosen, folder)
        write_atomically(folder / "sweep.json", as_json(sweep))
        write_atomically(folder / "results.csv", csv_text(results))
        write_atomically(folder / "trajectory.csv", _trajectory(store, plan, measured.seen, telling))
        write_atomically(folder / "report.html", page)
    except StoreError as exception:
        return [f"warning: the sweep was not recorded: {exception}"]
    notes = [f"report: {folder / 'report.html'}"]
    if "reproduce" in sweep:
        notes.append(f"best again: {again or NO_COMMAND}")
    return notes


def _trajectory(store: Store, plan: Plan, seen: Sequence[Seen], telling: Telling) -> str:
    standings = {str(entry.point.digest): entry.standing for entry in seen}
    attempts = {
        str(point.digest): store.attempts(plan.deployment(str(point.deployment)), point)
        for point in (entry.point for entry in seen)
    }
    return trajectory_csv([*plan.points, *telling.left_out], standings, attempts)


def _chosen(ending: Ending) -> Point | None:
    """The point a user will want again: the objective's, else what a search found."""
    if ending.best is not None:
        return ending.best.point
    found = ending.measured.search
    return found.found if found is not None else None


def _invalid(point: Point) -> dict[str, object]:
    problems = [problem.as_json() for problem in point.problems]
    return {"name": point.name, "overrides": list(point.overrides), "problems": problems}


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
