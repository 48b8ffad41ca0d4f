"""Compiles overrides in this process, with one composer for the whole session."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from compiler.compose import Composer, composer
from compiler.errors import Problem, format_problem
from compiler.origin import with_origins
from compiler.pipeline import compile_sweep
from compiler.plan import Deployment, Plan, Point, Process

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
# As run.py does: Hydra finds our sweeper and launchers in the package `hydra_plugins` below launchers/.
if str(ROOT / "launchers") not in sys.path:
    sys.path.append(str(ROOT / "launchers"))
os.environ.setdefault("HYDRA_FULL_ERROR", "1")


@cache
def shared_composer() -> Composer:
    """The composer of the project's own configuration; only Hydra's globals end with its context."""
    with composer(CONFIG) as made:
        return made


def plan(*arguments: str, using: Composer | None = None) -> Plan:
    """What `python run.py <arguments>` compiles; arguments that cannot be read are a point of their own."""
    used = using or shared_composer()
    overrides, unread = used.points(arguments)
    made = compile_sweep(used, overrides)
    if not unread:
        return made
    told = with_origins(used, arguments, unread)
    return replace(made, points=(Point("command", (), None, None, None, {}, told, "invalid"), *made.points))


def own_plan(own: Path, *arguments: str) -> Plan:
    """The same with --config-dir."""
    with composer(CONFIG, own, arguments) as made:
        return plan(*arguments, using=made)


def point(*arguments: str) -> Point:
    """The only point of a command, valid or not."""
    (only,) = plan(*arguments).points
    return only


def deployment(*arguments: str) -> Deployment:
    """The only deployment of a command that must be valid."""
    made = plan(*arguments)
    assert made.valid, told(made)
    (only,) = made.deployments
    return only


def problems(made: Plan, level: str = "error") -> list[Problem]:
    """Problems of all points."""
    return [problem for one in made.points for problem in one.problems if problem.level == level]


def told(made: Plan) -> str:
    """Every problem, one line each."""
    return "\n".join(format_problem(problem) for one in made.points for problem in one.problems)


def workers(made: Deployment) -> list[Process]:
    """Processes that are a worker, or its part on one node."""
    return [process for process in made.processes if process.worker is not None]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def run(arguments: Sequence[str]) -> Ran:
    """The whole command in this process: Hydra's command line, sweeper and launcher included."""
    from launchers.main import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(CONFIG, list(arguments))
    return Ran(code, out.getvalue(), err.getvalue())
