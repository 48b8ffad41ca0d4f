"""One attempt at a point on a live stack: its phases in order, and what is done between them.

Taken from: `session`. Gives: the phases that were measured, and why others were not.
Never does: believing the load generator's exit code; writing results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.plan import Phase, Workload
from launchers import accuracy, services
from launchers.exits import ended
from launchers.probe import NotReady
from launchers.results.measure import measure_phase
from launchers.results.result import AccuracyResult, PhaseResult, Verdict, VerdictStatus, overall
from launchers.stack import Job, Stack, reasons_of, seen
from launchers.store import Attempt
from launchers.supervise import Died, Exit


@dataclass(frozen=True, slots=True)
class Measured:
    """What measuring one point came to."""

    phases: tuple[PhaseResult, ...]
    reasons: tuple[str, ...] = ()
    """What is wrong beyond the verdicts of its phases."""
    status: VerdictStatus = "failed"
    """How bad that is."""
    lost: tuple[str, ...] = ()
    """Why nothing more can be measured on this stack; empty when it is fine."""
    accuracy: AccuracyResult | None = None
    """Null: there is no accuracy run, or it was not started."""


async def measured(job: Job, stack: Stack, workload: Workload, attempt: Attempt) -> Measured:
    """What came of the workload: its phases, then its accuracy run. A server that dies, or does not answer, ends it."""
    done = await _rounds(job, stack, workload, attempt)
    if workload.accuracy is None:
        return done
    known = overall(done.phases)
    if done.reasons or done.lost or not (known.valid or workload.continue_on_failure):
        reasons = (*done.reasons, "the accuracy run was not started after that")
        return replace(done, reasons=reasons, status=done.status if done.reasons else known.status)
    healthy = _healthy(job, stack, workload) if workload.health_check else None
    result, problem = await accuracy.run(job, stack, workload, workload.accuracy, attempt, healthy)
    return replace(done, accuracy=result, lost=_lost(stack, problem) if problem is not None else ())


async def _rounds(job: Job, stack: Stack, workload: Workload, attempt: Attempt) -> Measured:
    """What came of the phases."""
    phases: list[PhaseResult] = []
    try:
        await _healthy(job, stack, workload)
        for index, phase in enumerate(workload.phases):
            await _phase(job, stack, workload, phase, attempt, phases)
            rest = workload.phases[index + 1 :]
            if not rest:
                break
            failed = await _between(job, stack, workload, phase, attempt)
            if (failed or not phases[-1].verdict.valid) and not workload.continue_on_failure:
                status: VerdictStatus = "failed" if failed else phases[-1].verdict.status
                return Measured(tuple(phases), (*failed, _not_run(rest)), status)
            if failed:
                phases[-1] = replace(phases[-1], verdict=phases[-1].verdict.also("failed", *failed))
    except (Died, NotReady) as problem:
        told = {reason for phase in phases for reason in phase.verdict.reasons}
        reasons = [reason for reason in reasons_of(problem) if reason not in told]
        if phases and (rest := workload.phases[len(phases) :]):
            reasons.append(_not_run(rest))
        return Measured(tuple(phases), tuple(reasons), lost=_lost(stack, problem))
    return Measured(tuple(phases))


def _lost(stack: Stack, problem: Died | NotReady) -> tuple[str, ...]:
    """A stack that does not answer is as bad as one that died. A load generator that cannot start is no such thing."""
    alive = isinstance(problem, Died) and stack.supervisor.died is None
    return () if alive else reasons_of(problem)


async def _phase(
    job: Job, stack: Stack, workload: Workload, phase: Phase, attempt: Attempt, phases: list[PhaseResult]
) -> None:
    """Appends what came of one phase to `phases`, also of one that lost its stack. Raises that Died or NotReady."""
    command = stack.host.client(workload, phase, attempt.folder)
    (attempt.folder / phase.artifact_dir).mkdir(parents=True, exist_ok=True)
    job.tell("phase_start", phase=phase.name, requests=phase.requests, concurrency=phase.concurrency)
    begun = time.monotonic()
    trouble: Died | NotReady | None = None
    try:
        given_up = services.maimed if workload.tool in services.TOOLS else None
        exit_ = await stack.supervisor.run(command, phase.timeout_s, given_up)
    except Died as problem:
        exit_, trouble = Exit(None, time.monotonic() - begun), problem
    result = measure_phase(
        workload, phase, attempt.folder, exit_.code, exit_.duration_s, job.deployment.gpus, command.log
    )
    if trouble is not None:
        # What else is wrong with the numbers comes of that.
        result = replace(result, verdict=Verdict("failed", reasons_of(trouble)))
    else:
        if exit_.code is None:
            why = exit_.why or f"{workload.tool} took longer than {phase.timeout_s:g} s and was killed"
            verdict = Verdict("failed", (why,)).also("failed", *result.verdict.reasons)
            result = replace(result, verdict=verdict)
        last = phase is workload.phases[-1]
        result, trouble = await _with_the_stack(job, stack, workload, result, last)
    job.tell(
        "phase_end",
        phase=phase.name,
        verdict=result.verdict.status,
        code=exit_.code,
        duration_s=round(exit_.duration_s, 3),
    )
    phases.append(result)
    if trouble is not None:
        raise trouble


async def _with_the_stack(
    job: Job, stack: Stack, workload: Workload, result: PhaseResult, last: bool
) -> tuple[PhaseResult, Died | NotReady | None]:
    """The result, and what is wrong with the stack where that is why it is not valid.

    A load generator that loses its server may be gone before the end of the server is heard of.
    """
    if result.verdict.valid:
        return result, None
    death = stack.supervisor.died
    try:
        # Before a phase that is run whatever happened `_between` asks.
        if death is None and workload.health_check and (last or not workload.continue_on_failure):
            await _healthy(job, stack, workload)
    except Died as problem:
        death = problem
    except NotReady as problem:
        verdict = Verdict("failed", (str(problem),)).also("failed", *result.verdict.reasons)
        return replace(result, verdict=verdict), problem
    if death is not None:
        result = replace(result, verdict=Verdict("failed", death.reasons))
    return result, death


def _not_run(rest: Sequence[Phase]) -> str:
    return f"phases not run after that: {', '.join(phase.name for phase in rest)}"


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
            if not workload.continue_on_failure:
                raise
            return (str(problem),)
    return ()


async def _healthy(job: Job, stack: Stack, workload: Workload) -> None:
    """One completion. Raises Died or NotReady."""
    for probe in job.deployment.ready:
        if probe.kind == "completion":
            limit = f"between_phases.timeout_s = {workload.between_timeout_s:g} s"
            look = seen(job, stack, "deployment", probe, workload.between_timeout_s, limit)
            await stack.supervisor.watch(look)
