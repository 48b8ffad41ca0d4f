"""One point on a live stack: a new attempt, and the result that is made of it.

Taken from: `session`. Gives: a result with what it cost; `unmeasured` that of a point for which there was no stack.
Never does: deciding whether a point is measured again; writing a result that may still change.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compiler.plan import Deployment, Point, Workload
from launchers import attempt as attempts
from launchers.attempt import Measured
from launchers.caches import Caches
from launchers.host import resolved_revision, versions
from launchers.results.aiperf import unscraped
from launchers.results.result import VALID, Result, last_metrics, overall
from launchers.stack import Job, Stack, rounded


async def measured(
    job: Job, stack: Stack, point: Point, caches: Caches, hits: Sequence[str], sharing: int
) -> tuple[Result, tuple[str, ...]]:
    """The result of one new attempt at a point; and why the stack is lost, or nothing.

    `hits`: why attempts before do not count; `sharing`: points that share the start of the stack.
    """
    attempt = job.store.new_attempt(job.deployment, point)
    attempt = replace(attempt, folder=attempt.folder.resolve())
    (attempt.folder / "deployment").symlink_to(os.path.relpath(stack.results_dir, attempt.folder))
    job.tell("point_start", point=point.name, attempt=attempt.number)
    started_at, begun = _now(), time.monotonic()
    done = await attempts.measured(job, stack, workload_of(point), attempt)
    result = _result(
        job,
        point,
        attempt.number,
        done,
        {**stack.durations_s, **caches.durations_s, "phases": time.monotonic() - begun},
        started_at,
    )
    result = replace(
        result,
        notes=(*hits, *caches.notes, *_telemetry(point, done, attempt.folder)),
        ran={**result.ran, **stack.host.ran, "caches": caches.state},
    )
    result = with_costs(job, result, 0.0, sharing)
    job.tell(
        "measurement",
        point=point.name,
        attempt=attempt.number,
        verdict=result.verdict.status,
        reasons=result.verdict.reasons,
        duration_s=round(time.monotonic() - begun, 3),
    )
    return result, done.lost


def _telemetry(point: Point, done: Measured, folder: Path) -> tuple[str, ...]:
    """What is missing beside the numbers; none of that makes them wrong."""
    if workload_of(point).tool != "aiperf":
        return ()
    found = [url for phase in done.phases for url in unscraped(folder / phase.artifact_dir)]
    return (f"AIPerf could not scrape {', '.join(dict.fromkeys(found))}",) if found else ()


def unmeasured(
    job: Job, point: Point, reasons: tuple[str, ...], durations_s: Mapping[str, float], sharing: int
) -> Result:
    """The failed result of a point that no stack was there for, with its share of what was tried."""
    attempt = job.store.new_attempt(job.deployment, point)
    result = _result(job, point, attempt.number, Measured((), reasons), durations_s, _now())
    result = with_costs(job, result, 0.0, sharing)
    job.store.write_result(job.deployment, point, result)
    job.tell("measurement", point=point.name, attempt=attempt.number, verdict="failed", reasons=reasons)
    return result


def _result(
    job: Job,
    point: Point,
    attempt: int,
    measured: Measured,
    durations_s: Mapping[str, float],
    started_at: str,
) -> Result:
    workload, deployment = workload_of(point), job.deployment
    verdict = overall(measured.phases)
    if measured.reasons:
        known = verdict if measured.phases else VALID
        verdict = known.also(measured.status, *measured.reasons)
    accuracy = measured.accuracy
    if accuracy is not None:
        verdict = verdict.also(accuracy.verdict.status, *accuracy.reasons)
    reported = next((phase.tool_version for phase in measured.phases if phase.tool_version), None)
    return Result(
        point_digest=str(point.digest),
        deployment_digest=deployment.digest,
        point_name=point.name,
        deployment_name=deployment.name,
        overrides=point.overrides,
        trial=workload.trial,
        attempt=attempt,
        tool=workload.tool,
        tool_version=reported or workload.version,
        verdict=verdict,
        metrics={**last_metrics(measured.phases), **(accuracy.metrics if accuracy is not None else {})},
        phases=measured.phases,
        durations_s=durations_s,
        node_seconds=0.0,
        gpu_seconds=0.0,
        ran=_ran(deployment),
        started_at=started_at,
        finished_at=_now(),
        config=point.config,
        accuracy=accuracy,
    )


def with_costs(job: Job, result: Result, stop_s: float, sharing: int) -> Result:
    """The result with what it cost: its own time, and its share of starting and stopping the stack."""
    stages = {**result.durations_s, **({"stop": stop_s} if stop_s else {})}
    own_s = stages.get("reset", 0.0) + stages.get("phases", 0.0)
    seconds = own_s + (sum(stages.values()) - own_s) / max(sharing, 1)
    return replace(
        result,
        durations_s=rounded(stages),
        node_seconds=round(seconds * job.deployment.num_nodes, 3),
        gpu_seconds=round(seconds * job.deployment.gpus, 3),
    )


def _ran(deployment: Deployment) -> Mapping[str, Any]:
    return {
        "versions": versions(),
        "hosts": [socket.gethostname()],
        "gpus": {"kind": deployment.gpu, "count": deployment.gpus, "engine": deployment.engine},
        "model": {
            "id": deployment.model,
            "revision": resolved_revision(deployment, os.environ),
        },
        "images": sorted({process.image for process in deployment.processes if process.image}),
    }


def workload_of(point: Point) -> Workload:
    if point.workload is None:
        raise ValueError(f"point {point.name!r} has problems and no workload")
    return point.workload


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
