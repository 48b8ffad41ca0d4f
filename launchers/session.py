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
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compiler.emit import lmcache_text
from compiler.errors import format_problem
from compiler.plan import Deployment, Phase, Point, Probe, Workload
from launchers.host import Host, preflight, versions
from launchers.probe import NotReady, until
from launchers.results.measure import ended, measure_phase
from launchers.results.result import PhaseResult, Result, Verdict, last_metrics, overall
from launchers.store import Attempt, Store
from launchers.supervise import Command, Died, Supervisor, Tell

Claim = Callable[[], AbstractContextManager[Host]]
"""Gives a machine for one start of a stack, and takes it back."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a session is about, and where it leaves things."""

    deployment: Deployment
    store: Store
    claim: Claim
    tell: Tell


@dataclass(slots=True)
class Stack:
    """One start of the deployment."""

    host: Host
    results_dir: Path
    """`{results_dir}` of its processes: logs, discovery files, caches."""
    supervisor: Supervisor
    durations_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What one start of the stack came to."""

    results: list[Result]
    reasons: tuple[str, ...] = ()
    """Why points are left; empty when none is."""
    was_ready: bool = False
    durations_s: dict[str, float] = field(default_factory=dict)
    """Stages of a stack that did not become ready."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What measuring one point came to."""

    phases: tuple[PhaseResult, ...]
    reasons: tuple[str, ...] = ()
    """Why it failed, beyond the verdicts of its phases."""


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
    results_dir = _new_run(job)
    with job.claim() as host:
        workloads = [point.workload for point in points if point.workload]
        if problems := preflight(job.deployment, workloads, host):
            return Outcome([], tuple(format_problem(problem) for problem in problems))
        async with Supervisor(job.tell) as supervisor:
            stack = Stack(host, results_dir, supervisor)
            job.tell("deployment_start", deployment=job.deployment.name, run=results_dir.name)
            outcome = await _serve(job, stack, points)
            started = time.monotonic()
            job.tell("deployment_stopping")
            await supervisor.stop()
    stop_s = time.monotonic() - started
    job.tell("deployment_stop", run=results_dir.name, duration_s=round(stop_s, 3))
    outcome.results = [_with_costs(job, result, stop_s, len(outcome.results)) for result in outcome.results]
    if not outcome.was_ready:
        outcome.durations_s = {**stack.durations_s, "stop": stop_s}
    for point, result in zip(points, outcome.results, strict=False):
        job.store.write_result(job.deployment, point, result)
    return outcome


async def _serve(job: Job, stack: Stack, points: Sequence[Point]) -> Outcome:
    try:
        await _become_ready(job, stack)
    except (Died, NotReady) as problem:
        reasons = ("the stack did not become ready", *_reasons(problem))
        job.tell("deployment_failed", reasons=reasons)
        return Outcome([], reasons)
    outcome = Outcome([], was_ready=True)
    for point in points:
        if stack.supervisor.died is None:
            outcome.results.append(await _point(job, stack, point))
        if stack.supervisor.died is not None:
            outcome.reasons = stack.supervisor.died.reasons
            job.tell("deployment_failed", reasons=outcome.reasons)
            break
    return outcome


async def _become_ready(job: Job, stack: Stack) -> None:
    """Starts every process, then sees the deployment's own probes in order, all before one deadline."""
    deployment, begun = job.deployment, time.monotonic()
    probes = {process.name: process.ready for process in deployment.processes}
    commands = [stack.host.command(process, stack.results_dir) for process in deployment.processes]
    _write_settings(job, stack, commands)

    def left_s() -> float:
        return begun + deployment.ready_timeout_s - time.monotonic()

    async def ready(command: Command) -> None:
        probe = probes[command.name]
        if probe is not None:
            await _seen(job, stack, command.name, probe, left_s())

    try:
        await stack.supervisor.start(commands, ready)
    finally:
        stack.durations_s["start"] = time.monotonic() - begun
    for probe in deployment.ready:
        await stack.supervisor.watch(_seen(job, stack, "deployment", probe, left_s()))
    stack.durations_s["ready"] = time.monotonic() - begun - stack.durations_s["start"]
    job.tell("deployment_ready", durations_s=_rounded(stack.durations_s))


async def _seen(job: Job, stack: Stack, name: str, probe: Probe, timeout_s: float) -> None:
    bound = stack.host.probe(probe, stack.results_dir)
    await until(bound, timeout_s, lambda what: job.tell("probe", of=name, kind=probe.kind, seen=what))


def _write_settings(job: Job, stack: Stack, commands: Sequence[Command]) -> None:
    for command in commands:
        command.workdir.mkdir(parents=True, exist_ok=True)
    if job.deployment.lmcache is not None:
        text = lmcache_text(job.deployment, stack.host.names(stack.results_dir))
        (stack.results_dir / "lmcache.yaml").write_text(text, encoding="utf-8")


async def _point(job: Job, stack: Stack, point: Point) -> Result:
    """One new attempt at a point, its result written."""
    attempt = job.store.new_attempt(job.deployment, point)
    attempt = replace(attempt, folder=attempt.folder.resolve())
    (attempt.folder / "deployment").symlink_to(os.path.relpath(stack.results_dir, attempt.folder))
    job.tell("point_start", point=point.name, attempt=attempt.number)
    started_at, begun = _now(), time.monotonic()
    measured = await _measured(job, stack, point, attempt)
    result = _result(
        job,
        point,
        attempt.number,
        measured,
        {**stack.durations_s, "phases": time.monotonic() - begun},
        started_at,
    )
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


async def _measured(job: Job, stack: Stack, point: Point, attempt: Attempt) -> Measured:
    workload = _workload(point)
    phases: list[PhaseResult] = []
    try:
        await _healthy(job, stack, workload)
        for index, phase in enumerate(workload.phases):
            phases.append(await _phase(job, stack, workload, phase, attempt))
            rest = workload.phases[index + 1 :]
            if not rest:
                break
            failed = await _between(job, stack, workload, phase, attempt)
            if (failed or not phases[-1].verdict.valid) and not workload.continue_on_failure:
                skipped = f"phases not run after that: {', '.join(phase.name for phase in rest)}"
                return Measured(tuple(phases), (*failed, skipped))
            if failed:
                phases[-1] = replace(phases[-1], verdict=phases[-1].verdict.also("failed", *failed))
    except (Died, NotReady) as problem:
        return Measured(tuple(phases), _reasons(problem))
    return Measured(tuple(phases))


async def _phase(job: Job, stack: Stack, workload: Workload, phase: Phase, attempt: Attempt) -> PhaseResult:
    command = stack.host.client(workload, phase, attempt.folder)
    (attempt.folder / phase.artifact_dir).mkdir(parents=True, exist_ok=True)
    job.tell("phase_start", phase=phase.name, requests=phase.requests, concurrency=phase.concurrency)
    exit_ = await stack.supervisor.run(command, phase.timeout_s)
    result = measure_phase(
        workload, phase, attempt.folder, exit_.code, exit_.duration_s, job.deployment.gpus, command.log
    )
    if exit_.code is None:
        late = f"{workload.tool} took longer than {phase.timeout_s:g} s and was killed"
        result = replace(result, verdict=Verdict("failed", (late,)).also("failed", *result.verdict.reasons))
    job.tell(
        "phase_end",
        phase=phase.name,
        verdict=result.verdict.status,
        code=exit_.code,
        duration_s=round(exit_.duration_s, 3),
    )
    return result


async def _between(
    job: Job, stack: Stack, workload: Workload, phase: Phase, attempt: Attempt
) -> tuple[str, ...]:
    """What is done after a phase that is not the last; gives why it failed, or nothing."""
    command = stack.host.between(workload, phase, attempt.folder)
    if command is not None:
        exit_ = await stack.supervisor.run(command, workload.between_timeout_s)
        if exit_.code != 0:
            late = f"{command.name} took longer than {workload.between_timeout_s:g} s and was killed"
            return (ended(command.name, exit_.code) if exit_.code is not None else late,)
    if workload.health_check:
        try:
            await _healthy(job, stack, workload)
        except NotReady as problem:
            return (str(problem),)
    return ()


async def _healthy(job: Job, stack: Stack, workload: Workload) -> None:
    """One completion. Raises Died or NotReady."""
    for probe in job.deployment.ready:
        if probe.kind == "completion":
            look = _seen(job, stack, "deployment", probe, workload.between_timeout_s)
            await stack.supervisor.watch(look)


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
    verdict = Verdict("failed", measured.reasons) if measured.reasons else overall(measured.phases)
    if measured.reasons and measured.phases:
        phases = overall(measured.phases)
        verdict = Verdict(verdict.status, phases.reasons).also("failed", *measured.reasons)
    reported = next((phase.tool_version for phase in measured.phases if phase.tool_version), None)
    result = Result(
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
    return _with_costs(job, result, 0.0, 1)


def _with_costs(job: Job, result: Result, stop_s: float, sharing: int) -> Result:
    """The result with what it cost: its own time, and its share of starting and stopping the stack."""
    stages = {**result.durations_s, **({"stop": stop_s} if stop_s else {})}
    own_s = stages.get("phases", 0.0)
    seconds = own_s + (sum(stages.values()) - own_s) / max(sharing, 1)
    return replace(
        result,
        durations_s=_rounded(stages),
        node_seconds=round(seconds * job.deployment.num_nodes, 3),
        gpu_seconds=round(seconds * job.deployment.gpus, 3),
    )


def _ran(deployment: Deployment) -> Mapping[str, Any]:
    return {
        "versions": versions(),
        "hosts": [socket.gethostname()],
        "gpus": {"kind": deployment.gpu, "count": deployment.gpus, "engine": deployment.engine},
        "images": sorted({process.image for process in deployment.processes if process.image}),
    }


def _new_run(job: Job) -> Path:
    """A fresh `runs/<n>` below the deployment's folder: nothing of an earlier start can be seen in it."""
    parent = job.store.deployment_dir(job.deployment).resolve() / "runs"
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    folder = parent / str(number)
    folder.mkdir()
    return folder


def _reasons(problem: Died | NotReady) -> tuple[str, ...]:
    return problem.reasons if isinstance(problem, Died) else (str(problem),)


def _workload(point: Point) -> Workload:
    if point.workload is None:
        raise ValueError(f"point {point.name!r} has problems and no workload")
    return point.workload


def _rounded(durations_s: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(seconds, 3) for stage, seconds in durations_s.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
