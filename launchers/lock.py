"""The right to work on one deployment, also among machines that share a file system.

Taken from: `store`.
Never does: outliving its process. The kernel releases a flock when its holder dies, and so does the server of a shared
file system; where locks of other machines are not seen (a mount with local locks only), the holder's heartbeat is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launchers.atomic import StoreError, guarded

POLL_S = 0.05
# Whoever only looks (`Lock.holder`) has the file for microseconds; that must not look like a session.
PATIENCE_S = 0.5
BEAT_S = 5.0
"""The holder touches its lock file so often."""
SILENCE_S = 20.0
"""A holder on another machine whose heartbeat was not seen for so long is dead."""


class Busy(StoreError):
    """Another session works on the deployment. `holder` says which (keys `pid`, `host`, `points`, ...)."""

    def __init__(self, path: Path, holder: Mapping[str, Any]) -> None:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        super().__init__(path, f"{who} works on this deployment", "wait until it is done, or stop it")
        self.holder = holder


class Lock:
    """A context manager around one lock file; see `Store.lock`. Raises Busy or StoreError when entered."""

    def __init__(
        self,
        path: Path,
        note: Mapping[str, Any] | None = None,
        timeout_s: float | None = 0,
        is_over: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    ) -> None:
        """`is_over`: whether the holder that left a note is known to have ended, whatever its heartbeat."""
        self.path = path
        self._note = note or {}
        self._is_over = is_over
        self._timeout_s = timeout_s
        self._file: int | None = None
        self._held = False
        self._doubt: tuple[int, float] | None = None
        self._enough = threading.Event()
        self._heart: threading.Thread | None = None

    def __enter__(self) -> Lock:
        started = time.monotonic()
        patience_s = max(self._timeout_s, PATIENCE_S) if self._timeout_s is not None else None
        try:
            while not self.take():
                if patience_s is not None and time.monotonic() - started > patience_s:
                    raise Busy(self.path, _note(self._file) if self._file is not None else {})
                time.sleep(POLL_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._heart is not None:
            self._enough.set()
            self._heart.join()
        if self._file is None:
            return
        if self._held:
            # Whoever comes next sees that nobody was cut short.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file, self._held = None, False

    def take(self) -> bool:
        """One try, without waiting: true once the lock is ours. Leave it as a context. Raises StoreError."""
        with guarded(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Processes that a session starts do not inherit it: one that survives would keep the lock.
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _flock(self._file, fcntl.LOCK_EX) or self._beats(self._file):
                return False
            note = {"pid": os.getpid(), "since": time.time(), **_machine(), **self._note}
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(note).encode(), 0)
        self._held = True
        self._heart = threading.Thread(target=self._beat, args=(self._file,), daemon=True)
        self._heart.start()
        return True

    def holder(self) -> dict[str, Any] | None:
        """Who holds it now, empty when they said nothing readable; null when nobody does."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:
            return None
        try:
            if not _flock(file, fcntl.LOCK_SH):
                return _note(file)
            note, age_s = _note(file), time.time() - os.fstat(file).st_mtime
            alive = note and not is_here(note) and age_s < SILENCE_S and not self._is_over(note)
            return note if alive else None
        except OSError:
            return None
        finally:
            os.close(file)

    def _beats(self, file: int) -> bool:
        """True while the one before, on another machine, may be alive although its lock is not seen here."""
        note, touched = _note(file), os.fstat(file).st_mtime_ns
        if not note or is_here(note) or self._is_over(note):
            return False
        if self._doubt is None or self._doubt[0] != touched:
            self._doubt = (touched, time.monotonic())
        return time.monotonic() - self._doubt[1] < SILENCE_S

    def _beat(self, file: int) -> None:
        while not self._enough.wait(BEAT_S):
            try:
                os.utime(file)
            except OSError:
                return


def _machine() -> dict[str, str]:
    """What tells machines, and a machine before and after a restart, apart."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": socket.gethostname(), "boot": boot}


def is_here(note: Mapping[str, Any]) -> bool:
    """True for a holder on this machine: its kernel, which gives us locks, has seen the end of it if it has ended."""
    return {key: note.get(key) for key in ("host", "boot")} == _machine()


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
