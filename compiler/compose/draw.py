"""Workload parameters drawn at random: `sample.count` values for each of `sample.params`, by weight, from a seed.

A draw is a hash and needs no generator: the value of a key in a row depends on the seed, the row's number and the
key alone. So it is the same on every machine and in every Python, more rows leave the first ones as they are, and
another key changes none of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from compiler.compose.sweeps import MOST_POINTS, is_value
from compiler.errors import Problem, error

WORKLOAD = ("aiperf.", "genai_perf.")
"""What may be drawn: arguments of a load generator."""
HIGHEST_SEED = 2**53
HEAVIEST = 1e9
_EXAMPLE = "e.g. [2,4,8], or {values: [2,4,8], weights: [3,2,1]}"


def drawn(sample: Mapping[str, Any]) -> tuple[dict[str, list[Any]], list[Problem]]:
    """Key -> the values drawn for it, one per row; no keys where nothing is to be drawn, or something is wrong."""
    count, seed, params = sample.get("count", 0), sample.get("seed", 0), sample.get("params") or {}
    problems = [*_whole("count", count, MOST_POINTS), *_whole("seed", seed, HIGHEST_SEED)]
    if not isinstance(params, dict):
        reason = "should be a mapping of keys to values to draw from"
        problems.append(error("sample", "sample.params", params, reason, _EXAMPLE))
    if problems:
        return {}, problems
    problems = [problem for key, values in params.items() for problem in _wrong(str(key), values)]
    if bool(count) != bool(params):
        reason = "rows are drawn from nothing" if count else "there are params, and no row is drawn"
        hint = "set sample.params, or sample.count=0" if count else "set sample.count, or sample.params=null"
        problems.append(error("sample", "sample.count", count, reason, hint))
    if problems:
        return {}, problems
    return {str(key): [_draw(values, seed, row, str(key)) for row in range(count)]
            for key, values in params.items()}, []  # fmt: skip


def share(seed: int, row: int, key: str) -> float:
    """A number in [0, 1): the first 53 bits of SHA-256 of `servix.sample/1 <seed> <row> <key>`.

    Rows count from 0.
    """
    told = f"servix.sample/1 {seed} {row} {key}".encode("utf-8", "surrogatepass")
    return (int.from_bytes(hashlib.sha256(told).digest()[:8], "big") >> 11) / 2**53


def pick(values: Sequence[Any], weights: Sequence[float], number: float) -> Any:
    """The value in whose part `number` (0 to 1) of the weights' total lies.

    >>> [pick("abc", [1, 0, 3], number) for number in (0.0, 0.24, 0.25, 0.99)]
    ['a', 'a', 'c', 'c']
    """
    ends = list(accumulate(weights))
    within = (value for value, end in zip(values, ends, strict=True) if number * ends[-1] < end)
    # Rounding may put a number on the very end.
    last = next(value for value, weight in zip(values[::-1], weights[::-1], strict=True) if weight)
    return next(within, last)


def _draw(values: Any, seed: int, row: int, key: str) -> Any:
    weighted = values if isinstance(values, dict) else {"values": values}
    among = weighted["values"]
    return pick(among, weighted.get("weights") or [1] * len(among), share(seed, row, key.lstrip("+")))


def _wrong(key: str, values: Any) -> list[Problem]:
    place = f"sample.params.{key}"
    if not key.lstrip("+").startswith(WORKLOAD):
        reason = "only the workload is drawn: arguments of the load generator"
        return [error("sample", place, values, reason, "sweep the others: key=1,2")]
    weighted = values if isinstance(values, dict) else {"values": values}
    among, weights = weighted.get("values"), weighted.get("weights")
    if not isinstance(among, list) or not among or not all(map(is_value, among)) or _unknown(weighted):
        return [error("sample", place, values, "should be a list of values to draw from", _EXAMPLE)]
    if weights is None:
        return []
    if not isinstance(weights, list) or len(weights) != len(among) or not all(map(_is_weight, weights)):
        reason = f"weights are one number from 0 to {HEAVIEST:.0e} for each of the {len(among)} values"
        return [error("sample", f"{place}.weights", weights, reason, _EXAMPLE)]
    if not sum(weights):
        return [error("sample", f"{place}.weights", weights, "all weights are 0", "give one value a weight")]
    return []


def _unknown(weighted: Mapping[str, Any]) -> bool:
    return bool(weighted.keys() - {"values", "weights"})


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= HEAVIEST


def _whole(name: str, value: Any, most: int) -> list[Problem]:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return []
    return [error("sample", f"sample.{name}", value, f"should be a whole number from 0 to {most}")]
