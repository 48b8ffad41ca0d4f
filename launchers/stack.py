"""A deployment on a machine: one start of it, from the first process to the last probe.

Taken from: `session`. Given to: `attempt`, which measures points on it.
Never does: restarting; measuring.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from compiler.emit import lmcache_text
from compiler.plan import Deployment, Probe
from launchers.host import Host
from launchers.probe import NotReady, until
from launchers.store import Store
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


async def become_ready(job: Job, stack: Stack) -> None:
    """Starts every process, then sees the deployment's own probes in order, all before one deadline.

    Raises Died or NotReady.
    """
    deployment, begun = job.deployment, time.monotonic()
    probes = {process.name: process.ready for process in deployment.processes}
    commands = [stack.host.command(process, stack.results_dir) for process in deployment.processes]
    _write_settings(job, stack, commands)

    limit = f"launch.ready_timeout_s = {deployment.ready_timeout_s:g} s"

    def left_s() -> float:
        return begun + deployment.ready_timeout_s - time.monotonic()

    async def ready(command: Command) -> None:
        probe = probes[command.name]
        if probe is not None:
            await seen(job, stack, command.name, probe, left_s(), limit)

    try:
        await stack.supervisor.start(commands, ready)
    finally:
        stack.durations_s["start"] = time.monotonic() - begun
    try:
        for probe in deployment.ready:
            await stack.supervisor.watch(seen(job, stack, "deployment", probe, left_s(), limit))
    finally:
        # Waiting in vain took as long.
        stack.durations_s["ready"] = time.monotonic() - begun - stack.durations_s["start"]
    job.tell("deployment_ready", durations_s=rounded(stack.durations_s))


async def log_gpus(job: Job, stack: Stack) -> None:
    """Starts the logs of the nodes' GPUs, which never make a start fail."""
    await asyncio.gather(
        *(
            stack.supervisor.attach(command)
            for command in stack.host.gpu_logs(job.deployment, stack.results_dir)
        )
    )


async def seen(job: Job, stack: Stack, name: str, probe: Probe, timeout_s: float, limit: str) -> None:
    """Returns when the probe holds; tells what is seen meanwhile. Raises NotReady, which names the `limit`."""
    bound = stack.host.probe(probe, stack.results_dir)
    await until(bound, timeout_s, lambda what: job.tell("probe", of=name, kind=probe.kind, seen=what), limit)


def _write_settings(job: Job, stack: Stack, commands: Sequence[Command]) -> None:
    for command in commands:
        command.workdir.mkdir(parents=True, exist_ok=True)
    if job.deployment.lmcache is not None:
        text = lmcache_text(job.deployment, stack.host.names(stack.results_dir))
        (stack.results_dir / "lmcache.yaml").write_text(text, encoding="utf-8")


def new_run(job: Job) -> Path:
    """A fresh `runs/<n>` below the deployment's folder: nothing of an earlier start can be seen in it."""
    parent = job.store.deployment_dir(job.deployment).resolve() / "runs"
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    folder = parent / str(number)
    folder.mkdir()
    return folder


def reasons_of(problem: Died | NotReady) -> tuple[str, ...]:
    """What a verdict says of a stack that died or was not ready."""
    return problem.reasons if isinstance(problem, Died) else (str(problem),)


def rounded(durations_s: Mapping[str, float]) -> dict[str, float]:
    """Durations to the millisecond."""
    return {stage: round(seconds, 3) for stage, seconds in durations_s.items()}
