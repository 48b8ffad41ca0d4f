"""Planning 10,000 points completes: its CPU time per point and its memory."""

from __future__ import annotations

from figure import Figure, Line
from measure import median
from plan_many import planned

TIMEOUT_S = 300.0


def measure(repeat: int) -> list[Line]:
    """Two lines, not judged: to complete is what is asked."""
    runs = [planned(10_000, TIMEOUT_S) for _ in range(repeat)]
    return [
        Line("plan 10,000 points, CPU per point, all in", median([one.cpu_s for one in runs]) / 10_000, "ms"),
        Line("peak memory of that", max(one.peak_mb for one in runs), "MB"),
    ]


FIGURE = Figure("plan_10000", "plan 10,000 points (takes a minute)", 1, measure, by_default=False)
