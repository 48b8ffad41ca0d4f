"""Points of a searching sweep in order of their load, or what keeps them from being searched.

Takes compiled points; gives the ladder that a search climbs. Never does: choosing a point (launchers do, one by one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.errors import Problem, error, warning
from compiler.plan import Point

HINT = "e.g. aiperf.concurrency=range(1,65)"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Distinct points, the lowest load first."""

    key: str
    """The override that is swept, without `+`."""
    points: tuple[Point, ...]
    values: tuple[float, ...]
    """The key's value in each of `points`."""


def is_searched(points: Sequence[Point]) -> bool:
    """True when points ask for a search rather than for all of them."""
    return any(point.config.get("search") == "bisect" for point in points)


def ladder(points: Sequence[Point]) -> Ladder | None:
    """The points of a search, each once; null when all of them are asked for, or they cannot be searched."""
    if not is_searched(points):
        return None
    swept = _swept(points)
    numbers = {key: _numbers(texts) for key, texts in swept.items()}
    ((key, values),) = numbers.items() if len(numbers) == 1 else (("", None),)
    if values is None:
        return None
    rungs = {str(point.digest): (value, point) for point, value in zip(points, values, strict=True)}
    ordered = sorted(rungs.values(), key=lambda rung: rung[0])
    return Ladder(
        key,
        points=tuple(point for _, point in ordered),
        values=tuple(value for value, _ in ordered),
    )


def most_measured(points: Sequence[Point]) -> int | None:
    """Points that a search measures at most: the lowest, the highest, and a bisection between; null for no search."""
    climbed = ladder([point for point in points if point.valid])
    if climbed is None:
        return None
    number, budget = len(climbed.points), climbed.points[0].config.get("budget")
    needed = 2 + (number - 2).bit_length() if number > 1 else number
    return needed if budget is None else min(int(budget), needed)


def search(points: Sequence[Point]) -> list[Problem]:
    """What keeps these points from being searched; nothing for a sweep that measures all of them."""
    config = next((point.config for point in points if point.config), {})
    if not is_searched(points):
        budget = config.get("budget")
        reason = "has no effect without a search"
        return [] if budget is None else [warning("search", "budget", budget, reason, "set search=bisect")]
    asked = config.get("search")
    found = [error("search", "search", asked, reason, hint) for reason, hint in _sweep(points)]
    if not config.get("gates"):
        reason = "a search needs gates, which say what the load must still meet"
        hint = "e.g. gates=['time_to_first_token_ms.p99 <= 200']"
        found.append(error("search", "gates", [], reason, hint))
    return found


def _sweep(points: Sequence[Point]) -> list[tuple[str, str]]:
    """Reasons and hints about what is swept."""
    swept = _swept(points)
    if len(points) < 2 or not swept:
        return [("a search needs a sweep of one numeric key, and nothing is swept", HINT)]
    if len(swept) > 1:
        reason = f"a search needs a sweep of one numeric key, and {' and '.join(swept)} are swept"
        return [(reason, "fix all but one of them")]
    ((key, texts),) = swept.items()
    if _numbers(texts) is None:
        return [(f"a search needs a sweep of one numeric key, and {key} holds {texts[0]}", HINT)]
    deployments = {point.deployment for point in points if point.deployment is not None}
    if len(deployments) > 1:
        reason = f"a search runs on one live stack, and {key} stands for {len(deployments)} different ones"
        return [(reason, f"sweep a load, {HINT}")]
    return []


def _swept(points: Sequence[Point]) -> dict[str, list[str]]:
    """Overridden keys that do not have the same value everywhere -> their value in each point ("" for none)."""
    typed = [dict(map(_split, point.overrides)) for point in points]
    keys = dict.fromkeys(key for one in typed for key in one)
    columns: Mapping[str, list[str]] = {key: [one.get(key, "") for one in typed] for key in keys}
    return {key: texts for key, texts in columns.items() if len(set(texts)) > 1}


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+"), value.strip()
