"""Points of a command -> `trajectory.csv`: one row per point that was asked for, whatever became of it.

Takes points, what the store says of them, and how often they were tried. Never does: dropping a point; giving an
objective value to a point that is not valid.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compiler.errors import format_problem
from compiler.plan import Point
from launchers.results.frame import cell, composed, keys_of

if TYPE_CHECKING:
    from launchers.store import Standing

STAGES = ("start", "ready", "phases", "stop")
UNKNOWN = "it was not measured"


def trajectory_csv(
    points: Sequence[Point], standings: Mapping[str, Standing], attempts: Mapping[str, int]
) -> str:
    """CSV with a header. `standings` and `attempts` are by digest; a point without a standing was not measured."""
    keys = keys_of(point.overrides for point in points)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    stages = [f"{stage}_s" for stage in STAGES]
    about = ["status", "reason", "objective_metric", "objective_value", "attempts"]
    writer.writerow(["name", *keys, *about, *stages, "started_at", "digest"])
    for point in points:
        digest = str(point.digest)
        writer.writerow(map(cell, _row(point, keys, standings.get(digest), attempts.get(digest, 0))))
    return text.getvalue()


def _row(point: Point, keys: Sequence[str], standing: Standing | None, attempts: int) -> list[Any]:
    result = standing.result if standing else None
    metric = (point.config.get("objective") or {}).get("metric")
    valid = result is not None and result.verdict.valid
    durations = result.durations_s if result else {}
    reasons = standing.reasons if standing else ()
    if not point.valid:
        reasons = tuple(format_problem(problem) for problem in point.problems if problem.level == "error")
    if result is None and not reasons:
        reasons = (UNKNOWN,)
    return [
        point.name,
        *(composed(point.config, point.overrides, key) for key in keys),
        standing.status if standing else point.status if point.valid else "invalid",
        "; ".join(reasons) or None,
        metric,
        result.metrics.get(metric) if result and valid and metric else None,
        attempts,
        *(durations.get(stage) for stage in STAGES),
        result.started_at if result else None,
        point.digest,
    ]
