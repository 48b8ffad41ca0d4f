"""Points -> groups that share a deployment, so that each distinct stack is started once.

Points of a group are measured by rising load: what breaks under load breaks last, and the warm caches that a heavy
point leaves do not flatter a light one. A group that would take too long is split.

Also what is only seen with all points at hand: a point asked for twice, and caches that one point warms for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.errors import NOTHING, Problem, warning
from compiler.estimate import loads, point_seconds, start_seconds, time_words
from compiler.model import OWN_SEED
from compiler.plan import Deployment, Plan, Point


@dataclass(frozen=True, slots=True)
class Group:
    """A deployment and the points that are measured on it, in this order."""

    deployment: Deployment
    points: tuple[Point, ...]


def group(plan: Plan, points: Iterable[Point]) -> list[Group]:
    """Groups of `points` (of `plan`, without errors), deployments in order of first use, each point once.

    Within a group the load rises: by request rate, then concurrency, then requests, of the heaviest phase; what is
    null counts as 0, and points of equal load stay in the order they were asked for.
    """
    by_deployment: dict[str, dict[str, Point]] = {}
    for point in points:
        if point.deployment is not None and point.digest is not None:
            by_deployment.setdefault(point.deployment, {}).setdefault(point.digest, point)
    return [
        Group(plan.deployment(digest), tuple(sorted(held.values(), key=_load)))
        for digest, held in by_deployment.items()
    ]


def _load(point: Point) -> tuple[float, ...]:
    keys = ("request_rate", "concurrency", "request_count")
    return max(tuple(load.get(key) or 0 for key in keys) for load in loads(point.config))


def split(group: Group, limit_s: float) -> tuple[list[Group], list[Problem]]:
    """The group as groups, in its order, that each take at most `limit_s` seconds by estimate, start included.

    A point that alone takes longer is a group of its own, and a warning.
    """
    if not group.points:
        return [group], []
    start_s = start_seconds(group.points[0].config)
    parts: list[list[Point]] = [[]]
    problems: list[Problem] = []
    taken_s = start_s
    for point in group.points:
        seconds = point_seconds(point.config)
        if parts[-1] and taken_s + seconds > limit_s:
            parts.append([])
            taken_s = start_s
        parts[-1].append(point)
        taken_s += seconds
        if start_s + seconds > limit_s:
            problems.append(_too_long(point, start_s + seconds, limit_s))
    return [Group(group.deployment, tuple(part)) for part in parts], problems


def _too_long(point: Point, seconds: float, limit_s: float) -> Problem:
    reason = f"{point.name} would take about {time_words(seconds)}, the limit is {time_words(limit_s)}"
    return warning(
        "budget", "", NOTHING, reason, "raise the time limit, ask for less load, or mend launch.estimate"
    )


def across(points: Sequence[Point]) -> list[tuple[Problem, ...]]:
    """Per point, the warnings that come from the points before it."""
    seen: set[str] = set()
    loads: dict[tuple[str, Any], str] = {}
    return [tuple(_warnings(point, seen, loads)) for point in points]


def _warnings(point: Point, seen: set[str], loads: dict[tuple[str, Any], str]) -> Iterator[Problem]:
    if point.digest is None or point.deployment is None or point.workload is None:
        return
    if point.digest in seen:
        reason = "this point is asked for twice; it is measured once"
        yield warning("duplicate-point", "", NOTHING, reason, "trial=1,2,3 measures repeats").at(
            "the command"
        )
        return
    seen.add(point.digest)
    tool, seed = point.workload.tool, _seed(point.config, point.workload.tool)
    if seed in (None, OWN_SEED) or _caching_off(point.config) or point.config.get("isolation") == "restart":
        return
    first = loads.setdefault((point.deployment, seed), point.digest)
    if first != point.digest and not _resets(point.config):
        reason = (
            "points on one stack ask with the same seed, and its prefix cache cannot be reset, "
            "so the first warms it for the others"
        )
        hint = f"give each a seed of its own with {tool}.random_seed=auto, or use isolation=restart"
        yield warning("warm-cache", f"{tool}.random_seed", seed, reason, hint)
    if len(point.workload.phases) > 1 and not _phases_seeded(point.config):
        reason = "phases ask with the same seed, so the first warms the prefix cache for the others"
        yield warning("warm-cache", "phases", NOTHING, reason, "give each phase a random_seed of its own")


def _resets(config: Mapping[str, Any]) -> bool:
    """Whether caches can be emptied between points (`Config.reset`)."""
    cluster = config["system"].get("kubernetes")
    if cluster is not None and (cluster["mode"] == "operator" or config["dynamo"]["discovery"] != "etcd"):
        return False
    return bool(config["backend"]["engines"][config["engine"]].get("reset"))


def _phases_seeded(config: Mapping[str, Any]) -> bool:
    """Every phase has a seed, and no two the same."""
    seeds = [phase.get("random_seed") for phase in config.get("phases") or []]
    return None not in seeds and len(set(map(str, seeds))) == len(seeds)


def _seed(config: Mapping[str, Any], tool: str) -> Any:
    arguments = config.get(tool)
    return arguments.get("random_seed") if isinstance(arguments, Mapping) else None


def _caching_off(config: Mapping[str, Any]) -> bool:
    """Every engine names it differently; any role that says so counts."""
    off = ("no_enable_prefix_caching", "disable_radix_cache")
    roles = [config.get(role) or {} for role in ("prefill", "decode", "aggregated")]
    return any((role.get("args") or {}).get(flag) for role in roles for flag in off)
