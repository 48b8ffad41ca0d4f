"""The accuracy run of a point: on the live stack, after the phases.

Taken from: `attempt`. Gives: an AccuracyResult, whatever happens.
Never does: raising for a stack that died; reading a number without judging it.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from compiler.plan import Accuracy, Workload
from launchers.exits import ended
from launchers.probe import NotReady
from launchers.results.accuracy import measure_accuracy, not_measured
from launchers.results.result import AccuracyResult
from launchers.stack import Job, Stack, reasons_of
from launchers.store import Attempt
from launchers.supervise import Died


async def run(
    job: Job,
    stack: Stack,
    workload: Workload,
    asked: Accuracy,
    attempt: Attempt,
    healthy: Coroutine[Any, Any, None] | None,
) -> tuple[AccuracyResult, Died | NotReady | None]:
    """What came of it, and the death, or silence, that ended it.

    `healthy` is awaited first: it raises where the deployment does not answer any more.
    """
    job.tell("accuracy_start", accuracy=asked.name)
    begun, ending = time.monotonic(), None
    try:
        if healthy is not None:
            await healthy
        result = await _run(stack, workload, asked, attempt)
    except (Died, NotReady) as problem:
        ending = problem
        result = not_measured(asked, time.monotonic() - begun, *reasons_of(problem))
    job.tell(
        "accuracy_end",
        accuracy=asked.name,
        verdict=result.verdict.status,
        value=result.value,
        code=result.exit_code,
        duration_s=round(result.duration_s, 3),
    )
    return result, ending


async def _run(stack: Stack, workload: Workload, asked: Accuracy, attempt: Attempt) -> AccuracyResult:
    """Raises Died for a server that ended, and for a program that cannot be started."""
    setup, command = stack.host.accuracy(asked, attempt.folder)
    (attempt.folder / asked.artifact_dir).mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for each in filter(None, (setup, command)):
        exit_ = await stack.supervisor.run(each, asked.timeout_s)
        spent_s = time.monotonic() - begun
        if exit_.code is None:
            late = f"{each.name} took longer than accuracy.timeout_s = {asked.timeout_s:g} s and was killed"
            return not_measured(asked, spent_s, late, log=each.log)
        if each is not command and exit_.code != 0:
            return not_measured(asked, spent_s, ended(each.name, exit_.code), log=each.log)
    return measure_accuracy(asked, attempt.folder, exit_.code, spent_s, command.log, workload.max_error_rate)
