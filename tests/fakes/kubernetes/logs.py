"""What a container printed, line by line with times, for the log of its pod."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO


class Log:
    def __init__(self) -> None:
        self._lines: list[tuple[float, bytes]] = []
        self._changed = threading.Condition()
        self.closed = False

    def add(self, line: bytes) -> None:
        with self._changed:
            self._lines.append((round(time.time(), 6), line if line.endswith(b"\n") else line + b"\n"))
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def read_from(self, stream: IO[bytes]) -> threading.Thread:
        """A thread that takes all that comes, and closes the log at the end of it."""

        def copy() -> None:
            for line in stream:
                self.add(line)
            self.close()

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        return thread

    def text(self) -> bytes:
        with self._changed:
            return b"".join(line for _, line in self._lines)

    def lines(
        self, since: float = 0, tail: int | None = None, stamps: bool = False, follow: bool = False
    ) -> Iterator[bytes]:
        """The lines after `since` (s since the epoch), the last `tail` of those that are there; then, to
        follow, those that come until the container has ended. An empty line of bytes says that nothing came."""
        with self._changed:
            index = len([None for when, _ in self._lines if when < since])
            if tail is not None:
                index = max(index, len(self._lines) - tail)
        while True:
            with self._changed:
                if follow and index >= len(self._lines) and not self.closed:
                    self._changed.wait(0.1)
                new, over = self._lines[index:], self.closed
            index += len(new)
            for when, line in new:
                yield (_stamp(when) + b" " if stamps else b"") + line
            if not follow or (over and not new):
                return
            if not new:
                yield b""


def _stamp(when: float) -> bytes:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()
