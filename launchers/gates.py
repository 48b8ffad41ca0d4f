"""Thresholds on results: `time_to_first_token_ms.p99 <= 200`, or a percentage relative to a baseline's result."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compiler.plan import Plan
from compiler.rules.workload import Gate, read_gate
from launchers.results.result import Result, ResultError

_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


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


def judge(plan: Plan, results: Sequence[Result | None]) -> list[GateVerdict]:
    """Every gate of every valid result. A metric that is missing fails its gate: nothing passes unseen."""
    by_digest = {point.digest: point for point in plan.points}
    verdicts: list[GateVerdict] = []
    for result in results:
        if result is None or not result.verdict.valid or result.point_digest not in by_digest:
            continue
        config = by_digest[result.point_digest].config
        baseline = _baseline(config.get("baseline"))
        for text in config.get("gates") or []:
            gate = read_gate(text)
            if gate is not None:
                verdicts.append(_verdict(gate, result, baseline))
    return verdicts


def _verdict(gate: Gate, result: Result, baseline: Mapping[str, float] | str) -> GateVerdict:
    value, limit, unit = result.metrics.get(gate.metric), gate.limit, ""
    if value is None:
        reason = f"the result has no metric '{gate.metric}'"
        return GateVerdict(result.point_name, gate.text, False, reason)
    shown = f"{value:.6g}"
    if gate.relative:
        if isinstance(baseline, str) or not baseline.get(gate.metric):
            reason = baseline if isinstance(baseline, str) else f"the baseline has no metric '{gate.metric}'"
            return GateVerdict(result.point_name, gate.text, False, reason)
        value, unit = 100 * (value / baseline[gate.metric] - 1), " %"
        shown = f"{shown}, {value:+.2f} % of the baseline's {baseline[gate.metric]:.6g}"
    passed = _SIGNS[gate.sign](value, limit)
    return GateVerdict(
        result.point_name, gate.text, passed, f"{result.point_name}: {shown}, limit {limit:g}{unit}"
    )


def _baseline(path: str | None) -> Mapping[str, float] | str:
    """Metrics of the result to compare with, or why there are none."""
    if path is None:
        return "there is no baseline"
    try:
        return Result.from_json(json.loads(Path(path).read_text(encoding="utf-8"))).metrics
    except (OSError, ValueError, ResultError) as exception:
        return f"the baseline {path} cannot be read ({exception})"
