"""The commands around each start of a deployment: set-up of its nodes, then `pre_test`; in the end `post_test`.

Taken from: `session`. Gives: why one of them failed, with the end of its log.
Never does: judging what that means for a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from compiler.plan import Hook
from launchers.child import Died
from launchers.exits import ended
from launchers.stack import Job, Stack
from launchers.supervise import Supervisor

MOST_TOLD = 4
"""Nodes whose set-up failed that are told with the end of their logs."""


async def before(job: Job, stack: Stack) -> tuple[str, ...]:
    """Why the deployment must not be started; empty when it may be. Every node is set up, whatever others say."""
    setup = [hook for hook in job.deployment.hooks if hook.when == "node_setup"]
    # All nodes at once, and all failures are told: a cluster rarely has only one bad node.
    found = await asyncio.gather(*(_run(job, stack, stack.supervisor, hook) for hook in setup))
    wrong = [reasons for reasons in found if reasons]
    more = [f"{len(wrong) - MOST_TOLD} more nodes could not be set up"] if len(wrong) > MOST_TOLD else []
    if wrong:
        return (*(reason for reasons in wrong[:MOST_TOLD] for reason in reasons), *more)
    return await _all(job, stack, stack.supervisor, "pre_test")


async def after(job: Job, stack: Stack) -> tuple[str, ...]:
    """Why `post_test` failed; empty when it did not, or there is none. Everything has been stopped by now."""
    if not has_post_test(job):
        return ()
    async with stack.host.supervisor(job.tell) as supervisor:
        return await _all(job, stack, supervisor, "post_test")


def has_post_test(job: Job) -> bool:
    """Whether results have to wait for what comes after their stack."""
    return any(hook.when == "post_test" for hook in job.deployment.hooks)


async def _all(job: Job, stack: Stack, supervisor: Supervisor, when: str) -> tuple[str, ...]:
    hooks: Sequence[Hook] = [hook for hook in job.deployment.hooks if hook.when == when]
    return tuple([reason for hook in hooks for reason in await _run(job, stack, supervisor, hook)])


async def _run(job: Job, stack: Stack, supervisor: Supervisor, hook: Hook) -> tuple[str, ...]:
    command = stack.host.hook(hook, stack.results_dir)
    try:
        exit_ = await supervisor.run(command, hook.timeout_s)
    except Died as problem:
        return problem.reasons
    if exit_.code == 0:
        return ()
    where = f"{hook.name} on node {hook.node}, {stack.host.node_name(hook.node)},"
    late = f"{where} took longer than {hook.timeout_s:g} s (launch.hook_timeout_s) and was killed"
    how = late if exit_.code is None else ended(where, exit_.code)
    reasons = Died(hook.name, exit_.code, command.log, how).reasons
    job.tell("hook_failed", hook=hook.name, reasons=reasons)
    return reasons
