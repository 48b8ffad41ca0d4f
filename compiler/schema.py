"""Plain data -> the typed configuration, or every problem at once, in our words.

Takes what `compose` gives; knows pydantic. Never does: rules over more than one field (`check`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from compiler.errors import NOTHING, Problem, did_you_mean, error, shown, sweep_hint
from compiler.model import Config
from compiler.once import Answers
from compiler.renamed import PACKAGE_HINT, RENAMED

Kind = TypeVar("Kind")
_BRANCH = re.compile(r"\[key\]\Z|constrained-\w+\Z|(function-\w+|literal|list|dict)\[.*\]\Z", re.DOTALL)
"""Parts of pydantic's places that are no keys: the key itself, and the branches of a union."""


@cache
def adapter() -> TypeAdapter[Config]:
    """The validator, built once."""
    return TypeAdapter(Config)


def parse(data: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The configuration, or null and every problem that forbids to read it.

    Nobody may write to the data afterwards: a section that points have in common is read once.
    """
    known = {
        name: (isinstance(value, dict) and _READ.of(value, name)) or value for name, value in data.items()
    }
    try:
        config = adapter().validate_python(known)
    except ValidationError as exception:
        return None, _once([_problem(detail) for detail in exception.errors(include_url=False)])
    for name, value in data.items():
        if known[name] is value and is_dataclass(section := getattr(config, name)):
            _READ.keep(section, value, name)
    return config, []


_READ: Answers[Any] = Answers()
"""Sections of a configuration that could be read, by their data."""


def section(kind: type[Kind], data: Mapping[str, Any]) -> Kind:
    """A part of a configuration that was parsed before, in its types. Raises ValueError for one that cannot be."""
    structure: Any = kind
    made: Kind = _section(structure).validate_python(dict(data))
    return made


@cache
def _section(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """One problem per key: a value that fits no branch of a union is told with all that would fit."""
    by_key: dict[str, Problem] = {}
    for problem in problems:
        told = by_key.get(problem.key)
        reason = f"{told.reason}, or {problem.reason.removeprefix('should be ')}" if told else problem.reason
        by_key[problem.key] = replace(told or problem, reason=reason)
    inner = {key.rpartition(".")[0] for key in by_key}
    return [problem for key, problem in by_key.items() if key not in inner]


def _problem(detail: Any) -> Problem:
    location = tuple(part for part in detail["loc"] if not _BRANCH.match(str(part)))
    key = ".".join(str(part) for part in location)
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        # A file without its package line puts its keys one level too deep: system.system.name.
        doubled = PACKAGE_HINT if len(location) == 2 and location[1] in (location[0], "hydra") else ""
        hint = (
            doubled
            or RENAMED.get(str(location[-1]))
            or did_you_mean(str(location[-1]), _names_at(location[:-1]))
        )
        return error("unknown-key", key, value, "unknown key", hint)
    if kind == "unfit":
        return error("value", f"{key}.{context['path']}", context["leaf"], str(detail["msg"]))
    if kind == "missing":
        return error("missing", key, NOTHING, "has no value", f"set it: {key}=...")
    if kind == "literal_error":
        reason = f"should be {context['expected']}"
        known = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        hint = did_you_mean(str(value), known)
        return error("value", key, value, reason, hint if hint.startswith("did you") else "")
    return error("value", key, value, _reason(kind, detail, context), _hint(key, value, kind))


def _reason(kind: str, detail: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if kind == "value_error":
        return str(context["error"])
    reasons = {
        "greater_than_equal": "should be at least {ge}",
        "greater_than": "should be more than {gt}",
        "less_than_equal": "should be at most {le}",
        "bool_type": "should be true or false",
        "string_type": "should be text",
        "list_type": "should be a list",
        "too_short": "should be a list of at least {min_length}",
        "too_long": "should be a list of at most {max_length}",
        "dict_type": "should be a mapping of keys to values",
        "dataclass_type": "should be a mapping of keys to values",
        "string_too_short": "should not be empty",
        "string_pattern_mismatch": "cannot hold a NUL character",
        "none_required": "should be null",
    }
    if kind in reasons:
        return reasons[kind].format(**context)
    message = str(detail["msg"])
    return message[:1].lower() + message[1:]


def _hint(key: str, value: Any, kind: str) -> str:
    if kind == "list_type":
        return "an empty list is []" if value is None else "write it in brackets: [...]"
    if kind == "string_type" and isinstance(value, bool | int | float):
        holder, _, last = key.rpartition(".")
        if last.isdigit():
            return f"put quotes around it, where {holder} is written: '{shown(value)}'"
        return f"quote it: {key}='\"{shown(value)}\"'"
    return sweep_hint(key, value)


def _names_at(location: Sequence[Any]) -> list[str]:
    """Field names of the dataclass at a place of the configuration; empty when there is none."""
    node: Any = Config
    for part in location:
        if is_dataclass(node):
            node = get_type_hints(node).get(str(part))
        else:
            node = next(iter(get_args(node)[1:]), None)
        if get_origin(node) is not dict:
            node = next((option for option in [node, *get_args(node)] if is_dataclass(option)), None)
    return [item.name for item in fields(node)] if is_dataclass(node) else []
