"""How a process ended, in words. Never does: judging it."""

from __future__ import annotations

import signal


def ended(name: str, exit_code: int | None) -> str:
    """An exit code (negative for a signal; null: it was stopped) as a sentence.

    >>> ended("aiperf", -9)
    'aiperf was killed by SIGKILL'
    """
    if exit_code is None:
        return f"{name} did not end by itself"
    if exit_code >= 0:
        return f"{name} exited with code {exit_code}"
    try:
        return f"{name} was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"{name} was killed by signal {-exit_code}"
