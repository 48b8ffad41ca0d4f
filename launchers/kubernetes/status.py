"""How far deployments are in a cluster, for who asks without running anything: found by their labels.

Takes a plan; tells `deployed` what the cluster has of it. Never does: changing anything, in the cluster or the store.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from compiler.digest import short
from compiler.errors import format_problem
from compiler.manifests import settings_of
from compiler.manifests.names import POINTS
from compiler.plan import Deployment, Plan
from launchers import deployed
from launchers.kubernetes.api import Cluster, Object
from launchers.kubernetes.context import context_of
from launchers.kubernetes.served import Served, is_over
from launchers.refusal import Trouble, Unfit

SILENCE_S = 5.0


def ask(plan: Plan) -> None:
    """Asks about every deployment of the plan; a cluster that cannot be asked is a warning, and notes count."""
    config = next((point.config for point in plan.points if point.config and point.deployment), None)
    if config is None:
        return
    try:
        context = context_of(config["system"])
        asyncio.run(_ask(plan, config, context))
    except Unfit as unfit:
        for problem in unfit.problems:
            print(f"warning: the cluster is not asked: {format_problem(problem)}", file=sys.stderr)
    except Trouble as trouble:
        print(f"warning: the cluster is not asked: {trouble}", file=sys.stderr)


async def _ask(plan: Plan, config: Mapping[str, Any], context: Any) -> None:
    settings = settings_of(config)
    async with Cluster(context.connect, lambda _: None, silence_s=SILENCE_S) as cluster:
        for deployment in plan.deployments:
            served = Served(cluster, deployment, settings)
            deployed.saw(deployment.digest, await _holder(served, plan, deployment))


async def _holder(served: Served, plan: Plan, deployment: Deployment) -> Mapping[str, Any] | None:
    """What works on the deployment; null where nothing does."""
    look = await served.look(None)
    if look.owner is None or look.going:
        return None
    running = [job for job in await served.jobs() if not is_over(job)]
    wanted = [str(point.digest) for point in plan.points if point.deployment == deployment.digest]
    listed = {short for job in running for short in _points(job)}
    points = [digest for digest in wanted if short(digest) in listed]
    doing = ", ".join(f"Job {job['metadata']['name']}" for job in running) or "no Job"
    return deployed.note(
        served.cluster.namespace,
        served.name,
        _since(look.owner),
        points if running else [],
        f"{look.progress.what}; {doing}",
    )


def _points(job: Object) -> list[str]:
    text = (job["metadata"].get("annotations") or {}).get(POINTS) or ""
    return [part for part in text.split(",") if part]


def _since(owner: Object) -> float:
    try:
        text = str(owner["metadata"]["creationTimestamp"]).replace("Z", "+00:00")
        return datetime.fromisoformat(text).timestamp()
    except (KeyError, ValueError):
        return 0.0
