"""Another session's events, as they come: what a command shows while it waits for what is running already.

Takes the event log of a deployment; gives its events to a listener.
Never does: writing; believing a line that is not there in full.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


class Follower:
    """Reads an event log from the last start of the stack on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def catch_up(self, note: Callable[[Event], None]) -> None:
        """Gives what has happened since the last start: news to nobody, and needed to show what is now."""
        events = list(self._new())
        starts = [index for index, event in enumerate(events) if event["event"] == "deployment_start"]
        for event in events[starts[-1] :] if starts else []:
            _give(event, note)

    def look(self, listener: Callable[[Event], None]) -> None:
        """Gives what has happened since the last look."""
        for event in self._new():
            _give(event, listener)

    def _new(self) -> Iterator[Event]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and {"event", "time"} <= event.keys():
                yield event


def _give(event: Event, listener: Callable[[Event], None]) -> None:
    """A log is foreign data: an event that lacks something, or holds what it should not, is not shown."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, IndexError):
        listener(event)
