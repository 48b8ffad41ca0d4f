"""Site data merged into what servix writes: mappings key by key, lists of named things by name, other lists joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(ours: Any, more: Any) -> Any:
    """Both together; where both say a value, `more` wins.

    >>> merged({"a": 1, "l": [{"name": "x", "v": 1}]}, {"b": 2, "l": [{"name": "x", "w": 2}, {"name": "y"}]})
    {'a': 1, 'l': [{'name': 'x', 'v': 1, 'w': 2}, {'name': 'y'}], 'b': 2}
    """
    if isinstance(ours, Mapping) and isinstance(more, Mapping):
        both = {key: merged(ours[key], value) if key in ours else value for key, value in more.items()}
        return {**ours, **both}
    if isinstance(ours, list) and isinstance(more, list):
        return _joined(ours, more)
    return more


def _joined(ours: list[Any], more: list[Any]) -> list[Any]:
    result = list(ours)
    named = {name: index for index, item in enumerate(ours) if (name := _name(item)) is not None}
    for item in more:
        index = named.get(_name(item))
        if index is None:
            result.append(item)
        else:
            result[index] = merged(result[index], item)
    return result


def _name(item: Any) -> Any:
    return item.get("name") if isinstance(item, Mapping) else None
