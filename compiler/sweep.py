"""Points -> groups that share a deployment, so that each distinct stack is started once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
