"""The signals that stop a command: the first time orderly, the second time at once.

Never does: knowing what is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

from launchers.interrupt import heard

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopper:
    """Hears INT, TERM and HUP (and what else it is told to) while a command is realised."""

    def __init__(self) -> None:
        self.told = False
        self.number: int | None = None
        """The signal that told us."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __call__(self, number: int, _: object) -> None:
        if self.told:
            # Who asks twice does not want to wait. The guardian ends what is left.
            _show_cursor()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.told, self.number = True, number
        if self._task is None or self._loop is None:
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._task.cancel)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`; a signal cancels it, so that it stops what it started. Raises KeyboardInterrupt."""
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._known(work))
        if self.told:
            raise KeyboardInterrupt

    async def _known(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._loop, self._task = asyncio.get_running_loop(), task
        try:
            await task
        finally:
            self._task = None


@contextlib.contextmanager
def listening(*more: signal.Signals) -> Iterator[Stopper]:
    """Hears the signals that stop a command, and `more`, save those that whoever started it had ignored (nohup)."""
    heard()
    stop, before = Stopper(), {}
    for number in (*STOPPING, *more):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_cursor() -> None:
    """A live table hides it, and is not going to end."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h")
