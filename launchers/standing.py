"""What is stored of one point: its last result, or why there is none.

Takes the point's folder; gives a standing. Taken from: `store`.
Never does: writing; calling anything done that is not a readable, valid result of that point.

The point's `result.json` says it all. An attempt has one of its own, written before: where the point's is cut or
gone, or of an attempt before, the newest valid attempt counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from compiler.digest import short
from compiler.plan import Point, Status
from launchers.results.result import Result, ResultError, Verdict

RESULT = "result.json"
_STATUS_OF: Mapping[str, Status] = {"valid": "done", "invalid": "invalid", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store knows about a point."""

    status: Status
    reasons: tuple[str, ...] = ()
    """Why it is failed or invalid."""
    result: Result | None = None
    """The last result that can be read, whatever its verdict."""
    note: str = ""
    """What is lost although there is a result; empty when nothing is."""


def recorded(folder: Path, point: Point) -> Standing:
    """What is in a point's folder, under the name and the overrides of `point`."""
    found = _read(folder / RESULT)
    if isinstance(found, Result) and found.point_digest != point.digest:
        found = f"{RESULT} is of another point ({found.point_digest})"
    if isinstance(found, Result) and found.verdict.valid:
        return standing_of(_named(found, point))
    after = found.attempt if isinstance(found, Result) else 0
    kept = _newest_valid(folder, lambda result: result.point_digest == point.digest, after)
    if isinstance(found, Result):
        if kept is None:
            return standing_of(_named(found, point))
        found = f"{RESULT} is of attempt {found.attempt}, and servix was killed before it wrote the next"
    if kept is not None:
        note = f"{found or f'{RESULT} is missing'}; attempt {kept.attempt} is valid and counts"
        return replace(standing_of(_named(kept, point)), note=note)
    if found is not None:
        return Standing("failed", (f"{found}; the point is measured again",))
    number = max(_numbers(folder / "attempts"), default=0)
    reason = f"attempt {number} was started and never finished: servix was interrupted or killed"
    return Standing("failed", (reason,)) if number else Standing("new")


def standing_of(result: Result) -> Standing:
    """What a point is when this is its last result."""
    verdict: Verdict = result.verdict
    return Standing(_STATUS_OF[verdict.status], verdict.reasons, result)


def last_result(folder: Path) -> Result | None:
    """The last result in a point's folder, whatever the point is called; null where none can be read."""
    found = _read(folder / RESULT)
    if isinstance(found, Result):
        return found
    own = folder.name.rpartition("-")[2]
    return _newest_valid(folder, lambda result: short(result.point_digest) == own)


def read_result(path: Path) -> Result | str | None:
    """The result in a file, why it cannot be read, or null when there is none."""
    found = _read(path)
    return f"{found}; the point is measured again" if isinstance(found, str) else found


def attempt_numbers(parent: Path) -> list[int]:
    """Numbers of the attempts in a folder. Raises OSError."""
    return [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]


def _named(result: Result, point: Point) -> Result:
    return replace(result, point_name=point.name, overrides=point.overrides)


def _newest_valid(folder: Path, is_its: Callable[[Result], bool], after: int = 0) -> Result | None:
    """Of the attempts that came `after` one."""
    numbers = (number for number in _numbers(folder / "attempts") if number > after)
    for number in sorted(numbers, reverse=True):
        found = _read(folder / "attempts" / str(number) / RESULT)
        if isinstance(found, Result) and found.verdict.valid and is_its(found):
            return found
    return None


def _numbers(parent: Path) -> list[int]:
    try:
        return attempt_numbers(parent)
    except OSError:
        return []


def _read(path: Path) -> Result | str | None:
    try:
        return Result.from_json(_parsed(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    # RecursionError: garbage may be nested deeper than the parser goes.
    except (OSError, ValueError, ResultError, RecursionError) as error:
        return f"{path.name} cannot be read ({error})"


def _parsed(data: bytes) -> Any:
    """JSON, twice as fast as the standard library reads it. Raises ValueError or RecursionError."""
    try:
        return from_json(data)
    except ValueError:
        # What both refuse is told in the standard library's words; half a surrogate pair only one refuses.
        return json.loads(data)
