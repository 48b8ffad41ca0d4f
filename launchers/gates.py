"""Thresholds on results: `time_to_first_token_ms.p99 <= 200`, or a percentage relative to a baseline's result."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compiler.errors import Problem, error
from compiler.plan import Point
from compiler.rules.workload import Gate, read_gate
from launchers.results import reading
from launchers.results.result import Result, ResultError

_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


Baselines = Mapping[str, Mapping[str, float]]
"""Path of a baseline -> its metrics."""
HINT = "name the result.json of a valid point"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate on one point."""

    point: str
    text: str
    passed: bool
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Keys point, text, passed, reason."""
        return asdict(self)


def baselines(points: Sequence[Point]) -> tuple[dict[str, Mapping[str, float]], list[Problem]]:
    """Metrics of every baseline that points name, by path; and the baselines that cannot serve as one."""
    found: dict[str, Mapping[str, float]] = {}
    problems: list[Problem] = []
    for path in dict.fromkeys(point.config.get("baseline") for point in points):
        if path is None:
            continue
        try:
            result = Result.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            problems.append(error("baseline", "baseline", path, "there is no such file", HINT))
        except (OSError, ValueError, ResultError) as exception:
            problems.append(
                error("baseline", "baseline", path, f"cannot be read ({reading.reason(exception)})", HINT)
            )
        else:
            found[path] = result.metrics
            if not result.verdict.valid:
                why = f"is a result that is {result.verdict.status}, so nothing can be compared with it"
                problems.append(error("baseline", "baseline", path, why, HINT))
    return found, problems


def judge(points: Sequence[Point], results: Sequence[Result | None], base: Baselines) -> list[GateVerdict]:
    """Every gate of every point with a valid result, each once.

    `results` hold the points' results in any order, `base` what `baselines` found. A metric that is missing fails
    its gate: nothing passes unseen.
    """
    by_digest = {result.point_digest: result for result in results if result and result.verdict.valid}
    verdicts: dict[GateVerdict, None] = {}
    for point in points:
        result = by_digest.get(str(point.digest))
        for text in point.config.get("gates") or []:
            gate = read_gate(text)
            if result is not None and gate is not None:
                baseline = base.get(str(point.config.get("baseline")), {})
                verdicts[_verdict(gate, result, baseline)] = None
    return list(verdicts)


def _verdict(gate: Gate, result: Result, baseline: Mapping[str, float]) -> GateVerdict:
    name, value, limit, unit = result.point_name, result.metrics.get(gate.metric), gate.limit, ""
    if value is None:
        return GateVerdict(name, gate.text, False, f"{name}: the result has no metric '{gate.metric}'")
    shown = f"{value:.6g}"
    if gate.relative:
        if gate.metric not in baseline:
            return GateVerdict(name, gate.text, False, f"{name}: the baseline has no metric '{gate.metric}'")
        if baseline[gate.metric] == 0:
            return GateVerdict(
                name, gate.text, False, f"{name}: the baseline's value is 0, of which there is no percentage"
            )
        value, unit = 100 * (value / baseline[gate.metric] - 1), " %"
        shown = f"{shown}, {value:+.2f} % of the baseline's {baseline[gate.metric]:.6g}"
    passed = _SIGNS[gate.sign](value, limit)
    return GateVerdict(name, gate.text, passed, f"{name}: {shown}, limit {limit:g}{unit}")
