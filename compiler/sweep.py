"""Points -> groups that share a deployment, so that each distinct stack is started once.

Also what is only seen with all points at hand: a point asked for twice, and caches that one point warms for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.errors import Problem, warning
from compiler.plan import Deployment, Plan, Point


@dataclass(frozen=True, slots=True)
class Group:
    """A deployment and the points that are measured on it, in the order they were asked for."""

    deployment: Deployment
    points: tuple[Point, ...]


def group(plan: Plan, points: Iterable[Point]) -> list[Group]:
    """Groups of `points` (of `plan`, without errors), deployments in order of first use, each point once."""
    by_deployment: dict[str, dict[str, Point]] = {}
    for point in points:
        if point.deployment is not None and point.digest is not None:
            by_deployment.setdefault(point.deployment, {}).setdefault(point.digest, point)
    return [Group(plan.deployment(digest), tuple(held.values())) for digest, held in by_deployment.items()]


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
        yield warning("duplicate-point", "", None, reason, "trial=1,2,3 measures repeats")
        return
    seen.add(point.digest)
    tool = point.workload.tool
    seed = _seed(point.config, tool)
    first = loads.setdefault((point.deployment, seed), point.digest)
    if first != point.digest and seed is not None and not _caching_off(point.config):
        reason = (
            "points on one stack ask with the same seed, so the first warms the prefix cache for the others"
        )
        own = f"{tool}.random_seed='${{{tool}.concurrency}}'"
        hint = f"give each a seed of its own, e.g. {own}, or turn the cache off in args"
        yield warning("warm-cache", f"{tool}.random_seed", seed, reason, hint)


def _seed(config: Mapping[str, Any], tool: str) -> Any:
    arguments = config.get(tool)
    return arguments.get("random_seed") if isinstance(arguments, Mapping) else None


def _caching_off(config: Mapping[str, Any]) -> bool:
    """Every engine names it differently; any role that says so counts."""
    off = ("no_enable_prefix_caching", "disable_radix_cache")
    roles = [config.get(role) or {} for role in ("prefill", "decode", "aggregated")]
    return any((role.get("args") or {}).get(flag) for role in roles for flag in off)
