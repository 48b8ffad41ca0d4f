"""What one command does: compile all points together, show every problem, then act.

Takes a composer and what the user typed; gives an exit code (DESIGN: 0 valid, 2 problems, 3 a point failed, ...).
Never does: deciding anything about a deployment. The plan says it all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from compiler.compose import Composer
from compiler.errors import Problem, error, format_problem
from compiler.origin import with_origins
from compiler.pipeline import compile_sweep
from compiler.plan import Plan, Point
from compiler.secret import masked_override
from launchers.refusal import PROBLEMS, Unfit, refuse

if TYPE_CHECKING:
    from compiler.plan import Deployment
    from compiler.sweep import Group
    from launchers.results.result import Result
    from launchers.run import System
    from launchers.slurm import Slurm
    from launchers.store import Store
    from launchers.turns import Wishes

MOST_PROBLEMS = 30
"""Lines of problems that are shown: about a screen."""
OK, FAULT, INTERRUPTED = 0, 1, 130

REALISED_BY = frozenset({"local", "slurm", "kubernetes"})
"""Kinds of systems that plans are made true on."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command is about, read from the first point that can be read."""

    action: str
    format: str
    output_dir: Path
    arguments: tuple[str, ...]
    on_invalid: str = "error"


def execute(
    composer: Composer, argument_lists: Sequence[Sequence[str]], problems: Sequence[Problem] = ()
) -> int:
    """Compiles every point, then does what `action` says. Returns the exit code.

    `argument_lists` are overrides as typed: each list is one point, or a sweep that holds several. `problems`
    are what is wrong with the command already; they are told with those of its points.
    """
    plan = compiled(composer, argument_lists, problems)
    asked = _asked(plan, [text for arguments in argument_lists for text in arguments])
    view = VIEWS.get(asked.action)
    return view(composer, plan, asked) if view is not None else _run(composer, plan, asked)


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
    typed = [text for arguments in argument_lists for text in arguments]
    return _with_problems(plan, with_origins(composer, typed, unread)) if unread else plan


def _with_problems(plan: Plan, problems: Sequence[Problem]) -> Plan:
    """What is wrong with the command as a whole is wrong with each of its points."""
    points = plan.points or (Point("command", (), None, None, None, {}, (), "invalid"),)
    told = {_said(problem) for problem in problems}
    wrong = [
        replace(
            point,
            status="invalid",
            digest=None,
            deployment=None,
            workload=None,
            problems=(*problems, *(problem for problem in point.problems if _said(problem) not in told)),
        )
        for point in points
    ]
    return Plan(tuple(wrong), ())


def _said(problem: Problem) -> tuple[str, str, str, str]:
    """What makes two problems one for a reader."""
    return problem.code, problem.key, problem.reason, problem.origin


def _asked(plan: Plan, arguments: Sequence[str]) -> Asked:
    typed = dict(text.split("=", 1) for text in arguments if "=" in text)
    composed: Mapping[str, Any] = next((point.config for point in plan.points if point.config), {})

    def said(key: str, default: str) -> str:
        return str(composed.get(key, typed.get(key, default)))

    return Asked(
        said("action", "run"),
        said("format", "text"),
        Path(said("output_dir", "outputs")),
        # They are written down with what was measured; points that hold a secret may be left out of it.
        tuple(map(masked_override, arguments)),
        said("on_invalid", "error"),
    )


def told_once(plan: Plan) -> list[tuple[Problem, int]]:
    """Every distinct problem of the plan with the number of points that have it, errors first."""
    counts: dict[tuple[str, str, str, str], tuple[Problem, int]] = {}
    for point in plan.points:
        for problem in point.problems:
            key = _said(problem)
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
    if code == OK and _kind(runnable) == "slurm":
        from launchers import slurm

        slurm.write_scripts(runnable, Store(asked.output_dir), _slurm(runnable, composer))
    if code == OK and _kind(runnable) == "kubernetes":
        from launchers import manifests

        manifests.write(runnable, Store(asked.output_dir))
    return code


def _of_the_rest(plan: Plan, asked: Asked) -> tuple[str, int]:
    """What errors are called where nothing is started, and the exit code: that of the points not to be skipped."""
    rest = without_skipped(plan, asked)[0]
    return ("left out", OK) if rest.points and rest.valid else ("error", PROBLEMS)


def without_skipped(plan: Plan, asked: Asked) -> tuple[Plan, tuple[Point, ...]]:
    """The plan without its invalid points that ask to be skipped, and those points."""
    skipped = tuple(
        point
        for point in plan.points
        if not point.valid and point.config.get("on_invalid", asked.on_invalid) == "skip"
    )
    if not skipped:
        return plan, ()
    left_out = set(map(id, skipped))
    return replace(plan, points=tuple(point for point in plan.points if id(point) not in left_out)), skipped


def _show_schema(*_: object) -> int:
    import json

    from compiler.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return OK


def _status(_: Composer, plan: Plan, asked: Asked) -> int:
    from launchers.status import status

    word, code = _of_the_rest(plan, asked)
    tell_all(plan, sys.stderr, word)
    if plan.points and _kind(plan) == "kubernetes":
        from launchers.kubernetes import status as cluster

        cluster.ask(plan)
    return status(plan, asked.output_dir, asked.format) or code


def _report(composer: Composer, plan: Plan, asked: Asked) -> int:
    from launchers import best
    from launchers.ending import Telling
    from launchers.report import report

    rest, skipped = without_skipped(plan, asked)
    if not rest.valid or not rest.points:
        return _refused(plan, asked)
    tell_all(plan, sys.stderr, "left out")
    _tell_skipped(skipped, len(plan.points), sys.stderr)
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
        return _refused(plan, asked)
    if (kind := _kind(rest)) != "kubernetes":
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


def _refused(plan: Plan, asked: Asked) -> int:
    if asked.format == "json":
        from launchers import plan as view

        view.print_json(plan)
    tell_all(plan, sys.stderr)
    print(f"nothing was started: {_summary(plan)}", file=sys.stderr)
    return PROBLEMS


def _run(composer: Composer, plan: Plan, asked: Asked) -> int:
    rest, skipped = without_skipped(plan, asked)
    if not rest.valid or not rest.points:
        return _refused(plan, asked)
    from launchers import best, run
    from launchers.ending import Telling

    tell_all(plan, sys.stderr, "left out")
    _tell_skipped(skipped, len(plan.points), sys.stderr)
    try:
        system = system_of(rest, composer)
    except Unfit as unfit:
        return refuse(with_origins(composer, asked.arguments, unfit.problems))
    telling = Telling(asked.format, asked.arguments, partial(best.reproduced, composer), skipped)
    return run.run(rest, system, asked.output_dir, telling)


def _tell_skipped(skipped: Sequence[Point], number: int, stream: TextIO) -> None:
    if skipped:
        from launchers import plan as view

        print(f"left out (on_invalid=skip): {len(skipped)} of {number} points", file=stream)
        print("\n".join(view.cannot_run(skipped)), file=stream)


def system_of(plan: Plan, composer: Composer) -> System:
    """The launcher of the plan's system. Raises Unfit where there is none yet."""
    kind = _kind(plan)
    if kind not in REALISED_BY:
        reason = f"plans for a {kind} system compile, launching them is not there yet"
        raise Unfit([error("system", "system.kind", kind, reason, "use action=plan, or system=local")])
    launchers: dict[str, Callable[[], System]] = {
        "slurm": partial(_slurm, plan, composer),
        "kubernetes": partial(_kubernetes, plan),
    }
    return _Late(launchers.get(kind, _local))


def _local() -> System:
    from launchers import local

    return local


def _slurm(plan: Plan, composer: Composer) -> Slurm:
    from launchers.slurm import Slurm

    first = plan.points[0]
    return Slurm(composer.launcher(first.overrides), first.config["launch"])


def _kubernetes(plan: Plan) -> System:
    from launchers.kubernetes.launcher import Kubernetes

    return Kubernetes(plan.points[0].config)


@dataclass(frozen=True, slots=True)
class _Late:
    """A launcher that is imported once there is something to start."""

    launcher: Callable[[], System]

    def check(self, groups: Sequence[Group]) -> None:
        self.launcher().check(groups)

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        return self.launcher().realise(groups, store, write_files, wishes)

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        form: str,
    ) -> int:
        return self.launcher().detach(groups, store, write_files, wishes, form)


def _kind(plan: Plan) -> str:
    return str((plan.points[0].config.get("system") or {}).get("kind"))


def _summary(plan: Plan) -> str:
    wrong = sum(not point.valid for point in plan.points)
    count = sum(problem.level == "error" for problem, _ in told_once(plan))
    problems = "1 problem" if count == 1 else f"{count} problems"
    return problems if len(plan.points) == 1 else f"{problems} in {wrong} of {len(plan.points)} points"
