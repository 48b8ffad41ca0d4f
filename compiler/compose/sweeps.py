"""Sweep overrides (`key=1,2,3`) as the overrides they stand for, and what cannot be swept."""

from __future__ import annotations

import math
import re
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType, RangeSweep, ValueType

from compiler.compose.values import place
from compiler.errors import NOTHING, Problem, error
from compiler.keys import one_for_all

MOST_POINTS = 100_000
"""More would be planned for ten minutes and measured for years; it is a slip in a range."""
_NUMBER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)=(0|-?[1-9][0-9]{0,17})\Z")


def of_number(text: str) -> Override | None:
    """The override `key=5` as Hydra parses it, at once: a range has hundreds of them. Null for any other."""
    match = _NUMBER.match(text)
    if match is None:
        return None
    key, value = match.groups()
    return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, int(value), input_line=text)


def choices(override: Override) -> list[str]:
    """The overrides that one argument stands for; one that is not swept stays as it was typed."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def refused_sweep(override: Override) -> Problem | None:
    """What cannot be swept. Hydra would silently take the base value of some of these for every point."""
    if not override.is_sweep_override():
        return None
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    if key == "between":
        reason, hint = "cannot be swept: it is about the whole command", "write it in brackets: between=[A,B]"
    elif key.startswith(("zip.", "sample.params.")):
        reason, hint = "holds its values in brackets, and is no sweep", f"write {key}=[2,4,8]"
    elif (said := of_the_command(key)) is not None:
        reason, hint = said
    elif not override.is_discrete_sweep():
        reason, hint = (
            "a continuous range needs a sweeper that samples",
            "list the values, or use range(start,stop,step)",
        )
    elif not _countable(override):
        reason, hint = f"the range has no end, or more than {MOST_POINTS} values", "mend its stop or its step"
    else:
        return None
    return error("swept", key, value, reason, hint).at(place(override))


def of_the_command(key: str) -> tuple[str, str] | None:
    """Why points cannot differ in this key, and what to do; null where they can."""
    if key == "system" or key.startswith(("hydra.launcher", "hydra/launcher")):
        reason = "cannot be swept: the launcher is chosen once for the whole command"
        return reason, "run one command per system" if "." not in key else "run one command for each value"
    if key.startswith(("hydra.", "hydra/")):
        reason = "cannot be swept: Hydra's own settings are read once for the whole command"
        return reason, "leave it out, or run one command for each value"
    if one_for_all(key):
        return "cannot be swept: it is about the whole command", "run one command for each"
    return None


def empty_sweep(override: Override) -> Problem:
    """A sweep that stands for nothing would leave no point at all."""
    value = (override.input_line or "").partition("=")[2]
    reason = "this sweep holds no value, so there is no point"
    return error("swept", override.key_or_group, value, reason, "list values, or widen the range").at(
        place(override)
    )


def is_value(value: Any) -> bool:
    """True for what an override can hold: data without sweeps in it."""
    if isinstance(value, list):
        return all(map(is_value, value))
    if isinstance(value, dict):
        return all(map(is_value, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _countable(override: Override) -> bool:
    """False for a range that would fill the memory, or that Python cannot count."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return True
    start, stop, step = value.start or 0, value.stop or 0, value.step
    if not all(math.isfinite(number) for number in (start, stop, step)) or step == 0:
        return False
    return (stop - start) / step <= MOST_POINTS


def too_many(number: int, key: str) -> Problem:
    """All sweeps together. `number` is the product of their values, `key` the one with most."""
    reason = f"the sweeps stand for {number} points, at most {MOST_POINTS} can be planned together"
    return error("swept", key, NOTHING, reason, "split the command").at("the command")
