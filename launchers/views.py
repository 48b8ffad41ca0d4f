"""Actions that look and start nothing: one function each, which gives the exit code.

Takes the plan and what was asked; reads the store. Never does: starting anything, or writing a result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from compiler.compose import Composer
from compiler.errors import error
from compiler.plan import Plan, Point
from launchers.asked import Asked, without_skipped
from launchers.problems import refused, tell_all, tell_skipped
from launchers.refusal import PROBLEMS, refuse
from launchers.systems import kind_of, slurm_of

if TYPE_CHECKING:
    from launchers.store import Store

OK = 0


def _with_status(plan: Plan, store: Store) -> tuple[Plan, dict[str, str]]:
    """The plan with the state of every point in the store, and why points are failed or invalid, by digest.

    What is done and would be measured again is `new`.
    """
    from launchers.ledger import is_done

    points: list[Point] = []
    reasons: dict[str, str] = {}
    for point in plan.points:
        if point.valid and point.deployment is not None and point.digest is not None:
            deployment = plan.deployment(point.deployment)
            standing = store.look(deployment, point)
            again = standing.status == "done" and not is_done(deployment, point, standing)
            point = replace(point, status="new" if again else standing.status)
            if standing.reasons:
                reasons[str(point.digest)] = standing.reasons[0]
        points.append(point)
    return replace(plan, points=tuple(points)), reasons


def _show_plan(composer: Composer, plan: Plan, asked: Asked) -> int:
    from launchers import plan as view
    from launchers.store import Store

    plan, reasons = _with_status(plan, Store(asked.output_dir))
    word, code = _of_the_rest(plan, asked)
    if asked.format == "json":
        view.print_json(plan)
        tell_all(plan, sys.stderr, word)
    else:
        view.print_text(plan, reasons)
        tell_all(plan, sys.stdout, word)
    runnable = without_skipped(plan, asked)[0]
    if code == OK and kind_of(runnable) == "slurm":
        from launchers import scripts

        scripts.write_scripts(runnable, Store(asked.output_dir), slurm_of(runnable, composer))
    if code == OK and kind_of(runnable) == "kubernetes":
        from launchers import manifests

        manifests.write(runnable, Store(asked.output_dir))
    return code


def _of_the_rest(plan: Plan, asked: Asked) -> tuple[str, int]:
    """What errors are called where nothing is started, and the exit code: that of the points not to be skipped."""
    rest = without_skipped(plan, asked)[0]
    return ("left out", OK) if rest.points and rest.valid else ("error", PROBLEMS)


def _show_schema(*_: object) -> int:
    import json

    from compiler.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return OK


def _status(_: Composer, plan: Plan, asked: Asked) -> int:
    from launchers.status import status

    word, code = _of_the_rest(plan, asked)
    tell_all(plan, sys.stderr, word)
    if plan.points and kind_of(plan) == "kubernetes":
        from launchers.kubernetes import status as cluster

        cluster.ask(plan)
    return status(plan, asked.output_dir, asked.format) or code


def _report(composer: Composer, plan: Plan, asked: Asked) -> int:
    from launchers import best
    from launchers.ending import Telling
    from launchers.report import report

    rest, skipped = without_skipped(plan, asked)
    if not rest.valid or not rest.points:
        return refused(plan, asked)
    tell_all(plan, sys.stderr, "left out")
    tell_skipped(skipped, len(plan.points), sys.stderr)
    return report(
        rest,
        asked.output_dir,
        Telling(asked.format, asked.arguments, partial(best.reproduced, composer), skipped),
    )


def _explain(composer: Composer, plan: Plan, asked: Asked) -> int:
    from launchers.explain import explain

    word, code = _of_the_rest(plan, asked)
    tell_all(plan, sys.stderr, word)
    return explain(composer, plan, asked.output_dir, asked.format) or code


def _gc(_: Composer, plan: Plan, asked: Asked) -> int:
    from launchers.gc import gc

    return gc(plan, asked.output_dir, asked.format)


def _fetch(_: Composer, plan: Plan, asked: Asked) -> int:
    rest, _skipped = without_skipped(plan, asked)
    if not rest.valid or not rest.points:
        return refused(plan, asked)
    if (kind := kind_of(rest)) != "kubernetes":
        reason = f"results of a {kind} system are in its store, there is nothing to fetch"
        return refuse([error("system", "action", "fetch", reason)])
    from launchers.kubernetes.fetch import fetch

    return fetch(rest, asked.output_dir, asked.format)


VIEWS: Mapping[str, Callable[[Composer, Plan, Asked], int]] = {
    "plan": _show_plan,
    "schema": _show_schema,
    "status": _status,
    "report": _report,
    "explain": _explain,
    "gc": _gc,
    "fetch": _fetch,
}
"""Actions that look and start nothing; each gives the exit code."""
