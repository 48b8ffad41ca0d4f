"""What is worked out once of things that points of a sweep share.

Given to: passes and rules. Points that differ in a number have nearly all their sections in common, as the same
objects (`compose`, `schema`, `served`). Never does: comparing things by what is in them; noticing that one was
written to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

MOST_KEPT = 1_000
"""Answers that are remembered of one kind: a sweep has some twenty sections per selection of groups."""
PLAIN = (str, int, type(None))
"""What is known by its value; all else by what it is, so nobody may write to it."""

T = TypeVar("T")
P = ParamSpec("P")


class Answers(Generic[T]):
    """What is known of things."""

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[tuple[object, ...], T]] = {}

    def of(self, *things: object) -> T | None:
        """The answer about these things together; null where there is none."""
        found = self._held.get(tuple(map(_key, things)))
        return None if found is None else found[1]

    def keep(self, answer: T, *things: object) -> None:
        """Remembers an answer."""
        if len(self._held) >= MOST_KEPT:
            self._held.clear()
        # The things are held with it: while they are, no others have their ids.
        self._held[tuple(map(_key, things))] = (things, answer)


def _key(thing: object) -> Hashable:
    return thing if isinstance(thing, PLAIN) else id(thing)


def once(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which answers at once where it was asked about the very same things before.

    Arguments are given by position. It never gives null, and what it raises is not remembered.
    """
    answers: Answers[T] = Answers()

    @wraps(function)
    def answer(*things: P.args, **named: P.kwargs) -> T:
        found = answers.of(*things)
        if found is None:
            found = function(*things, **named)
            answers.keep(found, *things)
        return found

    return answer
