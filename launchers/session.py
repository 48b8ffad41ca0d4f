"""One deployment and its points: start, ready, measure, record, stop.

Takes a deployment, the points that are measured on it, the store, and a machine; gives a result for every point.
Never does: choosing what runs (the plan says it); believing a load generator's exit code; writing a result for a
point that was interrupted.

In a sweep, a point whose stack died or turned unhealthy is measured again, once, on a fresh stack, and the points
after it go on there; a stack is restarted at most `max_restarts` times. A stack that never becomes ready fails every
point that is left.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from compiler.errors import format_problem
from compiler.plan import Deployment, Point, Workload
from launchers import attempt as attempts
from launchers import hooks
from launchers.attempt import Measured
from launchers.caches import Caches, before
from launchers.host import Host, resolved_revision, versions
from launchers.preflight import preflight
from launchers.probe import NotReady
from launchers.results.result import VALID, Result, last_metrics, overall
from launchers.search import Choose
from launchers.stack import Claim, Job, Stack, become_ready, log_gpus, new_run, reasons_of, rounded
from launchers.store import Store
from launchers.supervise import Died, Tell

MOST_HITS = 2
"""Stacks that one point may take with it."""


class Agenda:
    """The points of a session: which is next, and what came of those before."""

    def __init__(self, points: Sequence[Point], choose: Choose | None) -> None:
        self.size = len(points)
        self.results: list[Result] = []
        self.current: Point | None = None
        """The point to measure now; null: none is left."""
        self.hits: tuple[str, ...] = ()
        """Why the attempts before at the current point do not count."""
        self._waiting = list(points)
        self._choose = choose
        self._go_on()

    def done(self, result: Result) -> None:
        """The current point has come to this."""
        self.results.append(result)
        self.hits = ()
        self._go_on()

    @property
    def may_try_again(self) -> bool:
        """False for a current point that has taken enough stacks with it."""
        return len(self.hits) + 1 < MOST_HITS

    def hit(self, result: Result) -> None:
        """The current point lost its stack and is measured again."""
        reason = result.verdict.reasons[0].splitlines()[0] if result.verdict.reasons else "it failed"
        self.hits = (*self.hits, f"measured again: attempt {result.attempt} failed: {reason}")

    def replace(self, known: Result, better: Result) -> None:
        """The same result, told more of."""
        self.results = [better if result is known else result for result in self.results]

    @property
    def left(self) -> list[Point]:
        """Points that nothing came of yet."""
        if self._choose is not None:
            return [self.current] if self.current is not None else []
        return [*([self.current] if self.current is not None else []), *self._waiting]

    def _go_on(self) -> None:
        if self._choose is not None:
            self.current = self._choose(self.results)
        else:
            self.current = self._waiting.pop(0) if self._waiting else None


@dataclass(slots=True)
class Outcome:
    """What one start of the stack came to."""

    measured: list[tuple[Point, Result, bool]] = field(default_factory=list)
    """Attempts in order, those that lost the stack included, and whether that is what came of the point."""
    reasons: tuple[str, ...] = ()
    """Why points are left; empty when none is."""
    was_ready: bool = False
    durations_s: dict[str, float] = field(default_factory=dict)
    """Stages of a stack on which nothing was measured."""


async def realise(
    deployment: Deployment,
    points: Sequence[Point],
    store: Store,
    claim: Claim,
    tell: Tell,
    choose: Choose | None = None,
) -> list[Result]:
    """A result for each point, in order; each is in the store as soon as it is known.

    With `choose`, which of the points are measured depends on the results; it is asked before each. When cancelled,
    everything is stopped first, and the point that was being measured has no result. Raises StoreError, and
    `supervise.Left` when the kernel does not let a process go.
    """
    job, agenda = Job(deployment, store, claim, tell), Agenda(points, choose)
    # Who asks for one point is told at once what killed its stack.
    restarts = deployment.max_restarts if agenda.size > 1 else 0
    if choose is not None:
        # A load that no stack stands up to is an answer, after which a search goes on.
        restarts = MOST_HITS * agenda.size
    lost = 0
    while agenda.current is not None:
        outcome = await _one_start(job, agenda, lost < restarts)
        lost += bool(outcome.reasons)
        if outcome.reasons and agenda.current is not None:
            if not outcome.was_ready or lost > restarts:
                _give_up(job, agenda, outcome, lost)
                break
            tell("deployment_restart", deployment=deployment.name, restart=lost, most=restarts)
    return agenda.results


def fail(
    deployment: Deployment, points: Sequence[Point], store: Store, tell: Tell, reasons: tuple[str, ...]
) -> list[Result]:
    """Writes the failed result of points whose session ended without a word, for the given reasons."""
    job = Job(deployment, store, _nothing, tell)
    return [_unmeasured(job, point, reasons, {}, len(points)) for point in points]


def _nothing() -> AbstractContextManager[Host]:
    raise RuntimeError("nothing is started")


def _give_up(job: Job, agenda: Agenda, outcome: Outcome, lost: int) -> None:
    """Every point that is left fails, for the reasons that ended the stack."""
    reasons, left = outcome.reasons, agenda.left
    if outcome.was_ready:
        # Said again by every point that could not be measured any more.
        reasons = (f"not measured: the stack was lost {'once' if lost == 1 else f'{lost} times'}", *reasons)
    for point in left:
        agenda.results.append(_unmeasured(job, point, reasons, outcome.durations_s, len(left)))


async def _one_start(job: Job, agenda: Agenda, again: bool) -> Outcome:
    """Starts the stack once and measures points until it is lost or all are measured.

    `again`: a point that loses its stack stays on the agenda.
    """
    results_dir, outcome = new_run(job), Outcome()
    with job.claim() as host:
        workloads = [point.workload for point in agenda.left if point.workload]
        if problems := preflight(job.deployment, workloads, host):
            outcome.reasons = tuple(format_problem(problem) for problem in problems)
            return outcome
        async with host.supervisor(job.tell) as supervisor:
            stack = Stack(host, results_dir, supervisor)
            job.tell("deployment_start", deployment=job.deployment.name, run=results_dir.name)
            was_served = False
            try:
                was_served = await _serve(job, stack, agenda, outcome, again)
            finally:
                # Also when cancelled: points that are finished keep what they cost.
                await _stopped(job, stack, agenda, outcome, was_served)
    return outcome


async def _stopped(job: Job, stack: Stack, agenda: Agenda, outcome: Outcome, was_served: bool) -> None:
    """Stops the stack, then writes the results once more, each with its share of what starting and stopping took.

    `was_served`: the processes were started, and nobody told the session to stop, so `post_test` is due.
    """
    started = time.monotonic()
    job.tell("deployment_stopping")
    wrong: tuple[str, ...] | None = None
    stop_s = 0.0
    try:
        await stack.supervisor.stop()
        stop_s = time.monotonic() - started
        if was_served:
            wrong = await hooks.after(job, stack)
    finally:
        stop_s = stop_s or time.monotonic() - started
        job.tell("deployment_stop", run=stack.results_dir.name, duration_s=round(stop_s, 3))
        sharing = len(outcome.measured)
        if not outcome.measured:
            outcome.durations_s = {**stack.durations_s, "stop": stop_s}
        for point, result, final in outcome.measured:
            costly = _with_costs(job, result, stop_s, sharing)
            if wrong:
                costly = replace(costly, verdict=costly.verdict.also("invalid", *wrong))
            elif wrong is None and hooks.has_post_test(job):
                costly = replace(costly, notes=(*costly.notes, "post_test was not run to its end"))
            agenda.replace(result, costly)
            job.store.write_result(job.deployment, point, costly, final)


async def _serve(job: Job, stack: Stack, agenda: Agenda, outcome: Outcome, again: bool) -> bool:
    """Measures points until none is left, the stack is lost, or the next one wants a stack of its own.

    False where a hook kept the stack from being started.
    """
    if await _kept_from_starting(job, stack, outcome):
        return False
    try:
        await become_ready(job, stack)
    except (Died, NotReady) as problem:
        outcome.reasons = ("the stack did not become ready", *reasons_of(problem))
        job.tell("deployment_failed", reasons=outcome.reasons)
        return True
    outcome.was_ready = True
    await log_gpus(job, stack)
    while (point := agenda.current) is not None:
        alone = _workload(point).isolation == "restart"
        if alone and outcome.measured:
            return True
        if stack.supervisor.died is not None:
            outcome.reasons = stack.supervisor.died.reasons
        else:
            outcome.reasons = await _next(job, stack, agenda, point, outcome, again)
        if outcome.reasons:
            job.tell("deployment_failed", reasons=outcome.reasons)
        if outcome.reasons or alone:
            return True
    return True


async def _kept_from_starting(job: Job, stack: Stack, outcome: Outcome) -> bool:
    """Runs what comes before the processes; true where it failed."""
    if not job.deployment.hooks:
        return False
    begun = time.monotonic()
    try:
        wrong = await hooks.before(job, stack)
    finally:
        stack.durations_s["setup"] = time.monotonic() - begun
    if wrong:
        outcome.reasons = ("the stack was not started", *wrong)
        job.tell("deployment_failed", reasons=outcome.reasons)
    return bool(wrong)


async def _next(
    job: Job, stack: Stack, agenda: Agenda, point: Point, outcome: Outcome, again: bool
) -> tuple[str, ...]:
    """Measures the current point; gives why the stack is lost, or nothing."""
    caches = await before(job, stack, point, [other for other, _, _ in outcome.measured])
    if caches.lost:
        return caches.lost
    result, lost = await _point(job, stack, agenda, point, caches)
    final = not (lost and again and agenda.may_try_again)
    job.store.write_result(job.deployment, point, _so_far(job, result), final)
    outcome.measured.append((point, result, final))
    if final:
        agenda.done(result)
    else:
        agenda.hit(result)
    return lost


def _so_far(job: Job, result: Result) -> Result:
    """What is stored of a result while the stack is up: with a `post_test` to come nothing is valid."""
    if not hooks.has_post_test(job):
        return result
    return replace(
        result, verdict=result.verdict.also("failed", "servix was killed before post_test was run")
    )


async def _point(
    job: Job, stack: Stack, agenda: Agenda, point: Point, caches: Caches
) -> tuple[Result, tuple[str, ...]]:
    """The result of one new attempt at a point; and why the stack is lost, or nothing."""
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
        {**stack.durations_s, **caches.durations_s, "phases": time.monotonic() - begun},
        started_at,
    )
    result = replace(
        result,
        notes=(*agenda.hits, *caches.notes),
        ran={**result.ran, **stack.host.ran, "caches": caches.state},
    )
    result = _with_costs(job, result, 0.0, agenda.size)
    job.tell(
        "measurement",
        point=point.name,
        attempt=attempt.number,
        verdict=result.verdict.status,
        reasons=result.verdict.reasons,
        duration_s=round(time.monotonic() - begun, 3),
    )
    return result, measured.lost


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


def _with_costs(job: Job, result: Result, stop_s: float, sharing: int) -> Result:
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


def _workload(point: Point) -> Workload:
    if point.workload is None:
        raise ValueError(f"point {point.name!r} has problems and no workload")
    return point.workload


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
