"""One deployment and its points: start, ready, measure, record, stop.

Takes a deployment, the points that are measured on it, the store, and a machine; gives a result for every point.
Never does: choosing what runs (the plan says it); believing a load generator's exit code; writing a result for a
point that was interrupted.

A point whose stack died is failed, with the culprit named; the points after it are measured on a fresh stack, of
which there are at most `max_restarts`. A stack that never becomes ready fails every point that is left.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from compiler.errors import format_problem
from compiler.plan import Deployment, Point, Workload
from launchers import attempt as attempts
from launchers.attempt import Measured, reasons_of
from launchers.host import preflight, resolved_revision, versions
from launchers.probe import NotReady
from launchers.results.result import VALID, Result, last_metrics, overall
from launchers.stack import Claim, Job, Stack, become_ready, new_run, rounded
from launchers.store import Store
from launchers.supervise import Died, Supervisor, Tell


@dataclass(slots=True)
class Outcome:
    """What one start of the stack came to."""

    results: list[Result]
    reasons: tuple[str, ...] = ()
    """Why points are left; empty when none is."""
    was_ready: bool = False
    durations_s: dict[str, float] = field(default_factory=dict)
    """Stages of a stack on which nothing was measured."""


async def realise(
    deployment: Deployment, points: Sequence[Point], store: Store, claim: Claim, tell: Tell
) -> list[Result]:
    """A result for each point, in order; each is in the store as soon as it is known.

    When cancelled, everything is stopped first, and the point that was being measured has no result. Raises
    StoreError, and `supervise.Left` when the kernel does not let a process go.
    """
    job, waiting, results = Job(deployment, store, claim, tell), list(points), list[Result]()
    reasons: tuple[str, ...] = ()
    for _ in range(1 + deployment.max_restarts):
        outcome = await _one_start(job, waiting)
        results += outcome.results
        waiting, reasons = waiting[len(outcome.results) :], outcome.reasons
        if not waiting or not outcome.was_ready:
            break
        # Said again by every point that could not be measured any more.
        reasons = (f"not measured: the stack died {1 + deployment.max_restarts} times", *reasons)
    return results + [
        _unmeasured(job, point, reasons, outcome.durations_s, len(waiting)) for point in waiting
    ]


async def _one_start(job: Job, points: Sequence[Point]) -> Outcome:
    """Starts the stack once and measures points until it dies or all are measured."""
    results_dir, outcome = new_run(job), Outcome([])
    with job.claim() as host:
        workloads = [point.workload for point in points if point.workload]
        if problems := preflight(job.deployment, workloads, host):
            return Outcome([], tuple(format_problem(problem) for problem in problems))
        async with Supervisor(job.tell, host.tmp_dir) as supervisor:
            stack = Stack(host, results_dir, supervisor)
            job.tell("deployment_start", deployment=job.deployment.name, run=results_dir.name)
            try:
                await _serve(job, stack, points, outcome)
            finally:
                # Also when cancelled: points that are finished keep what they cost.
                await _stopped(job, stack, points, outcome)
    return outcome


async def _stopped(job: Job, stack: Stack, points: Sequence[Point], outcome: Outcome) -> None:
    """Stops the stack, then writes the results once more, each with its share of what starting and stopping took."""
    started = time.monotonic()
    job.tell("deployment_stopping")
    try:
        await stack.supervisor.stop()
    finally:
        stop_s = time.monotonic() - started
        job.tell("deployment_stop", run=stack.results_dir.name, duration_s=round(stop_s, 3))
        sharing = len(outcome.results)
        outcome.results = [_with_costs(job, result, stop_s, sharing) for result in outcome.results]
        if not outcome.results:
            outcome.durations_s = {**stack.durations_s, "stop": stop_s}
        for point, result in zip(points, outcome.results, strict=False):
            job.store.write_result(job.deployment, point, result)


async def _serve(job: Job, stack: Stack, points: Sequence[Point], outcome: Outcome) -> None:
    try:
        await become_ready(job, stack)
    except (Died, NotReady) as problem:
        outcome.reasons = ("the stack did not become ready", *reasons_of(problem))
        job.tell("deployment_failed", reasons=outcome.reasons)
        return
    outcome.was_ready = True
    for point in points:
        if stack.supervisor.died is None:
            outcome.results.append(await _point(job, stack, point, len(points)))
        if stack.supervisor.died is not None:
            outcome.reasons = stack.supervisor.died.reasons
            job.tell("deployment_failed", reasons=outcome.reasons)
            break


async def _point(job: Job, stack: Stack, point: Point, sharing: int) -> Result:
    """One new attempt at a point, its result written: until the stack has stopped, as one of `sharing` points."""
    attempt = job.store.new_attempt(job.deployment, point)
    attempt = replace(attempt, folder=attempt.folder.resolve())
    (attempt.folder / "deployment").symlink_to(os.path.relpath(stack.results_dir, attempt.folder))
    job.tell("point_start", point=point.name, attempt=attempt.number)
    started_at, begun = _now(), time.monotonic()
    measured = await attempts.measured(job, stack, _workload(point), attempt)
    result = _result(
        job,
        point,
        attempt.number,
        measured,
        {**stack.durations_s, "phases": time.monotonic() - begun},
        started_at,
    )
    result = _with_costs(job, result, 0.0, sharing)
    job.store.write_result(job.deployment, point, result)
    job.tell(
        "measurement",
        point=point.name,
        attempt=attempt.number,
        verdict=result.verdict.status,
        reasons=result.verdict.reasons,
        duration_s=round(time.monotonic() - begun, 3),
    )
    return result


def _unmeasured(
    job: Job, point: Point, reasons: tuple[str, ...], durations_s: Mapping[str, float], sharing: int
) -> Result:
    """The failed result of a point that no stack was there for, with its share of what was tried."""
    attempt = job.store.new_attempt(job.deployment, point)
    result = _result(job, point, attempt.number, Measured((), reasons), durations_s, _now())
    result = _with_costs(job, result, 0.0, sharing)
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
    workload, deployment = _workload(point), job.deployment
    verdict = overall(measured.phases)
    if measured.reasons:
        known = verdict if measured.phases else VALID
        verdict = known.also(measured.status, *measured.reasons)
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
        metrics=last_metrics(measured.phases),
        phases=measured.phases,
        durations_s=durations_s,
        node_seconds=0.0,
        gpu_seconds=0.0,
        ran=_ran(deployment),
        started_at=started_at,
        finished_at=_now(),
        config=point.config,
    )


def _with_costs(job: Job, result: Result, stop_s: float, sharing: int) -> Result:
    """The result with what it cost: its own time, and its share of starting and stopping the stack."""
    stages = {**result.durations_s, **({"stop": stop_s} if stop_s else {})}
    own_s = stages.get("phases", 0.0)
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


def _workload(point: Point) -> Workload:
    if point.workload is None:
        raise ValueError(f"point {point.name!r} has problems and no workload")
    return point.workload


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
