"""What a load generator can measure: metric -> its statistics, read from `catalogues/metrics/` when asked for.

Taken from: the name and release of a tool. Given to: the rule on gates and the objective. Files are written by
tools/metrics.py. Never does: knowing how a tool's report is read; judging a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from compiler.errors import nearest

FOLDER = Path(__file__).resolve().parent.parent / "catalogues" / "metrics"
SCHEMA = "servix.metrics/1"
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}\Z")
ALONE = ""
"""Stands for "no statistic": the id of a scalar stands alone."""


@cache
def metrics(tool: str, release: str, folder: Path = FOLDER) -> Mapping[str, tuple[str, ...]] | None:
    """Metric -> its statistics, null where the release has no list."""
    if not _RELEASE.match(release):
        return None
    try:
        data = json.loads((folder / f"{tool}-{release}.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return None
    return {name: tuple(statistics) for name, statistics in data["metrics"].items()}


def wrong(text: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, str] | None:
    """Reason and hint where a result has nothing under `text`, else null.

    >>> wrong("ttft.p99", {"time_to_first_token_ms": ("avg", "p99")})
    ("'ttft' is no metric", "did you mean 'time_to_first_token_ms.p99'?")
    """
    name, _, statistic = text.partition(".")
    statistics = known.get(name)
    if statistics is None:
        guesses = [_with(guess, statistic, known[guess]) for guess in like(name, known)]
        meant = " or ".join(f"'{guess}'" for guess in guesses)
        return f"'{name}' is no metric", f"did you mean {meant}?" if meant else "docs/results.md lists them"
    if statistic in statistics:
        return None
    if statistics == (ALONE,):
        return f"'{name}' is one number, without '.{statistic}'", f"write {name}"
    listed = ", ".join(one for one in statistics if one != ALONE)
    if statistic == ALONE:
        return (
            f"'{name}' is a distribution",
            f"say which statistic, e.g. {_with(name, '', statistics)}; known: {listed}",
        )
    return f"'{name}' has no statistic '{statistic}'", f"known: {listed}"


def like(name: str, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """At most three metrics that `name` may stand for: by its letters, its words, or the words' first letters."""
    words = set(name.split("_"))
    holding = [metric for metric in known if words <= set(metric.split("_"))]
    short = [metric for metric in known if len(name) > 1 and _initials(metric).startswith(name)]
    found = nearest(name, known) or sorted(holding or short, key=lambda metric: (len(metric), metric))
    return found[:3]


def _with(metric: str, statistic: str, statistics: tuple[str, ...]) -> str:
    """The metric with the statistic, where it has that, else with one that it has."""
    if statistic not in statistics:
        statistic = ALONE if ALONE in statistics else "p99" if "p99" in statistics else statistics[-1]
    return f"{metric}.{statistic}" if statistic else metric


def _initials(metric: str) -> str:
    return "".join(word[:1] for word in metric.split("_"))
