"""One operating-system process as data: what is started, how it ended, and what is said when it died.

Taken from: `host`, which binds a plan's process to this machine. Given to: `supervise`.
Never does: starting or ending anything.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compiler.plan import Stop
from launchers.exits import ended
from launchers.results.tail import tail

TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Command:
    """One process as it will be started on this machine: nothing in it is left to bind."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment. It may hold secrets: never written anywhere."""
    workdir: Path
    log: Path
    """Takes standard output and standard error."""
    after: tuple[str, ...] = ()
    stop: Stop = field(default_factory=Stop)
    title: str = ""
    """What a verdict calls it; empty: its name."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command that was run to its end came out."""

    code: int | None
    """Negative for a signal; null: it was ended, because it took too long or for `why`."""
    duration_s: float
    why: str = ""
    """Why it was ended before its time, in words; empty: it was not."""


class Died(Exception):
    """A process ended, or could not start. The message names it and says how; `tail` is the end of its log."""

    def __init__(self, name: str, code: int | None, log: Path, how: str = "") -> None:
        self.name = name
        self.code = code
        """Exit code, negative for a signal; null when it could not be started."""
        self.log = log
        self.tail = tail(log, TAIL_LINES)
        super().__init__(how or ended(name, code))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What a verdict says: the culprit and how it ended, then the end of its log."""
        return (str(self), f"end of {self.log.name}:\n{self.tail}") if self.tail else (str(self),)


def words(command: Command) -> list[str]:
    """The command line, with a prefix that has the kernel tell the process when servix dies.

    That is a second line, should the guardian be gone too. Raises Died where the program is not in its PATH.
    """
    program = shutil.which(command.argv[0], path=command.env.get("PATH", os.defpath))
    if program is None:
        how = f"{command.name} cannot be started: '{command.argv[0]}' is not in its PATH"
        raise Died(command.name, None, command.log, how)
    return [*_parent_death_prefix(), program, *command.argv[1:]]


@functools.cache
def _parent_death_prefix() -> tuple[str, ...]:
    # util-linux knows it since 2.33; a preexec function would make every start slower and is not safe with threads.
    prefix = ("setpriv", "--pdeathsig", "TERM", "--")
    with contextlib.suppress(OSError):
        if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=5).returncode == 0:
            return (shutil.which(prefix[0]) or prefix[0], *prefix[1:])
    return ()


def signal_number(name: str) -> int:
    """The number of a signal that is named with or without SIG."""
    return signal.Signals[f"SIG{name.removeprefix('SIG')}"]
