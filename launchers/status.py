"""`action=status`: how far the points of a command are, at any time, and nothing is started.

Takes the ledger of a plan; prints a summary line and the points most worth a look, or one JSON document.
Never does: showing a number of a point that is not done.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.digest import short
from compiler.errors import format_problem, json_value, one_line
from compiler.plan import Plan, Status
from launchers import best, gates, search
from launchers.ledger import Entry, Holder, ledger, unread
from launchers.refusal import refuse, warn
from launchers.results.frame import MAIN_METRICS, settings_of, shared
from launchers.results.table import COLUMNS, NONE, Row, clipped
from launchers.store import Store

OK = 0
SCHEMA = "servix.status/1"
MOST_SHOWN = 40
"""Points that are all shown; of more, the first of each status."""
SHOWN_OF_MANY: Mapping[Status, int] = {"running": 10, "failed": 10, "invalid": 5, "done": 10, "new": 5}
"""Status -> points shown of it, most interesting first."""
WIDTH = 120
LONGEST_NAME = 48
"""A point with a longer label is called by its digest: its overrides are in its line anyway."""
SHORTEST_SETTINGS = 20
"""Overrides that get less room than that say nothing."""
_NUMBERS = [column for column in COLUMNS if column[1] not in ("status", "requests")]


def status(plan: Plan, output_dir: Path, form: str) -> int:
    """Prints how far the points are; gives the exit code (0, or 2 where nothing can be read)."""
    store = Store(output_dir)
    wrong, untold = unread(plan, store)
    if wrong:
        return refuse(wrong)
    entries = ledger(plan, store)
    if form == "json":
        json.dump(document(entries, store), sys.stdout, indent=2 if len(entries) <= MOST_SHOWN else None)
        print()
    else:
        width = max(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
        print("\n".join(lines(entries, store, width)))
    warn([*untold, *map(format_problem, gates.baselines(plan.points)[1])])
    return OK


def lines(entries: Sequence[Entry], store: Store, width: int = WIDTH) -> Iterator[str]:
    """The text form: the summary first, then points by how much they need a look."""
    yield _summary(entries, store)
    chosen = best_of(entries)
    if chosen is not None:
        yield best.told(chosen)
    if (climbed := _search(entries)) is not None:
        yield search.told(climbed)
    found: list[Entry] = []
    rest: Counter[str] = Counter()
    for state, most in SHOWN_OF_MANY.items():
        having = [entry for entry in entries if entry.standing.status == state and entry.deployment]
        having = _ranked(having, chosen) if state == "done" else having
        shown = having if len(entries) <= MOST_SHOWN else having[:most]
        found += shown
        rest[state] = len(having) - len(shown)
    if found:
        yield ""
        yield from _table(found, width)
    for other, count in rest.items():
        if count:
            yield f"... and {count} more {other} (format=json shows all)"


def document(entries: Sequence[Entry], store: Store) -> dict[str, Any]:
    """The JSON form."""
    counts = Counter(entry.standing.status for entry in entries)
    chosen = best_of(entries)
    return {
        "schema": SCHEMA,
        "output_dir": str(store.root),
        "summary": {"points": len(entries), **{state: counts[state] for state in SHOWN_OF_MANY}},
        "best": chosen.as_json() if chosen else None,
        "search": climbed.as_json() if (climbed := _search(entries)) else None,
        "points": [_as_json(entry) for entry in entries],
    }


def _summary(entries: Sequence[Entry], store: Store) -> str:
    asked = [entry for entry in entries if entry.deployment is not None]
    counts = Counter(entry.standing.status for entry in asked)
    parts = [f"{counts[state]} {state}" for state in SHOWN_OF_MANY if counts[state]]
    doubles = sum(entry.double_of is not None for entry in asked)
    parts += [f"{len(entries) - len(asked)} with problems"] if len(asked) < len(entries) else []
    parts += [f"{doubles} of them asked for twice"] if doubles else []
    deployments = len({entry.point.deployment for entry in asked})
    plural = "s" if len(entries) != 1 else "", "s" if deployments != 1 else ""
    what = f"{len(entries)} point{plural[0]} ({', '.join(parts)})"
    return f"status: {what} on {deployments} deployment{plural[1]}; results in {store.root}"


def best_of(entries: Sequence[Entry]) -> best.Best | None:
    """What a run would call best of the points that are done; null where none may win, or a baseline cannot be read."""
    asked = [entry.point for entry in entries if entry.deployment is not None]
    base, problems = gates.baselines(asked)
    done = [entry.standing.result for entry in entries if entry.standing.status == "done"]
    results = {result.point_digest: result for result in done if result is not None}
    return None if problems else best.best(best.entries(asked, results, base))


def _search(entries: Sequence[Entry]) -> search.Search | None:
    """What a search has come to by now; null where there is none, or a baseline cannot be read."""
    asked = [entry.point for entry in entries if entry.deployment is not None]
    base, problems = gates.baselines(asked)
    stored = [entry.standing.result for entry in entries if entry.standing.status != "running"]
    results = [result for result in stored if result is not None]
    return None if problems else search.so_far(asked, results, base)


def _ranked(done: Sequence[Entry], chosen: best.Best | None) -> list[Entry]:
    """The best point, then the others by their own value of the objective; in order where there is none."""
    metric, direction = best.objective([entry.point for entry in done]) or ("", "")
    sign, first = -1 if direction == "maximize" else 1, chosen and chosen.point.digest
    values = {id(entry): sign * _metrics(entry).get(metric, sign * math.inf) for entry in done}
    return sorted(done, key=lambda entry: (entry.point.digest != first, values[id(entry)]))


def _metrics(entry: Entry) -> Mapping[str, float]:
    """Metrics of a point that is done; none of any other."""
    result = entry.standing.result
    return result.metrics if result is not None and entry.standing.status == "done" else {}


def _table(entries: Sequence[Entry], width: int) -> Iterator[str]:
    heads = [("", "point"), ("", "status"), ("", "tries"), *((top, bottom) for top, bottom, _ in _NUMBERS)]
    rows = [*zip(*heads, strict=True), *map(_cells, entries, _names(entries))]
    # What all of them have in common tells none apart.
    common = shared(entry.point.overrides for entry in entries)
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, cells in enumerate(rows):
        name = f"  {cells[0]:<{sizes[0]}}  {cells[1]:<{sizes[1]}}"
        line = "  ".join(
            [name, *(f"{cell:>{size}}" for cell, size in zip(cells[2:], sizes[2:], strict=True))]
        )
        if index >= len(heads[0]):
            entry = entries[index - len(heads[0])]
            own = [word for word in settings_of(entry.point.overrides) if word not in common]
            if len(line) + SHORTEST_SETTINGS <= width:
                line = clipped(f"{line}  {one_line(' '.join(own))}", width)
        yield line.rstrip()
        if index >= len(heads[0]) and (told := _told(entry)):
            yield clipped(f"      {told}", width)


def _names(entries: Sequence[Entry]) -> list[str]:
    """What tells points apart, and leaves room for numbers."""
    if max(len(entry.label) for entry in entries) <= LONGEST_NAME:
        return [one_line(entry.label) for entry in entries]
    return [one_line(f"{entry.point.name} {short(str(entry.point.digest))}") for entry in entries]


def _cells(entry: Entry, name: str) -> tuple[str, ...]:
    numbers = [NONE for _ in _NUMBERS]
    result = entry.standing.result
    if result is not None and entry.standing.status == "done":
        measured = next((phase for phase in reversed(result.phases) if phase.metrics), None)
        row = Row(entry.label, None, result.verdict, result, measured)
        numbers = [show(row) for _, _, show in _NUMBERS]
    return (name, entry.standing.status, str(entry.attempts), *numbers)


def _told(entry: Entry) -> str:
    """One line below the point: who measures it, or the first reason why it is not done."""
    if entry.holder is not None:
        return f"measured by {one_line(str(entry.holder))}"
    return one_line((entry.standing.reasons[0].splitlines() or [""])[0]) if entry.standing.reasons else ""


def _running(holder: Holder) -> dict[str, Any]:
    job = {} if holder.job is None else {"job": holder.job, "state": holder.state}
    return {"pid": holder.pid, "host": holder.host, "since": holder.since, **job}


def _as_json(entry: Entry) -> dict[str, Any]:
    point, result, metrics = entry.point, entry.standing.result, _metrics(entry)
    wanted = dict.fromkeys([*MAIN_METRICS, str((point.config.get("objective") or {}).get("metric"))])
    holder = entry.holder
    return {
        "name": point.name,
        "overrides": list(point.overrides),
        "digest": point.digest,
        "deployment": point.deployment,
        "deployment_name": entry.deployment.name if entry.deployment else None,
        "status": entry.standing.status,
        "reasons": list(entry.standing.reasons),
        "attempts": entry.attempts,
        "attempt": result.attempt if result else None,
        "running": holder and _running(holder),
        "started_at": result.started_at if result else None,
        "finished_at": result.finished_at if result else None,
        "metrics": {name: metrics[name] for name in wanted if name in metrics},
        "folder": str(entry.folder) if entry.folder else None,
        "double_of": entry.double_of,
        "problems": [json_value(problem.as_json()) for problem in point.problems],
    }
