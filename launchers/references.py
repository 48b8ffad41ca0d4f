"""What the recorded sweeps of an `output_dir` refer to.

Takes the folder; gives digests of points and deployments. `litter` leaves them alone.
Never does: taking a record that cannot be read for one that refers to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.digest import short
from launchers.folders import DRAFT, Found, Left, data_of, draft_or_foreign, entries_of, is_folder

SWEEP = "sweep.json"


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
    all_known = True
    for folder in entries_of(root / "sweeps", found):
        if not is_folder(folder):
            draft_or_foreign(folder, found)
            continue
        for path in entries_of(folder, found):
            if DRAFT.match(path.name):
                draft_or_foreign(path, found)
        record = data_of(folder / SWEEP)
        points = record.get("points") if isinstance(record, dict) else None
        if isinstance(points, list):
            referred.update(_digests(points))
        elif record is not None:
            all_known = False
            why = "cannot be read, so every point and deployment stays: it may refer to any; move it away"
            found.left.append(Left(folder / SWEEP, why))
    return Wanted(older_than_days * 86400, valid, frozenset(referred), all_known)


def _digests(points: list[Any]) -> Iterator[str]:
    for point in points:
        for key in ("digest", "deployment"):
            value = point.get(key) if isinstance(point, dict) else None
            if isinstance(value, str):
                yield short(value)
