"""Problems of a plan, told: each once, with the number of points that have it.

Takes a plan; prints. Never does: deciding what follows from a problem.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from compiler.errors import Problem, format_problem
from compiler.plan import Plan, Point
from launchers.asked import Asked
from launchers.refusal import PROBLEMS

MOST_PROBLEMS = 30
"""Lines of problems that are shown: about a screen."""


def said(problem: Problem) -> tuple[str, str, str, str]:
    """What makes two problems one for a reader."""
    return problem.code, problem.key, problem.reason, problem.origin


def told_once(plan: Plan) -> list[tuple[Problem, int]]:
    """Every distinct problem of the plan with the number of points that have it, errors first."""
    counts: dict[tuple[str, str, str, str], tuple[Problem, int]] = {}
    for point in plan.points:
        for problem in point.problems:
            key = said(problem)
            counts[key] = (problem, counts.get(key, (problem, 0))[1] + 1)
    return sorted(counts.values(), key=lambda entry: entry[0].level != "error")


def tell_all(plan: Plan, stream: TextIO, of_errors: str = "error") -> None:
    """Every problem on a line that starts with its level; `of_errors` is said of errors that stop nothing."""
    several, found = len(plan.points) > 1, told_once(plan)
    for problem, count in found[:MOST_PROBLEMS]:
        points = f" ({count} of {len(plan.points)} points)" if several else ""
        level = of_errors if problem.level == "error" else problem.level
        print(f"{level}: {format_problem(problem)}{points}", file=stream)
    if len(found) > MOST_PROBLEMS:
        print(f"... and {len(found) - MOST_PROBLEMS} more (action=plan format=json shows all)", file=stream)


def tell_skipped(skipped: Sequence[Point], number: int, stream: TextIO) -> None:
    """Which of `number` points are left out, and why."""
    if skipped:
        from launchers import plan as view

        print(f"left out (on_invalid=skip): {len(skipped)} of {number} points", file=stream)
        print("\n".join(view.cannot_run(skipped)), file=stream)


def refused(plan: Plan, asked: Asked) -> int:
    """Tells every problem, and that nothing was started; gives the exit code."""
    if asked.format == "json":
        from launchers import plan as view

        view.print_json(plan)
    tell_all(plan, sys.stderr)
    print(f"nothing was started: {_summary(plan)}", file=sys.stderr)
    return PROBLEMS


def _summary(plan: Plan) -> str:
    wrong = sum(not point.valid for point in plan.points)
    count = sum(problem.level == "error" for problem, _ in told_once(plan))
    problems = "1 problem" if count == 1 else f"{count} problems"
    return problems if len(plan.points) == 1 else f"{problems} in {wrong} of {len(plan.points)} points"
