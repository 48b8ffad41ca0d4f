"""Overrides as a configuration file that says the same: group selections, and values nested by their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override


@dataclass(frozen=True, slots=True)
class Overlay:
    """What an experiment file holds."""

    groups: tuple[tuple[str, str], ...]
    """Group and option, in the order they were typed."""
    settings: Mapping[str, Any]
    """Values below their keys; interpolations as they were typed."""


def overlay(overrides: Sequence[Override], is_group: Callable[[Override], bool]) -> Overlay | None:
    """The overlay of overrides that can be read; null where a file cannot say the same.

    That is a key taken away (`~key`), a place in a list (`phases[0]`), a group at another package, and an experiment,
    since one experiment cannot choose another.
    """
    groups: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if override.is_delete() or override.package is not None or "[" in key or key == "experiment":
            return None
        if not is_group(override):
            _merge(settings, _nested(key, value))
        elif isinstance(value, str):
            groups[key] = value
        else:
            return None
    return Overlay(tuple(groups.items()), settings)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """
    >>> _nested("aiperf.concurrency", 4)
    {'aiperf': {'concurrency': 4}}
    """
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """As OmegaConf merges: mappings into mappings, all else in place of what was there."""
    for key, value in more.items():
        held = into.get(key)
        if isinstance(held, dict) and isinstance(value, Mapping):
            _merge(held, value)
        else:
            into[key] = value
