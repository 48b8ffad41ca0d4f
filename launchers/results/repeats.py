"""Repeats of equal points: mean and sample standard deviation of the main metrics.

Takes groups of results that differ in `trial` only; gives lines of text and cells. Never does: counting a result
that is not valid.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launchers.results.frame import labels
from launchers.results.result import Result
from launchers.results.table import NONE, number

METRICS: Mapping[str, str] = {
    "TTFT avg ms": "time_to_first_token_ms.avg",
    "TTFT p99 ms": "time_to_first_token_ms.p99",
    "ITL avg ms": "inter_token_latency_ms.avg",
    "latency avg ms": "request_latency_ms.avg",
    "output tok/s": "output_token_throughput_per_s",
}
"""Heading -> metric, of the last phase."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Valid repeats of one point together."""

    point: str
    trials: int
    """Valid ones."""
    cells: tuple[str, ...]
    """One per heading of METRICS: `22.3 ± 0.41`, or the value alone where there is one."""


def spreads(groups: Sequence[Sequence[Result]]) -> list[Spread]:
    """One entry per group of at least two results; the others are no repeats."""
    several = [group for group in groups if len(group) > 1]
    names = labels([_untried(group[0]) for group in several])
    return [_spread(name, group) for name, group in zip(names, several, strict=True)]


def mean_and_deviation(values: Sequence[float]) -> str:
    """
    >>> mean_and_deviation([1, 2, 3]), mean_and_deviation([1]), mean_and_deviation([])
    ('2.00 ± 1.00', '1.00', '-')
    """
    if len(values) < 2:
        return number(values[0]) if values else NONE
    return f"{number(statistics.fmean(values))} ± {number(statistics.stdev(values))}"


def lines(found: Sequence[Spread]) -> list[str]:
    """A small table; empty without repeats."""
    if not found:
        return []
    rows = [("mean ± stddev", *METRICS)]
    rows += [(f"{spread.point} (n={spread.trials})", *spread.cells) for spread in found]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [f"{name:<{sizes[0]}}", *(f"{cell:>{size}}" for cell, size in zip(cells, sizes[1:], strict=True))]
        )
        for name, *cells in rows
    ]


def _spread(name: str, group: Sequence[Result]) -> Spread:
    valid = [result for result in group if result.verdict.valid]
    columns = [[r.metrics[metric] for r in valid if metric in r.metrics] for metric in METRICS.values()]
    return Spread(name, len(valid), tuple(map(mean_and_deviation, columns)))


def _untried(result: Result) -> Result:
    """The result under the name of its point without the trial."""
    name = result.point_name.removesuffix(f"-trial{result.trial}")
    kept = tuple(text for text in result.overrides if not text.startswith("trial="))
    return replace(result, point_name=name, overrides=kept)
