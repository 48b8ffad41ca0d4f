"""The right to work on one deployment.

Taken from: `store`.
Never does: outliving its process, because the kernel releases a flock when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launchers.atomic import StoreError, guarded

POLL_S = 0.05
# Whoever only looks (`Lock.holder`) has the file for microseconds; that must not look like a session.
PATIENCE_S = 0.5


class Busy(StoreError):
    """Another session works on the deployment. `holder` says which (keys `pid`, `host`, `points`, ...)."""

    def __init__(self, path: Path, holder: Mapping[str, Any]) -> None:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        super().__init__(path, f"{who} works on this deployment", "wait until it is done, or stop it")
        self.holder = holder


class Lock:
    """A context manager around one lock file; see `Store.lock`. Raises Busy or StoreError when entered."""

    def __init__(
        self, path: Path, note: Mapping[str, Any] | None = None, timeout_s: float | None = 0
    ) -> None:
        self.path = path
        self._note = note or {}
        self._timeout_s = timeout_s
        self._file: int | None = None

    def __enter__(self) -> Lock:
        with guarded(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Processes that a session starts do not inherit it: one that survives would keep the lock.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take(self._file)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def holder(self) -> dict[str, Any] | None:
        """Who holds it now, empty when they said nothing readable; null when nobody does."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:
            return None
        try:
            return None if _flock(file, fcntl.LOCK_SH) else _note(file)
        except OSError:
            return None
        finally:
            os.close(file)

    def _take(self, file: int) -> None:
        started = time.monotonic()
        with guarded(self.path):
            while not _flock(file, fcntl.LOCK_EX):
                if self._timeout_s is not None and time.monotonic() - started > max(
                    self._timeout_s, PATIENCE_S
                ):
                    raise Busy(self.path, _note(file))
                time.sleep(POLL_S)
            note = {"pid": os.getpid(), "host": socket.gethostname(), **self._note}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(note).encode(), 0)


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(file: int) -> dict[str, Any]:
    try:
        note = json.loads(os.pread(file, 1 << 20, 0))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}
