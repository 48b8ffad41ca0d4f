"""Rules on the value of one flag: its kind, its choices, whether it may be a list or stand alone.

Given by `flags` for every flag that a catalogue knows. What a flag is worth (a concurrency of 0) is told by
`workload.load`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from compiler.catalogue import Catalogue, Flag
from compiler.errors import Problem, error, nearest, warning

_WHOLE = re.compile(r"[+-]?\d+\Z")
_WITH_SUFFIX = re.compile(r"[+-]?\d+(\.\d+)?[kKmMgGtT]?\Z")
_SUFFIXED = re.compile(r"(?<=\d)[kKmMgGtT]\b")
_KINDS = {"int": "a whole number", "float": "a number", "text": "a text", "json": "JSON", "list": "a value"}
MOST_CHOICES = 12


def value_of(key: str, flag: Flag, value: Any, found: Catalogue) -> Iterable[Problem]:
    """The value against the flag's kind."""
    if value is None or (value is True and (flag.bare or flag.kind == "flag")):
        return
    if value is False:
        yield from _false(key, flag, found)
    elif flag.kind == "flag":
        hint = f"write true for --{flag.name.replace('_', '-')}, null to leave it out"
        yield error("flag-value", key, value, "takes no value", hint)
    elif value is True:
        yield error("flag-value", key, value, f"takes {_KINDS[flag.kind]}, not a boolean", _hint(flag))
    elif flag.kind != "list" and isinstance(value, list) and flag.kind != "json" and len(value) != 1:
        yield error("flag-value", key, value, "takes one value, not a list", _hint(flag))
    else:
        yield from _items(key, flag, value)


def _false(key: str, flag: Flag, found: Catalogue) -> Iterable[Problem]:
    """False is not passed: harmless for a flag that is off by default, misleading for the others."""
    opposite = found.flags.get(f"no_{flag.name}")
    if flag.kind != "flag" and not flag.bare:
        reason = f"takes {_KINDS[flag.kind]}, not a boolean"
        yield error("flag-value", key, False, reason, "quote the word, or use null to leave the flag out")
    elif opposite is not None and not opposite.removed:
        reason = "is not passed, so the tool keeps its default"
        yield warning("flag-value", key, False, reason, f"to switch it off write {opposite.name}: true")


def _items(key: str, flag: Flag, value: Any) -> Iterable[Problem]:
    """Each word that the value becomes."""
    kind = flag.items if flag.kind == "list" else flag.kind
    words = value if isinstance(value, list) and kind != "json" else [value]
    if flag.kind == "list" and len(words) > 1 and not flag.several:
        hint = f"join the items with '{flag.split}'" if flag.split else "the tool takes one item"
        yield error("flag-value", key, value, "takes one word, not several", hint)
        return
    for word in words:
        for item in _split(word, flag, kind):
            wrong = _wrong(item, kind, flag)
            if wrong:
                yield error("flag-value", key, value, wrong, _hint(flag, item))
                return


def _split(word: Any, flag: Flag, kind: str) -> list[Any]:
    if flag.split and isinstance(word, str) and kind != "json":
        return [part.strip() for part in word.split(flag.split)]
    return [word]


def _wrong(item: Any, kind: str, flag: Flag) -> str:
    """What is wrong with one item ("" when nothing is)."""
    if isinstance(item, str) and item in flag.words:
        return ""
    if flag.choices:
        return "" if _chosen(item, flag) else "is not one of the flag's values"
    if kind == "json":
        return (
            ""
            if not isinstance(item, str) or _is_json(item)
            else "looks like JSON and cannot be read as such"
        )
    if isinstance(item, bool) or not _fits(item, kind, flag):
        return f"should be {_KINDS[kind]}"
    return ""


def _fits(item: Any, kind: str, flag: Flag) -> bool:
    if kind == "text":
        return True
    if isinstance(item, str):
        if kind == "int":
            return bool((_WITH_SUFFIX if flag.suffixes else _WHOLE).match(item))
        return _is_number(item)
    return isinstance(item, int) if kind == "int" else isinstance(item, int | float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    """False for text that opens like JSON and is none; other text is left to the tool."""
    if not text.lstrip().startswith(("{", "[")):
        return True
    for form in (text, _SUFFIXED.sub("", text)):
        try:
            json.loads(form)
        except ValueError:
            continue
        return True
    return False


def _chosen(item: Any, flag: Flag) -> bool:
    if isinstance(item, bool):
        return False
    texts = [str(choice) for choice in flag.choices]
    return str(item) in texts or (flag.loose and _folded(str(item)) in map(_folded, texts))


def _folded(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _hint(flag: Flag, item: Any = None) -> str:
    """The way out: near choices, all of a few, or the words besides numbers."""
    choices = [str(choice) for choice in flag.choices]
    near = nearest(str(item), choices) if choices and item is not None else []
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    if choices:
        more = "" if len(choices) <= MOST_CHOICES else f" and {len(choices) - MOST_CHOICES} more"
        return f"one of {', '.join(choices[:MOST_CHOICES])}{more}"
    if flag.split:
        return f"several are joined with '{flag.split}'"
    named = [word for word in flag.words if word != "None"]
    return f"or {', '.join(named)}" if named else ""
