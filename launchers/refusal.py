"""Telling that nothing was started, and why."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from compiler.errors import NOTHING, Problem, error, format_problem

DEBUG = "SERVIX_DEBUG"
"""Environment variable that shows the traceback behind a message."""
PROBLEMS = 2
"""Exit code: the configuration has problems, nothing was started."""


class Trouble(Exception):
    """What ended a command that was right: a full disk, a process the kernel keeps. The message is for a user."""


class Unfit(Exception):
    """The system cannot realise the plan as it is, and nothing was started: `problems` says why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(format_problem(problem) for problem in problems))
        self.problems = tuple(problems)


def tell(problems: Sequence[Problem], stream: TextIO) -> None:
    """One line per problem."""
    for problem in problems:
        print(f"{problem.level}: {format_problem(problem)}", file=stream)


def warn(texts: Sequence[str]) -> None:
    """One line each of what a command goes on without."""
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)


def refuse(problems: Sequence[Problem]) -> int:
    """Tells the problems and that nothing was started; gives the exit code for it."""
    tell(problems or [error("unknown", "", NOTHING, "the configuration cannot be read")], sys.stderr)
    print("nothing was started", file=sys.stderr)
    return PROBLEMS


def debug() -> None:
    """Shows where the exception at hand comes from, to those who ask."""
    if os.environ.get(DEBUG):
        traceback.print_exc()
