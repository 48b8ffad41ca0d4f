"""Our side of the guardian process (`guard.py`): starts it, tells it what runs, replaces it when it is killed.

Taken from: `supervise`. Never does: ending what the guardian guards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from launchers import guard
from launchers.exits import ended

MOST_RESTARTS = 5
"""A guardian that cannot live is given up: the kernel's own message to the processes is left (see `child.words`)."""


class Tell(Protocol):
    """Where events go."""

    def __call__(self, event: str, **fields: Any) -> None: ...


class Guardian:
    """The process that ends a session should servix be killed. Lives in a running event loop."""

    def __init__(self, session: str, tmp_dir: str | None, tell: Tell) -> None:
        """`tmp_dir` is removed should servix be killed; else who made it does that."""
        self._words = [f"{session}.", *filter(None, [tmp_dir])]
        self._tell = tell
        self._groups: set[int] = set()
        self._starting = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    def start(self) -> None:
        """Returns at once. Raises OSError."""
        # A session of its own, so that what is sent to ours does not reach it, and nothing that could be secret.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            cwd="/",
            start_new_session=True,
        )
        # The writing end of a pipe says that nobody reads it any more.
        asyncio.get_running_loop().add_reader(self._pipe(), self._gone)
        self._write("".join(f"+{group}\n" for group in sorted(self._groups)) + "?\n" * self._starting)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """While this lasts a process comes to be that has no number yet."""
        self._starting += 1
        self._write("?\n")
        try:
            yield
        finally:
            self._starting -= 1
            self._write("!\n")

    def remember(self, group: int) -> None:
        """A process group that runs from now on."""
        self._groups.add(group)
        self._write(f"+{group}\n")

    def forget(self, group: int) -> None:
        """It is gone; its number may become somebody else's."""
        self._groups.discard(group)
        self._write(f"-{group}\n")

    def end(self) -> None:
        """Nothing is left to guard."""
        if self._process is not None:
            self._process.kill()
            self._let_go()

    def _gone(self) -> None:
        how = ended("the guardian", self._let_go())
        if self._restarts < MOST_RESTARTS:
            self._restarts += 1
            with contextlib.suppress(OSError):
                self.start()
        self._tell("guardian_restart", how=how, pid=self._process.pid if self._process else None)

    def _let_go(self) -> int | None:
        """Gives how the process ended."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return None
        asyncio.get_running_loop().remove_reader(process.stdin.fileno())
        process.communicate()
        return process.returncode

    def _pipe(self) -> int:
        if self._process is None or self._process.stdin is None:
            raise ValueError("there is no guardian")
        return self._process.stdin.fileno()

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.write(self._pipe(), line.encode())
