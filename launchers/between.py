"""Two points -> what differs: the settings with their origin, and what of the plan is hashed.

Takes two sides; gives a comparison, as text or JSON. Never does: finding the points (`sides` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compiler.difference import Difference, changed_words, differences
from compiler.digest import short
from compiler.errors import NOTHING, json_value, one_line, shown
from compiler.keys import about, in_digest
from launchers.sides import Side

MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Hashed:
    """Something of the plans that is hashed and differs."""

    where: tuple[str, ...]
    """Processes; ("deployment",) or ("workload",) for the whole."""
    what: Difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two points differ in."""

    a: Side
    b: Side
    settings: tuple[Difference, ...]
    hashed: tuple[Hashed, ...]
    notes: tuple[str, ...]


def between(a: Side, b: Side) -> Comparison:
    """The comparison of two points."""
    # What each command did with its points says nothing about them.
    settings = tuple(each for each in differences(a.config, b.config) if about(each.key) != "invocation")
    found = [*_stacks(a, b), *_workloads(a, b)]
    return Comparison(a, b, settings, tuple(found), tuple(_notes(a, b, settings, found)))


def lines(comparison: Comparison) -> Iterator[str]:
    """The text form."""
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        yield one_line(f"{letter}: {side.name} ({short(side.digest)}), from {side.place}")
    yield from comparison.notes
    for hashed in (True, False):
        kept = [each for each in condensed(comparison.settings) if in_digest(each.key) == hashed]
        if kept:
            yield ""
            yield "settings that differ:" if hashed else "settings that differ and are in no digest:"
        for each in kept[:MOST_SHOWN]:
            yield from _setting(each, comparison)
        if len(kept) > MOST_SHOWN:
            yield f"  ... and {len(kept) - MOST_SHOWN} more (format=json shows all)"
    if comparison.hashed:
        yield ""
        yield "what is hashed and differs:"
    for entry in comparison.hashed[:MOST_SHOWN]:
        yield one_line(f"  {_where(entry.where)}: {entry.what.key}")
        yield f"    A  {value_text(entry.what.a)}"
        yield f"    B  {value_text(entry.what.b)}"
    if len(comparison.hashed) > MOST_SHOWN:
        yield f"  ... and {len(comparison.hashed) - MOST_SHOWN} more (format=json shows all)"


def document(comparison: Comparison) -> dict[str, Any]:
    """The JSON form."""
    a, b = comparison.a, comparison.b
    return {
        "a": _side_json(a),
        "b": _side_json(b),
        "same_digest": a.digest == b.digest,
        "same_deployment": a.deployment == b.deployment,
        "notes": list(comparison.notes),
        "settings": [
            {
                **_values(each),
                "origin_a": _origin(a, each.key, each.a),
                "origin_b": _origin(b, each.key, each.b),
                "in_digest": in_digest(each.key) and a.digest != b.digest,
            }
            for each in comparison.settings
        ],
        "hashed": [{"where": list(entry.where), **_values(entry.what)} for entry in comparison.hashed],
    }


def condensed(settings: Sequence[Difference]) -> list[Difference]:
    """The same for people: of a group whose options differ, the options' names and nothing below them.

    >>> found = [Difference("backend.name", "vllm", "sglang"), Difference("backend.env.X", 1, 2)]
    >>> condensed(found)
    [Difference(key='backend', a='vllm', b='sglang')]
    """
    options = {_top(each) for each in settings if each.key == f"{_top(each)}.name"}
    names = (each for each in settings if each.key == f"{_top(each)}.name" or _top(each) not in options)
    return [replace(each, key=_top(each)) if _top(each) in options else each for each in names]


def _notes(a: Side, b: Side, settings: Sequence[Difference], found: Sequence[Hashed]) -> Iterator[str]:
    versions = [side.digest.partition("-")[0] for side in (a, b)]
    if a.digest == b.digest:
        yield "same digest: nothing that can change a number differs"
        return
    if versions[0] != versions[1]:
        yield f"the digests are of two forms, {versions[0]} and {versions[1]}, and equal points differ in them"
    if a.deployment == b.deployment:
        yield "same deployment; the workloads differ"
    elif versions[0] == versions[1]:
        yield "the deployments differ"
    if a.deployment != b.deployment and (a.stack is None or b.stack is None):
        yield f"the plan of {'A' if a.stack is None else 'B'} is not stored, so only settings are compared"
    if not found and not any(in_digest(each.key) for each in settings) and versions[0] == versions[1]:
        yield "no setting differs: another release of servix made other command lines of the same settings"


def _stacks(a: Side, b: Side) -> Iterator[Hashed]:
    if a.deployment == b.deployment or a.stack is None or b.stack is None:
        return
    left, right = dict(a.stack), dict(b.stack)
    mine, others = left.pop("processes", {}), right.pop("processes", {})
    for each in differences(left, right):
        yield Hashed(("deployment",), each)
    where: dict[str, tuple[Difference, list[str]]] = {}
    for name in dict.fromkeys([*mine, *others]):
        for each in _processes(mine.get(name), others.get(name)):
            where.setdefault(repr(each), (each, []))[1].append(name)
    for each, names in where.values():
        yield Hashed(tuple(names), each)


def _processes(a: Any, b: Any) -> Iterator[Difference]:
    if a is None or b is None:
        yield Difference(
            "process", NOTHING if a is None else "is there", NOTHING if b is None else "is there"
        )
        return
    for each in differences({**a, "argv": None}, {**b, "argv": None}):
        # A process that is elsewhere has another name, and worker and node go with it.
        if each.key not in ("name", "worker"):
            yield each
    yield from _words("argv", a.get("argv"), b.get("argv"))


def _workloads(a: Side, b: Side) -> Iterator[Hashed]:
    if a.workload is None or b.workload is None or a.digest == b.digest:
        return
    left, right = dict(a.workload), dict(b.workload)
    mine, others = left.pop("phases"), right.pop("phases")
    for each in differences(left, right):
        yield Hashed(("workload",), each)
    if len(mine) != len(others):
        yield Hashed(("workload",), Difference("phases", len(mine), len(others)))
        return
    for one, two in zip(mine, others, strict=True):
        for each in differences({**one, "argv": None}, {**two, "argv": None}):
            yield Hashed((f"phase {one['name']}",), each)
        for each in _words("argv", one["argv"], two["argv"]):
            yield Hashed((f"phase {one['name']}",), each)


def _words(key: str, a: Any, b: Any) -> Iterator[Difference]:
    if a != b and isinstance(a, list | tuple) and isinstance(b, list | tuple):
        yield Difference(key, *changed_words(a, b))
    elif a != b:
        yield Difference(key, a, b)


def _setting(each: Difference, comparison: Comparison) -> Iterator[str]:
    yield one_line(f"  {each.key}")
    for letter, side, value in (("A", comparison.a, each.a), ("B", comparison.b, each.b)):
        origin = _origin(side, each.key, value)
        yield one_line(f"    {letter}  {value_text(value)}{f'  ({origin})' if origin else ''}")


def _origin(side: Side, key: str, value: Any) -> str:
    return "" if value is NOTHING else side.origin(key)


def value_text(value: Any) -> str:
    """A setting on one line; a list of words as a command line."""
    if value is NOTHING:
        return "not there"
    words = isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return one_line(" ".join(value)) if words and value else one_line(shown(value))


def _values(each: Difference) -> dict[str, Any]:
    """A side that does not have the key is left out."""
    sides: Mapping[str, Any] = {"a": each.a, "b": each.b}
    return {"key": each.key, **{n: json_value(value) for n, value in sides.items() if value is not NOTHING}}


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "digest": side.digest,
        "deployment": side.deployment,
        "from": side.place,
        "plan": side.stack is not None,
    }


def _where(names: Sequence[str]) -> str:
    shortened = names if len(names) <= 4 else [*names[:3], f"and {len(names) - 3} more"]
    return ", ".join(shortened)


def _top(each: Difference) -> str:
    return each.key.partition(".")[0]
