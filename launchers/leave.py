"""Ctrl-C while another command's work is shown: leave it running, or cancel it.

Never does: asking where nobody can answer (then it is left running).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launchers.lock import is_here

QUESTION = "{who} goes on. [d]etach and let it, or [c]ancel it? [d] "
ENDS_S, POLL_S = 20.0, 0.1
"""A session that was told to stop is waited for so long; looked at so often."""
DELETES = "{who} is ours alone. [c]ancel and delete it, or [d]etach and let it go on? [c] "


def leave(holder: Mapping[str, Any], asks: bool, goes_on: Callable[[], bool]) -> None:
    """Asks on a terminal what to do about the session of `holder`, and does it.

    `goes_on`: whether that session is still there, which may have ended while somebody made up their mind.
    """
    who, pid = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}", holder.get("pid")
    if not asks or not sys.stdin.isatty() or not sys.stderr.isatty() or not _wants_end(who):
        _say(f"detached: {who} goes on; the same command attaches to it again")
    elif not goes_on():
        _say(f"{who} has ended meanwhile")
    elif is_here(holder) and isinstance(pid, int):
        _end(pid, who, goes_on)
    else:
        _say(f"{who} cannot be reached from this machine: stop it there")


def _end(pid: int, who: str, goes_on: Callable[[], bool]) -> None:
    """Tells a process to stop, and waits until it has: what is told next is how things are then."""
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        _say(f"{who} belongs to another user, who has to stop it; it goes on")
        return
    except ProcessLookupError:
        _say(f"{who} has ended meanwhile")
        return
    _say(f"cancelled: {who} was told to stop; what it has measured is kept")
    deadline = time.monotonic() + ENDS_S
    while goes_on():
        if time.monotonic() > deadline:
            _say(f"{who} is still stopping; action=status shows when it has")
            return
        time.sleep(POLL_S)


def leave_jobs(jobs: Sequence[str], cancel: Callable[[Sequence[str]], None], asks: bool) -> None:
    """The same about jobs in a queue, which `cancel` ends."""
    if not jobs:
        return
    who = f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"
    if not asks or not sys.stdin.isatty() or not sys.stderr.isatty() or not _wants_end(who):
        _say(f"detached: {who} left in the queue; the same command attaches again, scancel stops")
        return
    cancel(jobs)
    _say(f"cancelled: {who}; what was measured is kept")


def stays(who: str, asks: bool) -> bool:
    """Asks the same about what runs in a cluster and would run for ever: where nobody answers, it is ended."""
    if not asks or not sys.stdin.isatty() or not sys.stderr.isatty() or _wants_end(who, DELETES):
        _say(f"cancelled: {who} is deleted; what was measured is kept")
        return False
    _say(
        f"detached: {who} goes on, and holds its GPUs; the same command attaches again, and deletes it in the end"
    )
    return True


def _wants_end(who: str, question: str = QUESTION) -> bool:
    try:
        print(question.format(who=who), end="", file=sys.stderr, flush=True)
        said = sys.stdin.readline().strip().lower()
        return said not in ("d", "detach") if question is DELETES else said in ("c", "cancel")
    except (KeyboardInterrupt, OSError):
        print(file=sys.stderr)
        return question is DELETES


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"servix: {text}", file=sys.stderr, flush=True)
