"""`action=report`: the table, and a fresh report of what the store holds for the points of a command.

Takes a plan without errors; gives the exit code that a run would have ended with. Nothing is started.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from compiler.plan import Plan
from launchers import gates, run
from launchers.ending import Seen, Telling, finish
from launchers.ledger import Entry, ledger, unread
from launchers.refusal import refuse, warn
from launchers.store import Standing, Store


def report(plan: Plan, output_dir: Path, telling: Telling) -> int:
    """The exit code: 0 every point valid, 3 a point is not or was not measured, 4 a gate failed."""
    started, store = datetime.now(UTC), Store(output_dir)
    wrong, untold = unread(plan, store)
    base, problems = gates.baselines(plan.points)
    if wrong or problems:
        return refuse([*wrong, *problems])
    warn(untold)
    entries = [entry for entry in ledger(plan, store) if entry.double_of is None]
    seen = [Seen(entry.point, _standing(entry), entry.standing.result is not None) for entry in entries]
    return finish(plan, run.together(plan, seen, base, started), store, telling)


def _standing(entry: Entry) -> Standing:
    """What is stored; where another session measures the point, who that is in place of an older result."""
    if entry.holder is None:
        return entry.standing
    return Standing("running", (f"measured by {entry.holder}",), None)
