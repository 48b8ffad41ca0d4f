"""How long points take and what they cost, before anything runs: arithmetic over the configuration of a plan.

Takes points and deployments of a plan; gives seconds, GPU hours, and what is above `max_points` and
`max_gpu_hours`. Never does: measuring. `launch.estimate` says how long things are taken to last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.errors import Problem, error
from compiler.plan import Cost, Deployment, Estimate, Plan, Point

LONGEST_S = 3e9
"""About a hundred years; more is not told apart."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def estimate(points: Sequence[Point], deployments: Sequence[Deployment], most: int | None = None) -> Estimate:
    """Cost of measuring every distinct point without errors, one deployment after another, each started once.

    GPU hours are those of the allocation: idle GPUs are paid, too. `most`: points that are measured of them, and
    which is not known: the costliest; null: all.
    """
    distinct = {point.digest: point for point in points if point.valid and point.deployment is not None}
    measured = list(distinct.values())
    if most is not None:
        measured = sorted(measured, key=lambda point: -point_seconds(point.config))[:most]
    seconds: dict[str, float] = {}
    for point in measured:
        deployment = str(point.deployment)
        if deployment not in seconds:
            seconds[deployment] = start_seconds(point.config)
        seconds[deployment] += point_seconds(point.config)
    costs = {one.digest: _cost(one, seconds[one.digest]) for one in deployments if one.digest in seconds}
    total, gpu_hours = (
        sum(getattr(cost, name) for cost in costs.values()) for name in ("seconds", "gpu_hours")
    )
    return Estimate(round(total, 1), round(gpu_hours, 4), costs)


def _cost(deployment: Deployment, seconds: float) -> Cost:
    gpus = deployment.num_nodes * deployment.gpus_per_node
    return Cost(round(seconds, 1), round(seconds * gpus / _HOUR, 4))


def start_seconds(config: Mapping[str, Any]) -> float:
    """Seconds until the deployment of a composed configuration is ready; 0 where every point starts its own."""
    return 0.0 if _restarts(config) else _start_s(config)


def point_seconds(config: Mapping[str, Any]) -> float:
    """Seconds of a point: the load of each phase, the tool's own start, and that of a stack of its own."""
    pace, limit = config["launch"]["estimate"], config["bench"].get("timeout_s", LONGEST_S)
    each = [min(_load_seconds(load, pace["request_s"]), limit, LONGEST_S) for load in loads(config)]
    own_start_s = _start_s(config) if _restarts(config) else 0.0
    return float(min(own_start_s + sum(each) + len(each) * min(pace["phase_s"], LONGEST_S), LONGEST_S))


def _start_s(config: Mapping[str, Any]) -> float:
    return min(float(config["launch"]["estimate"]["start_s"]), LONGEST_S)


def _restarts(config: Mapping[str, Any]) -> bool:
    return bool(config.get("isolation") == "restart")


def loads(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Arguments of the load generator, per phase."""
    arguments = config.get((config.get("bench") or {}).get("name", "")) or {}
    return [{**arguments, **phase} for phase in config.get("phases") or [{}]]


def _load_seconds(load: Mapping[str, Any], request_s: float) -> float:
    """A duration, else requests at their rate, else rounds of as many requests as are kept in flight."""
    requests = (load.get("request_count") or 0) + (load.get("warmup_request_count") or 0)
    try:
        if load.get("benchmark_duration") is not None:
            return float(load["benchmark_duration"])
        if load.get("request_rate") is not None:
            return float(requests / load["request_rate"])
        return float(-(-requests // (load.get("concurrency") or 1)) * request_s)
    except OverflowError:
        return LONGEST_S


def over_budget(plan: Plan, most_measured: int | None = None) -> list[Problem]:
    """What is above the guards; where points differ in them, the lowest counts.

    `most_measured`: points of a search that it measures at most; null: all are measured.
    """
    distinct = len({point.digest for point in plan.points if point.valid})
    number = distinct if most_measured is None else most_measured
    of_all = f" of {distinct}" if number < distinct else ""
    needs = f"{number}{of_all} point{'s' if distinct != 1 else ''}, {words(plan.estimate)}"
    problems = []
    most, hours = _lowest(plan, "max_points"), _lowest(plan, "max_gpu_hours")
    if most is not None and number > most:
        reason = f"the command would measure more than that: {needs}"
        problems.append(
            error("budget", "max_points", int(most), reason, "choose fewer points, or raise max_points")
        )
    if hours is not None and plan.estimate.gpu_hours > hours:
        reason = f"the command would take more than that: {needs}"
        hint = "choose fewer points or shorter loads, raise max_gpu_hours, or mend launch.estimate"
        problems.append(error("budget", "max_gpu_hours", hours, reason, hint))
    return problems


def _lowest(plan: Plan, key: str) -> float | None:
    limits = [point.config.get(key) for point in plan.points if point.valid]
    return min((float(limit) for limit in limits if limit is not None), default=None)


def words(cost: Cost | Estimate) -> str:
    """A cost in words.

    >>> words(Cost(720, 3.2))
    'about 12 min, 3.2 GPU hours'
    """
    return (
        f"about {time_words(cost.seconds)}, {cost.gpu_hours:.{1 if cost.gpu_hours >= 0.1 else 3}f} GPU hours"
    )


def time_words(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> [time_words(seconds) for seconds in (50, 720, 20000, 1e6)]
    ['50 s', '12 min', '5.6 h', '11.6 days']
    """
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} days"
