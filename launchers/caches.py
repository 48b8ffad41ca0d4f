"""What is in the prefix caches when a point begins: they are emptied by the engine's own means, where it has any.

Taken from: `session`, before each point on a stack. Gives: what was done, for the result.
Never does: anything between the phases of a point, which are meant to follow on each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compiler.plan import Point, Reset
from launchers.exits import ended
from launchers.results.tail import tail
from launchers.stack import Job, Stack
from launchers.supervise import Died

LINES = 50
"""Read of the log for its last one; with fewer a line of trouble further up would come in its place."""
GRACE_S = 5.0
"""The command keeps its own deadline and then says what it waited for."""


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches before a point."""

    state: Literal["fresh", "reset", "kept"]
    notes: tuple[str, ...] = ()
    """Why they could not be reset."""
    lost: tuple[str, ...] = ()
    """Why nothing more can be measured on this stack; empty when it is fine."""
    durations_s: Mapping[str, float] = field(default_factory=dict)
    """`reset`: seconds that took; empty where nothing was tried."""


async def before(job: Job, stack: Stack, point: Point, measured: Sequence[Point]) -> Caches:
    """The caches that `point` meets after those `measured` on this stack, reset if the engine can.

    Caches that stay although they hold this point's prompts cost the stack.
    """
    if not measured:
        return Caches("fresh")
    if job.deployment.reset is None:
        return Caches("kept")
    seconds, reason = 0.0, ""
    try:
        seconds, reason = await _reset(job.deployment.reset, stack, len(measured))
    except Died as problem:
        if stack.supervisor.died is not None:
            return Caches("kept", lost=problem.reasons)
        reason = str(problem)
    job.tell("caches_reset", ok=not reason, reason=reason, duration_s=round(seconds, 3))
    if not reason:
        return Caches("reset", durations_s={"reset": seconds})
    told = f"the prefix caches were not reset: {reason}"
    again = _seeds([point]) & _seeds(measured)
    if again:
        return Caches("kept", lost=(f"{told}; they hold what seed {min(again)} asks",))
    return Caches("kept", (told,), durations_s={"reset": seconds})


def _seeds(points: Sequence[Point]) -> set[int]:
    workloads = [point.workload for point in points if point.workload is not None]
    seeds = [phase.random_seed for workload in workloads for phase in workload.phases]
    return {seed for seed in seeds if seed is not None}


async def _reset(reset: Reset, stack: Stack, number: int) -> tuple[float, str]:
    """Seconds it took, and why it failed. Raises Died for a server that ended, and when it cannot be started."""
    command = stack.host.reset(reset, stack.results_dir, number)
    exit_ = await stack.supervisor.run(command, reset.timeout_s + GRACE_S)
    if exit_.code == 0:
        return exit_.duration_s, ""
    late = f"{command.name} took longer than launch.reset_timeout_s = {reset.timeout_s:g} s and was killed"
    how = late if exit_.code is None else ended(command.name, exit_.code)
    return exit_.duration_s, ": ".join([how, *tail(command.log, LINES).splitlines()[-1:]])
