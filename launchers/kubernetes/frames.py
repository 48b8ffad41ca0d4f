"""Data in a pod's log: JSON, compressed, cut into short lines that carry what is needed to check them.

    @servix <kind> <id> <part>/<parts> <crc> <data>

Takes JSON data or lines of a log, in any order and any number of times; gives lines, or the data that came whole.
Never does: reading or writing a log; believing a line that does not fit its checksum.

A log is shared: other writers may break into a line, old lines are rotated away, and a reader who comes again
reads some lines twice. So each line stands for itself, and what is lost can be said again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MARK = "@servix"
CHUNK = 4500
"""Bytes of compressed data in a line; it is 6,000 characters then. Runtimes cut lines at 16 KiB."""
MOST_BYTES = 64 * 2**20
"""Of what one message may grow to when it is unpacked: a log is foreign data."""
MOST_PARTS = 20_000
MOST_OPEN = 1000
"""Messages of which something is missing that are kept in mind."""
_LINE = re.compile(
    rf"{MARK} (?P<kind>[a-z]+) (?P<id>[0-9a-f]{{16}}) (?P<part>[0-9]{{1,6}})/(?P<parts>[0-9]{{1,6}}) "
    r"(?P<crc>[0-9a-f]{8}) (?P<data>[A-Za-z0-9+/]+={0,2})"
)


@dataclass(frozen=True, slots=True)
class Message:
    """Data that came whole."""

    kind: str
    """What it is about: `event`, `result`, `over`, ..."""
    id: str
    """The same for the same data."""
    data: Any


def lines(kind: str, data: Any) -> Iterator[str]:
    """The lines of a message, without line breaks.

    >>> [line] = lines("event", {"a": 1})
    >>> Reader().take(line).data
    {'a': 1}
    """
    packed = zlib.compress(json.dumps(data, separators=(",", ":"), allow_nan=False).encode(), 6)
    name = hashlib.sha256(packed).hexdigest()[:16]
    chunks = [packed[start : start + CHUNK] for start in range(0, len(packed), CHUNK)]
    for number, chunk in enumerate(chunks, 1):
        head = f"{kind} {name} {number}/{len(chunks)}"
        text = base64.b64encode(chunk).decode()
        yield f"{MARK} {head} {_crc(head, chunk)} {text}"


class Reader:
    """Puts messages together. Each comes once, however often its lines do."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, int], dict[int, bytes]] = {}
        self._seen: set[tuple[str, str]] = set()

    @property
    def incomplete(self) -> int:
        """Messages of which something was seen, and something is missing."""
        return len(self._open)

    def take(self, line: str) -> Message | None:
        """The message that this line completes; null for a line that completes none."""
        # What broke into a line may itself hold the beginning of one: the last that fits is looked for.
        for match in _LINE.finditer(line):
            if (message := self._taken(match)) is not None:
                return message
        return None

    def _taken(self, match: re.Match[str]) -> Message | None:
        kind, name, parts = match["kind"], match["id"], int(match["parts"])
        number = int(match["part"])
        if (kind, name) in self._seen or not 1 <= number <= parts <= MOST_PARTS:
            return None
        try:
            chunk = base64.b64decode(match["data"], validate=True)
        except (ValueError, binascii.Error):
            return None
        if _crc(f"{kind} {name} {match['part']}/{match['parts']}", chunk) != match["crc"]:
            return None
        key = (kind, name, parts)
        held = self._open.setdefault(key, {})
        held[number] = chunk
        if len(held) < parts:
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]
            return None
        del self._open[key]
        message = _whole(kind, name, b"".join(held[index] for index in range(1, parts + 1)))
        if message is not None:
            self._seen.add((kind, name))
        return message


def _whole(kind: str, name: str, packed: bytes) -> Message | None:
    if hashlib.sha256(packed).hexdigest()[:16] != name:
        return None
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, MOST_BYTES)
        if unpacker.unconsumed_tail:
            return None
        return Message(kind, name, json.loads(text))
    except (zlib.error, ValueError, RecursionError):
        return None


def _crc(head: str, chunk: bytes) -> str:
    return f"{zlib.crc32(chunk, zlib.crc32(head.encode())):08x}"
