"""Compiles overrides in this process, with one composer per configuration folder for the whole session."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compiler.compose import Composer, composer
from compiler.errors import Problem, format_problem
from compiler.plan import Deployment, Plan, Point, Process

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
# Hydra finds our sweeper and launchers in the package `hydra_plugins` below launchers/, as in run.py.
if str(ROOT / "launchers") not in sys.path:
    sys.path.append(str(ROOT / "launchers"))


@contextmanager
def entered(config_dir: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[Composer]:
    """A composer for the project's configuration and a folder of the user's own."""
    with composer(CONFIG, config_dir, arguments) as made:
        yield made


@cache
def shared_composer() -> Composer:
    """The composer without a user's folder; it outlives its context, which only Hydra's globals need."""
    with entered() as made:
        return made


def plan(*arguments: str, composer: Composer | None = None) -> Plan:
    """What `python run.py <arguments>` compiles."""
    from launchers import command

    return command.compiled(composer or shared_composer(), [arguments])


def point(*arguments: str, composer: Composer | None = None) -> Point:
    """The only point of a command."""
    (only,) = plan(*arguments, composer=composer).points
    return only


def valid(*arguments: str, composer: Composer | None = None) -> Deployment:
    """The only deployment of a command that must be valid."""
    made = plan(*arguments, composer=composer)
    assert made.valid, told(made)
    (only,) = made.deployments
    return only


def told(made: Plan) -> str:
    """Every problem, one line each."""
    return "\n".join(format_problem(problem) for one in made.points for problem in one.problems)


def errors(*arguments: str, composer: Composer | None = None) -> list[Problem]:
    """Errors of all points."""
    made = plan(*arguments, composer=composer)
    return [problem for one in made.points for problem in one.problems if problem.level == "error"]


def workers(deployment: Deployment) -> list[Process]:
    """Processes that are (a part of) a worker."""
    return [process for process in deployment.processes if process.worker is not None]
