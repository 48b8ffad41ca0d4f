"""Two mappings -> the dotted keys in which they differ, with both values.

Taken from: composed configurations and the JSON form of deployments. Given to: `action=explain`.
Never does: knowing where a value came from (`origin` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from compiler.errors import NOTHING


@dataclass(frozen=True, slots=True)
class Difference:
    """One key with two values; NOTHING where a side does not have it."""

    key: str
    a: Any
    b: Any


def differences(a: Any, b: Any, key: str = "") -> Iterator[Difference]:
    """Every end of the two trees that is not equal, by its dotted key.

    >>> [d.key for d in differences({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": [1, 3], "d": 0}})]
    ['a.c.1', 'a.d']
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in dict.fromkeys([*a, *b]):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(a.get(name, NOTHING), b.get(name, NOTHING), inner)
    elif _is_list(a) and _is_list(b) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from differences(left, right, f"{key}.{index}" if key else str(index))
    elif a is NOTHING or b is NOTHING:
        if a is not b:
            yield from _one_sided(a, b, key)
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield Difference(key, a, b)


def changed_words(a: Sequence[str], b: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of two command lines the words that the other one has not, a flag with its value.

    >>> changed_words(["vllm", "--tp", "2", "--x"], ["vllm", "--tp", "4", "--x"])
    (['--tp', '2'], ['--tp', '4'])
    """
    left, right = _flags(a), _flags(b)
    only_a: list[str] = []
    only_b: list[str] = []
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind != "equal":
            only_a += [word for flag in left[a1:a2] for word in flag]
            only_b += [word for flag in right[b1:b2] for word in flag]
    return only_a, only_b


def _one_sided(a: Any, b: Any, key: str) -> Iterator[Difference]:
    """A key that one side does not have, down to its ends, so that each has its place."""
    there = b if a is NOTHING else a
    if isinstance(there, Mapping) and there:
        for name, value in there.items():
            inner = f"{key}.{name}"
            yield from (
                differences(NOTHING, value, inner) if a is NOTHING else differences(value, NOTHING, inner)
            )
    else:
        yield Difference(key, a, b)


def _flags(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Words, those of a flag together."""
    found: list[tuple[str, ...]] = []
    for word in map(str, words):
        if found and found[-1][0].startswith("-") and not word.startswith("-"):
            found[-1] = (*found[-1], word)
        else:
            found.append((word,))
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
