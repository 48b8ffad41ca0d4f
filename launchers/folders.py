"""What is in a folder below `output_dir`, for those who clean up: nothing is followed, and nothing goes untold.

Takes paths; gives entries, sizes and data, and adds what cannot be read, is a draft, or is somebody else's to `Found`.
Never does: removing; raising where something cannot be read.
"""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from launchers.atomic import DRAFT

BEING_WRITTEN_S = 600
"""A draft of a process that lives, and is younger than this, is about to become a file."""
FOREIGN = "is not of servix"

Kind = Literal["deployment", "point", "attempt", "start", "draft"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may be removed."""

    kind: Kind
    path: Path
    why: str
    size: int
    """In bytes."""
    parts: tuple[Path, ...] = ()
    """What of a folder is ours; the folder goes when nothing else is in it. None: the whole is."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is left alone, and why."""

    path: Path
    why: str


@dataclass(slots=True)
class Found:
    """Everything that is worth a word."""

    items: list[Item] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


def draft_or_foreign(path: Path, found: Found) -> None:
    match = DRAFT.fullmatch(path.name)
    try:
        state = path.lstat()
    except OSError:
        return
    if match is None or not stat.S_ISREG(state.st_mode):
        found.left.append(Left(path, FOREIGN))
    elif not (time.time() - state.st_mtime < BEING_WRITTEN_S and _lives(int(match["pid"]))):
        found.items.append(Item("draft", path, "was never finished", state.st_size))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except OSError:
        return True
    return True


def is_draft(path: Path) -> bool:
    """True for what is called like a file of ours that was being written."""
    return DRAFT.fullmatch(path.name) is not None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder, as far as they can be seen."""
    try:
        total = 0 if is_folder(path) else path.lstat().st_size
    except OSError:
        return 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_size
            except OSError:
                continue
    return total


def entries_of(folder: Path, found: Found) -> list[Path]:
    """What is in a folder, by name; nothing where it is not there, and told where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as problem:
        left = Left(folder, reason_of(problem))
        if left not in found.left:
            found.left.append(left)
        return []


def numbered_in(folder: Path, found: Found) -> list[Path]:
    """Folders that are called by a number, in the order of the numbers."""
    entries = [path for path in entries_of(folder, found) if path.name.isdecimal() and is_folder(path)]
    return sorted(entries, key=lambda path: int(path.name))


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def data_of(path: Path) -> Any:
    """A file's data; null when there is no such file, and "unreadable" when it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return "unreadable"


def reason_of(problem: OSError) -> str:
    reason = (problem.strerror or str(problem)).lower()
    return f"{reason}; make it readable, or remove it yourself"
