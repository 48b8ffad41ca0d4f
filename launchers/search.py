"""Bisection of a load: which point of a sweep is measured next, and what was found.

Takes points in order of their load and what is known of them; gives the next point. Where the load is one that the
stack stands up to and a higher one is not, about log2 of the points are measured.
Never does: measuring; believing that a load between two that hold holds too (it says what was measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.plan import Point
from compiler.search import ladder
from launchers import best, gates
from launchers.results.result import Result

Judge = Callable[[Result], bool]
"""True for a valid result that meets every gate of its point."""
Choose = Callable[[Sequence[Result]], Point | None]
"""Given the results of one stack so far, the point to measure on it next; null: no more."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search came to."""

    key: str
    """The override that was swept, without `+`."""
    points: int
    measured: int
    """Points with a result, those that were done before included."""
    found: Point | None
    """The highest load that meets the gates; null: none does."""
    value: float | None
    above: float | None
    """The lowest load above it that does not; null: it is the highest of the sweep, or nobody looked."""
    exact: bool
    """False when the budget ended before the neighbour of what was found was measured."""

    def as_json(self) -> dict[str, Any]:
        """Keys method, key, points, measured, found (a name), digest, value, above, exact."""
        found = self.found
        return {
            "method": "bisect",
            "key": self.key,
            "points": self.points,
            "measured": self.measured,
            "found": found.name if found else None,
            "digest": found.digest if found else None,
            "value": self.value,
            "above": self.above,
            "exact": self.exact,
        }


def next_point(points: Sequence[Point], judged: Mapping[str, bool]) -> Point | None:
    """The point that tells most, null when nothing is left to learn.

    `points` are sorted by load, lowest first; `judged` says by digest which of them meet the gates. The lowest is
    first, since a stack that cannot bear it needs no search; then the highest, then the middle between the highest
    that meets the gates and the lowest above it that does not.
    """
    low, high = _bounds(points, judged)
    if low is None:
        return points[0] if points and str(points[0].digest) not in judged else None
    if high is None:
        return points[-1] if low < len(points) - 1 else None
    return points[(low + high) // 2] if high - low > 1 else None


def still_open(points: Sequence[Point], judged: Mapping[str, bool]) -> Sequence[Point]:
    """Points that a search may yet ask for: those between its bounds, and none when nothing is left to learn."""
    if next_point(points, judged) is None:
        return ()
    low, high = _bounds(points, judged)
    return points[0 if low is None else low + 1 : high]


def judge_of(points: Sequence[Point], base: gates.Baselines) -> Judge:
    """Says of results of these points whether they meet the gates. `base` is what `gates.baselines` found."""
    by_digest = {str(point.digest): point for point in points}
    return lambda result: best.passes([by_digest[result.point_digest]], result, base)


def bisect(
    points: Sequence[Point],
    judge: Judge,
    known: Mapping[str, bool] | None = None,
    budget: int | None = None,
) -> Choose:
    """Chooses from `points`, sorted by load. `known` are verdicts from before, by digest; they cost no budget."""

    def choose(results: Sequence[Result]) -> Point | None:
        if budget is not None and len(results) >= budget:
            return None
        return next_point(points, {**(known or {}), **judged(results, judge)})

    return choose


def judged(results: Sequence[Result], judge: Judge) -> dict[str, bool]:
    """By point digest, whether a result meets the gates. One that failed or is invalid does not."""
    return {result.point_digest: result.verdict.valid and judge(result) for result in results}


def outcome(key: str, points: Sequence[Point], values: Sequence[float], judged: Mapping[str, bool]) -> Search:
    """What the verdicts on `points` (sorted, with their loads `values`) say."""
    low, high = _bounds(points, judged)
    exact = next_point(points, judged) is None
    return Search(
        key=key,
        points=len(points),
        measured=sum(str(point.digest) in judged for point in points),
        found=None if low is None else points[low],
        value=None if low is None else values[low],
        above=None if high is None else values[high],
        exact=exact,
    )


def so_far(points: Sequence[Point], results: Sequence[Result], base: gates.Baselines) -> Search | None:
    """What results of these points come to; null where all of the points are asked for."""
    climbed = ladder([point for point in points if point.valid])
    if climbed is None:
        return None
    known = judged(results, judge_of(climbed.points, base))
    return outcome(climbed.key, climbed.points, climbed.values, known)


def told(search: Search) -> str:
    """The outcome in one line.

    >>> told(Search("aiperf.concurrency", 128, 9, None, None, 1, True))
    'search: no aiperf.concurrency meets the gates, 1 does not; 9 of 128 points measured'
    """
    count = f"{search.measured} of {search.points} points measured"
    if search.measured == 0:
        return f"search: nothing is measured yet; {count}"
    if search.found is None or search.value is None:
        lowest = f", {search.above:g} does not" if search.above is not None else ""
        return f"search: no {search.key} meets the gates{lowest}; {count}"
    head = f"search: {search.key} = {search.value:g} is the highest that meets the gates"
    if search.above is None:
        tail = "the highest of the sweep" if search.exact else "nothing above it was measured"
    else:
        tail = f"{search.above:g} does not" + ("" if search.exact else ", nothing between was measured")
    return f"{head} ({tail}); {count}"


def _bounds(points: Sequence[Point], judged: Mapping[str, bool]) -> tuple[int | None, int | None]:
    """Places of the highest point that meets the gates, and of the lowest above it that does not."""
    low: int | None = None
    for place, point in enumerate(points):
        if judged.get(str(point.digest)):
            low = place
    above = range(0 if low is None else low + 1, len(points))
    high = next((place for place in above if judged.get(str(points[place].digest)) is False), None)
    return low, high
