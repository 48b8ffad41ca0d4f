"""Ctrl-C before anything runs: heard, whatever a library makes of it.

OmegaConf, told to stop in the middle of a change, raises an error of its own in place of KeyboardInterrupt, which
would be told as a problem of the configuration, or be passed over.
Never does: stopping what was started (`listening` does).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Noted:
    """Python's own answer to Ctrl-C, which remembers that it was asked for."""

    told = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.told = True
        signal.default_int_handler(number, frame)


@contextlib.contextmanager
def noting() -> Iterator[Noted]:
    """Hears Ctrl-C, unless whoever started the command had it ignored (nohup)."""
    noted, before = Noted(), signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, noted)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def heard() -> None:
    """Raises KeyboardInterrupt where somebody swallowed it."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, Noted) and handler.told:
        raise KeyboardInterrupt
