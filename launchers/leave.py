"""Ctrl-C while another command's work is shown: leave it running, or cancel it.

Never does: asking where nobody can answer (then it is left running).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launchers.lock import is_here

QUESTION = "{who} goes on. [d]etach and let it, or [c]ancel it? [d] "
DELETES = "{who} is ours alone. [c]ancel and delete it, or [d]etach and let it go on? [c] "


def leave(holder: Mapping[str, Any], asks: bool) -> None:
    """Asks on a terminal what to do about the session of `holder`, and does it."""
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    if not asks or not sys.stdin.isatty() or not sys.stderr.isatty() or not _wants_end(who):
        _say(f"detached: {who} goes on; the same command attaches to it again")
    elif is_here(holder) and isinstance(holder.get("pid"), int):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(holder["pid"], signal.SIGTERM)
        _say(f"cancelled: {who} was told to stop; what it has measured is kept")
    else:
        _say(f"{who} cannot be reached from this machine: stop it there")


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
