"""Host lists in Slurm's notation: `node[001-004,7],login` stands for five names."""

from __future__ import annotations

import itertools
import re

LONGEST = 10_000
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?\Z")


def expand(text: str) -> list[str]:
    """Names in order. Raises ValueError with words for a user.

    >>> expand("node[001-003,7],login")
    ['node001', 'node002', 'node003', 'node7', 'login']
    """
    return [name for entry in _entries(text) for name in _names(entry)]


def _entries(text: str) -> list[str]:
    """The list split at the commas outside brackets."""
    entries, depth, current = [], 0, ""
    for char in text:
        depth += {"[": 1, "]": -1}.get(char, 0)
        if depth not in (0, 1):
            break
        if char == "," and depth == 0:
            entries.append(current)
            current = ""
        else:
            current += char
    if depth != 0:
        raise ValueError(f"unbalanced brackets in {text!r}")
    return [*entries, current]


def _names(entry: str) -> list[str]:
    entry = entry.strip()
    pieces = _BRACKETS.split(entry)
    choices = [[piece] if index % 2 == 0 else _numbers(piece, entry) for index, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > LONGEST:
        raise ValueError(f"{entry!r} stands for more than {LONGEST} hosts")
    names = ["".join(parts) for parts in itertools.product(*choices)]
    for name in names:
        if not _HOST.match(name):
            raise ValueError(f"{name!r} is not a host name")
    return names


def _numbers(text: str, entry: str) -> list[str]:
    numbers: list[str] = []
    for part in text.split(","):
        match = _RANGE.match(part.strip())
        if match is None:
            raise ValueError(f"{part!r} in {entry!r} is not a number or a range such as 001-004")
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first) or int(last) - int(first) >= LONGEST:
            raise ValueError(f"the range {part!r} in {entry!r} is empty or too long")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers
