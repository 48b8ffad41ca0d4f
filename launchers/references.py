"""What the recorded sweeps of an `output_dir` refer to.

Takes the folder; gives digests of points and deployments. `litter` leaves them alone.
Never does: taking a record that cannot be read for one that refers to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compiler.digest import short
from launchers.folders import Found, Left, draft_or_foreign, entries_of, is_draft, is_folder

SWEEP = "sweep.json"
KEPT = "cannot be read, so every point and deployment stays: it may refer to any"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for."""

    older_than_s: float
    """Age of failed attempts at points that stay."""
    valid: bool
    """Valid results, too."""
    referred: frozenset[str]
    """Short digests of the points and deployments of recorded sweeps."""
    all_known: bool
    """False when a sweep's record cannot be read: then points and deployments stay."""


def wanted(root: Path, older_than_days: float, valid: bool, found: Found) -> Wanted:
    """What recorded sweeps refer to. Adds to `found` what lies beside them."""
    referred: set[str] = set()
    folders = _sweeps(root / "sweeps", found)
    all_known = folders is not None
    for folder in folders or ():
        _tell_beside(folder, found)
        digests = _referred(folder / SWEEP)
        if digests is None:
            all_known = False
            found.left.append(Left(folder / SWEEP, f"{KEPT}; move it away"))
        referred |= digests or frozenset()
    return Wanted(older_than_days * 86400, valid, frozenset(referred), all_known)


def _sweeps(folder: Path, found: Found) -> list[Path] | None:
    """Entries of the folder of all sweeps; null, and told, where it is there and cannot be listed."""
    here = Found()
    entries = entries_of(folder, here)
    if here.left or _leads_nowhere(folder):
        found.left.append(Left(folder, f"{KEPT}; make it readable"))
        return None
    return entries


def _tell_beside(folder: Path, found: Found) -> None:
    if not is_folder(folder):
        draft_or_foreign(folder, found)
        return
    for path in entries_of(folder, found):
        if is_draft(path):
            draft_or_foreign(path, found)


def _referred(path: Path) -> frozenset[str] | None:
    """Short digests in a sweep's record; none where there is no record, null where it cannot be read in full."""
    try:
        state = path.stat()
        return _recorded(path, (state.st_ino, state.st_size, state.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        # A link to where nothing is mounted now is a record all the same.
        return None if _leads_nowhere(path) or _leads_nowhere(path.parent) else frozenset()
    except (OSError, ValueError, RecursionError):
        return None


@cache
def _recorded(path: Path, _: tuple[int, int, int]) -> frozenset[str]:
    """Kept while the file is the same one: it is asked for again before anything is removed from a deployment."""
    return frozenset(_digests(json.loads(path.read_bytes())))


def _digests(record: Any) -> Iterator[str]:
    """Raises ValueError for what is no sweep's record."""
    points = record.get("points") if isinstance(record, dict) else None
    if not isinstance(points, list):
        raise ValueError("a record has a list of points")
    for point in points:
        for key in ("digest", "deployment"):
            value = point.get(key) if isinstance(point, dict) else None
            if not isinstance(value, str):
                raise ValueError(f"a point has a {key}")
            yield short(value)


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
