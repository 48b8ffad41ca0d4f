"""What is served, apart from what is asked of it: the part of a configuration that a deployment is made from.

Takes a typed configuration; gives it without its workload, as one object for all points that have it in common, so
that `place` and `lower` work out a deployment once. Never does: comparing sections by what is in them (`once`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from compiler.model import Config
from compiler.once import MOST_KEPT

WORKLOAD: Mapping[str, Any] = {"aiperf": None, "genai_perf": None, "phases": [], "trial": 1}
"""Fields that no deployment depends on, and in which points of a sweep differ, with what stands there instead."""

_NAMES = tuple(field.name for field in fields(Config) if field.name not in WORKLOAD)
_HELD: dict[Hashable, Config] = {}


def stack_of(config: Config) -> Config:
    """The configuration without its workload. Nobody writes to either."""
    key = tuple(map(_key, (getattr(config, name) for name in _NAMES)))
    found = _HELD.get(key)
    if found is None:
        if len(_HELD) >= MOST_KEPT:
            _HELD.clear()
        # It holds the sections that the key tells apart by their ids.
        found = _HELD[key] = replace(config, **WORKLOAD)
    return found


def _key(value: Any) -> Hashable:
    return id(value) if is_dataclass(value) else repr(value)
