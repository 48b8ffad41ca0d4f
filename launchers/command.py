"""What one command does: compile all points together, show every problem, then act.

Takes a composer and what the user typed; gives an exit code (DESIGN: 0 valid, 2 problems, 3 a point failed, ...).
Never does: deciding anything about a deployment. The plan says it all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from compiler.compose import Composer
from compiler.errors import Problem
from compiler.origin import with_origins
from compiler.pipeline import compile_sweep
from compiler.plan import Plan, Point
from launchers.asked import Asked, asked, without_skipped
from launchers.interrupt import heard
from launchers.problems import refused, said, tell_all, tell_skipped
from launchers.refusal import Unfit, refuse
from launchers.systems import system_of
from launchers.views import VIEWS

OK, FAULT, INTERRUPTED = 0, 1, 130


def execute(
    composer: Composer, argument_lists: Sequence[Sequence[str]], problems: Sequence[Problem] = ()
) -> int:
    """Compiles every point, then does what `action` says. Returns the exit code.

    `argument_lists` are overrides as typed: each list is one point, or a sweep that holds several. `problems`
    are what is wrong with the command already; they are told with those of its points.
    """
    plan = compiled(composer, argument_lists, problems)
    what = asked(plan, [text for arguments in argument_lists for text in arguments])
    view = VIEWS.get(what.action)
    return view(composer, plan, what) if view is not None else _run(composer, plan, what)


def compiled(
    composer: Composer, argument_lists: Sequence[Sequence[str]], problems: Sequence[Problem] = ()
) -> Plan:
    """The plan of every point that the lists of overrides stand for. `problems` are those of the whole command."""
    points: list[tuple[str, ...]] = []
    unread = list(problems)
    for arguments in argument_lists:
        expanded, wrong = composer.points(arguments)
        points += expanded
        unread += wrong
    plan = compile_sweep(composer, points)
    heard()
    typed = [text for arguments in argument_lists for text in arguments]
    return _with_problems(plan, with_origins(composer, typed, unread)) if unread else plan


def _with_problems(plan: Plan, problems: Sequence[Problem]) -> Plan:
    """What is wrong with the command as a whole is wrong with each of its points."""
    points = plan.points or (Point("command", (), None, None, None, {}, (), "invalid"),)
    told = {said(problem) for problem in problems}
    wrong = [
        replace(
            point,
            status="invalid",
            digest=None,
            deployment=None,
            workload=None,
            problems=(*problems, *(problem for problem in point.problems if said(problem) not in told)),
        )
        for point in points
    ]
    return Plan(tuple(wrong), ())


def _run(composer: Composer, plan: Plan, what: Asked) -> int:
    rest, skipped = without_skipped(plan, what)
    if not rest.valid or not rest.points:
        return refused(plan, what)
    from launchers import best, run
    from launchers.ending import Telling

    tell_all(plan, sys.stderr, "left out")
    tell_skipped(skipped, len(plan.points), sys.stderr)
    try:
        system = system_of(rest, composer)
    except Unfit as unfit:
        return refuse(with_origins(composer, what.arguments, unfit.problems))
    telling = Telling(what.format, what.arguments, partial(best.reproduced, composer), skipped)
    return run.run(rest, system, what.output_dir, telling)
