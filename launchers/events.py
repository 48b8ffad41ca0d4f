"""What happened, one JSON line per event, appended to a file and told to whoever listens.

Takes events from the session and the supervisor; gives `events.jsonl`.
Never does: holding anything secret (events carry names, numbers and states, no environments); failing, because
what is measured is worth more than what is told of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

Listener = Callable[[Mapping[str, Any]], None]


class EventLog:
    """A context manager that is called with each event: `log("process_start", process="frontend", pid=7)`.

    Every line has `event`, `time` (ISO-8601, UTC) and `monotonic_s` (seconds of a clock that never jumps, to
    subtract from one another), then the event's own fields.
    """

    def __init__(self, path: Path, listeners: tuple[Listener, ...] = ()) -> None:
        self._path = path
        self._listeners = list(listeners)
        self._file: int | None = None

    def __enter__(self) -> EventLog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        if (size := os.fstat(self._file).st_size) and os.pread(self._file, 1, size - 1) != b"\n":
            # A disk that was full has cut the last line; the next one must not go with it.
            with contextlib.suppress(OSError):
                os.write(self._file, b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: str, **fields: Any) -> None:
        """Writes one event. One write per line, so lines of two commands never mix.

        A file that cannot be written and a listener that cannot be told are let go, the file with a warning.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"event": event, "time": now, "monotonic_s": round(time.monotonic(), 4), **fields}
        try:
            if self._file is not None:
                os.write(self._file, json.dumps(entry, default=str).encode() + b"\n")
        except OSError as problem:
            self._close()
            with contextlib.suppress(OSError):
                print(f"warning: {self._path}: no more events: {problem.strerror}", file=sys.stderr)
        for listener in list(self._listeners):
            try:
                listener(entry)
            except OSError:
                self._listeners.remove(listener)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
