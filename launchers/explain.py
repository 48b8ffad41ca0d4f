"""`action=explain`: why each point would run or not, or what two points differ in (`between=[A,B]`).

Takes a plan; prints text or one JSON document. Nothing is started.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from compiler.compose import Composer
from compiler.difference import Difference, differences
from compiler.digest import short
from compiler.errors import Problem, json_value, one_line
from compiler.keys import in_digest
from compiler.origin import with_origins
from compiler.plan import Plan, Point
from compiler.search import ladder
from launchers import between as comparing
from launchers import gates, search
from launchers.ledger import Entry, ledger, unread
from launchers.refusal import refuse, warn
from launchers.results.result import Result
from launchers.sides import Side, side
from launchers.store import RESULT, Store, read_result

OK = 0
SCHEMA = "servix.explain/1"
MOST_SHOWN = 40
MOST_NEAREST = 10
"""New points for which the nearest stored one is looked for."""
MOST_COMPARED = 200
"""Results that are looked at for that, the newest first."""

Decision = Literal[
    "runs", "runs next", "may run", "waits", "is not needed", "is done", "is a double", "cannot run"
]


@dataclass(frozen=True, slots=True)
class Why:
    """What a run would do with a point, and why."""

    entry: Entry
    decision: Decision
    why: str
    nearest: str = ""
    """For a point that nothing is stored of: what is stored and differs least."""


def explain(composer: Composer, plan: Plan, output_dir: Path, form: str) -> int:
    """Prints why points would run; gives the exit code (0, or 2 where something cannot be read)."""
    store = Store(output_dir)
    wrong, untold = unread(plan, store)
    if wrong:
        return refuse(wrong)
    warn(untold)
    asked = next((point.config.get("between") for point in plan.points if point.config), None)
    wrong = [each for point in plan.points for each in point.problems if each.key.startswith("between")]
    if isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) == 2 and not wrong:
        return _compare(composer, plan, store, [str(text) for text in asked], form)
    found = reasons(plan, store)
    if form == "json":
        _print_json({"schema": SCHEMA, "points": [_as_json(why) for why in found], "between": None})
    else:
        print("\n".join(lines(found)))
    return OK


def reasons(plan: Plan, store: Store) -> list[Why]:
    """What a run would do with each point of the plan, in order."""
    entries = ledger(plan, store)
    new = [entry for entry in entries if entry.standing.status == "new" and entry.double_of is None]
    stored = _newest(store) if 0 < len(new) <= MOST_NEAREST else []
    return _searched(plan, [_why(entry, stored) for entry in entries])


def _searched(plan: Plan, found: Sequence[Why]) -> list[Why]:
    """The same for a search, which runs what it needs, one point after the other."""
    base, problems = gates.baselines(plan.points)
    reused = [why.entry.standing.result for why in found if why.entry.reused and why.entry.double_of is None]
    known = [result for result in reused if result is not None]
    outcome, climbed = (
        search.so_far(plan.points, known, base),
        ladder([one for one in plan.points if one.valid]),
    )
    if outcome is None or climbed is None or problems:
        return list(found)
    judged = search.judged(known, search.judge_of(climbed.points, base))
    first = search.next_point(climbed.points, judged)
    left = {point.digest for point in search.still_open(climbed.points, judged)}
    enough = search.told(outcome).removeprefix("search: ")

    def of(why: Why) -> Why:
        digest = why.entry.point.digest
        if why.decision != "runs":
            return why
        if first is not None and digest == first.digest:
            return replace(why, decision="runs next", why=f"the search asks for it first; {why.why}")
        if digest in left:
            return replace(why, decision="may run", why=f"by what the search finds at others; {why.why}")
        return replace(why, decision="is not needed", why=enough, nearest="")

    return [of(why) for why in found]


def lines(found: Sequence[Why]) -> Iterator[str]:
    """The text form: what runs first, and of very many points the first of each decision."""
    counts = Counter(why.decision for why in found)
    yield f"explain: {len(found)} point{'s' if len(found) != 1 else ''}: " + ", ".join(
        f"{count} {_PLURAL[decision] if count != 1 else decision}" for decision, count in counts.items()
    )
    most = MOST_SHOWN if len(found) <= MOST_SHOWN else MOST_SHOWN // 4
    for decision in _PLURAL:
        having = [why for why in found if why.decision == decision]
        for why in having[:most]:
            digest = short(why.entry.point.digest) if why.entry.point.digest else "-"
            yield one_line(f"  {why.entry.label} ({digest}) {decision}: {why.why}")
            if why.nearest:
                yield one_line(f"    nearest stored: {why.nearest}")
        if len(having) > most:
            yield f"  ... and {len(having) - most} more (format=json shows all)"


_PLURAL: Mapping[Decision, str] = {
    "runs": "run",
    "runs next": "run next",
    "may run": "may run",
    "waits": "wait",
    "cannot run": "cannot run",
    "is not needed": "are not needed",
    "is a double": "are doubles",
    "is done": "are done",
}
"""Decision -> the same of several points, in the order shown."""


def _why(entry: Entry, stored: Sequence[Result]) -> Why:
    standing, result = entry.standing, entry.standing.result
    first = (standing.reasons[0].splitlines() or [""])[0] if standing.reasons else ""
    if entry.deployment is None:
        return Why(entry, "cannot run", first or "it has problems")
    if entry.double_of is not None:
        return Why(entry, "is a double", f"same digest as {entry.double_of}, so it is measured once")
    if standing.status == "running":
        return Why(entry, "waits", f"measured by {entry.holder}; its result is taken")
    if standing.status == "new":
        return Why(entry, "runs", "nothing is stored under its digest", _nearest(entry.point, stored))
    if standing.status == "done" and result is not None:
        done = f"attempt {result.attempt} was valid, finished {result.finished_at}"
        if entry.reused:
            return Why(entry, "is done", f"{done}: {entry.folder}/{RESULT}")
        if entry.point.config.get("force"):
            return Why(entry, "runs", f"{done}, and force=true measures it again")
        images = sorted({process.image for process in entry.deployment.processes if process.image})
        moving = f"image {', '.join(images) or 'it runs in'} may be another one by now; pin it by its digest"
        return Why(entry, "runs", f"{done}, but {moving}")
    what = f"attempt {result.attempt}, finished {result.finished_at}, is" if result is not None else "it is"
    return Why(
        entry, "runs", f"{what} {standing.status}, which is tried again: {first or 'no reason is stored'}"
    )


def _changed(each: Difference) -> str:
    was, now = (comparing.value_text(value) for value in (each.a, each.b))
    return f"{each.key} was {was}, is {now}"


def _nearest(point: Point, stored: Sequence[Result]) -> str:
    """The stored result whose settings differ least, and the first of them."""
    best: tuple[int, str] | None = None
    typed = {text.partition("=")[0].lstrip("+") for text in point.overrides}
    for result in stored:
        found = [each for each in differences(result.config, point.config) if in_digest(each.key)]
        # What the user typed says most.
        brief = sorted(comparing.condensed(found), key=lambda each: each.key not in typed)
        # Equal settings under another digest: another release made them.
        told = "; ".join(_changed(each) for each in brief[:3])
        more = f"; and {len(brief) - 3} more" if len(brief) > 3 else ""
        if best is None or len(found) < best[0]:
            text = told or "the same settings, measured by another release of servix"
            best = len(found), f"{result.point_name} ({short(result.point_digest)}): {text}{more}"
    return best[1] if best is not None else ""


def _newest(store: Store) -> list[Result]:
    """The results that were written last."""
    dated: list[tuple[float, Path]] = []
    for path in store.root.glob(f"store/*/*/{RESULT}"):
        try:
            dated.append((path.stat().st_mtime, path))
        except OSError:
            continue
    found = [read_result(path) for _, path in sorted(dated, reverse=True)[:MOST_COMPARED]]
    return [result for result in found if isinstance(result, Result) and result.config]


def _compare(composer: Composer, plan: Plan, store: Store, asked: Sequence[str], form: str) -> int:
    found = [side(text, composer, plan, store) for text in asked]
    problems = [each for each in found if isinstance(each, Problem)]
    if problems:
        overrides = plan.points[0].overrides if plan.points else ()
        return refuse(with_origins(composer, overrides, problems))
    a, b = (each for each in found if isinstance(each, Side))
    comparison = comparing.between(a, b)
    if form == "json":
        _print_json({"schema": SCHEMA, "points": [], "between": comparing.document(comparison)})
    else:
        print("\n".join(comparing.lines(comparison)))
    return OK


def _as_json(why: Why) -> dict[str, Any]:
    entry, result = why.entry, why.entry.standing.result
    holder = entry.holder
    return {
        "name": entry.point.name,
        "overrides": list(entry.point.overrides),
        "digest": entry.point.digest,
        "deployment": entry.point.deployment,
        "status": entry.standing.status,
        "decision": why.decision,
        "why": why.why,
        "nearest": why.nearest or None,
        "attempt": result.attempt if result else None,
        "finished_at": result.finished_at if result else None,
        "result": f"{entry.folder}/{RESULT}" if result else None,
        "running": holder and {"pid": holder.pid, "host": holder.host, "since": holder.since},
        "double_of": entry.double_of,
        "problems": [json_value(problem.as_json()) for problem in entry.point.problems],
    }


def _print_json(document: Mapping[str, Any]) -> None:
    json.dump(document, sys.stdout, indent=2)
    print()
