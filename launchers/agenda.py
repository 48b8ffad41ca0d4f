"""The points of a session: which is measured next, and what came of those before.

Takes points, or a way to choose the next one by the results; given to: `session`.
Never does: measuring; writing results.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.plan import Point
from launchers.results.result import Result
from launchers.search import Choose

MOST_HITS = 2
"""Stacks that one point may take with it."""


class Agenda:
    """The points of a session: which is next, and what came of those before."""

    def __init__(self, points: Sequence[Point], choose: Choose | None) -> None:
        self.size = len(points)
        self.results: list[Result] = []
        self.current: Point | None = None
        """The point to measure now; null: none is left."""
        self.hits: tuple[str, ...] = ()
        """Why the attempts before at the current point do not count."""
        self._waiting = list(points)
        self._choose = choose
        self._go_on()

    def done(self, result: Result) -> None:
        """The current point has come to this."""
        self.results.append(result)
        self.hits = ()
        self._go_on()

    @property
    def may_try_again(self) -> bool:
        """False for a current point that has taken enough stacks with it."""
        return len(self.hits) + 1 < MOST_HITS

    def hit(self, result: Result) -> None:
        """The current point lost its stack and is measured again."""
        reason = result.verdict.reasons[0].splitlines()[0] if result.verdict.reasons else "it failed"
        self.hits = (*self.hits, f"measured again: attempt {result.attempt} failed: {reason}")

    def replace(self, known: Result, better: Result) -> None:
        """The same result, told more of."""
        self.results = [better if result is known else result for result in self.results]

    @property
    def left(self) -> list[Point]:
        """Points that nothing came of yet."""
        if self._choose is not None:
            return [self.current] if self.current is not None else []
        return [*([self.current] if self.current is not None else []), *self._waiting]

    def _go_on(self) -> None:
        if self._choose is not None:
            self.current = self._choose(self.results)
        else:
            self.current = self._waiting.pop(0) if self._waiting else None
