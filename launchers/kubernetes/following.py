"""One start of a deployment and the Jobs on it, looked at whenever something may have changed.

Takes the objects and what the Jobs say; gives how a Job came to its end, or that the stack did before.
Never does: making or deleting anything; deciding what becomes of the points.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime

from compiler.plan import Deployment
from launchers.kubernetes import verdict
from launchers.kubernetes.collect import Collector
from launchers.kubernetes.listen import Listener
from launchers.kubernetes.served import Look, Served
from launchers.kubernetes.start import Start
from launchers.kubernetes.verdict import JobEnd
from launchers.refusal import Trouble
from launchers.results.result import Result
from launchers.supervise import Tell

LOOK_S = 5.0
"""Without news, everything is looked at again after so long."""
SOON_S = 0.2
"""Looks are no closer together, however near the time is at which something is decided."""
UNMADE_S = 60.0
"""A Job may be without a pod for so long, when the cluster says that it makes none."""


class Following:
    """One start."""

    def __init__(self, deployment: Deployment, served: Served, collector: Collector, tell: Tell) -> None:
        self.start = Start(deployment.ready_timeout_s, lambda text: tell("cluster", what=text))
        self._deployment, self._served, self._collector, self._tell = deployment, served, collector, tell
        self._looked: Look | None = None
        self._unmade_since: float | None = None
        self._shown = False

    async def to_its_end(self, job: str) -> JobEnd | None:
        """How the Job came to its end; null when the stack did before. Raises Refused, Silent, StoreError."""
        wake = asyncio.Event()
        async with self._heard(job, wake) as listener:
            while True:
                wake.clear()
                if listener.problem is not None:
                    raise listener.problem
                self._looked = look = await self._served.look(job)
                end = await self._end_of(job, look, listener)
                if end is not None or self.start.lost:
                    return end
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._due_s()):
                        await wake.wait()

    def ended_during(self, result: Result) -> list[str]:
        """Pods that ended while a point was measured."""
        first, last = (datetime.fromisoformat(t).timestamp() for t in (result.started_at, result.finished_at))
        ends = [] if self._looked is None else self.start.ends(self._looked)
        return [str(one) for one in ends if first <= one.at <= last]

    @contextlib.asynccontextmanager
    async def _heard(self, job: str, wake: asyncio.Event) -> AsyncIterator[Listener]:
        """`wake` is set by all that changes, and by what the Job says."""
        listener = Listener(self._served, job, self._collector, wake)
        kinds = (self._served.kind, ("batch/v1", "Job"), ("v1", "Pod"))
        watches = [self._served.cluster.changed(*kind, self._served.labels, wake) for kind in kinds]
        tasks = [asyncio.create_task(work) for work in (*watches, listener.follow())]
        try:
            yield listener
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def why_gone(self) -> str:
        """Why the deployment is not there any more. Who asks for something in a namespace that ends is told so."""
        cluster = self._served.cluster
        with contextlib.suppress(Trouble):
            space = await cluster.get("v1", "Namespace", cluster.namespace)
            if space is None or space["metadata"].get("deletionTimestamp"):
                return f"namespace {cluster.namespace} was deleted under us"
        return f"{self._served} was deleted by somebody else"

    async def _end_of(self, job: str, look: Look, listener: Listener) -> JobEnd | None:
        """What one look says of the Job: null while it goes on, or when the stack is lost (`start.lost`)."""
        heard = self._collector.of(job)
        over = heard.over is not None and not heard.was_stopped
        if not look.going:
            refused = await self._why_fewer_pods(look)
            self.start.lost = self.start.judge(look, time.monotonic(), refused)
        elif not over:
            self.start.lost = (await self.why_gone(),)
        if self.start.lost:
            return None
        self._show_ready()
        if look.job is not None and (end := verdict.job_end(look.job, look.measuring)) is not None:
            await listener.rest()
            return end
        if over:
            return JobEnd(True, "")
        if look.job is None:
            return JobEnd(False, "was deleted by somebody else", again=True)
        why = await self._why_no_pod(look, job)
        return JobEnd(False, f"Job {job} has no pod: {why}") if why else None

    def _due_s(self) -> float:
        """Seconds until the next look, where nothing is heard before."""
        return LOOK_S if self.start.ready else min(LOOK_S, max(SOON_S, self.start.due_s(time.monotonic())))

    async def _why_fewer_pods(self, look: Look) -> str:
        """Why there are fewer than there should be, while it is not ready: told at once."""
        if self.start.ready or len(look.serving) >= self._served.pods:
            return ""
        why = await self._served.refusal()
        if why:
            self.start.told(f"not every pod is made: {why}")
        return why

    async def _why_no_pod(self, look: Look, job: str) -> str:
        """Why none is expected any more: told at once, given up after a while."""
        if look.measuring:
            self._unmade_since = None
            return ""
        why = await self._served.refusal(job)
        if not why:
            return ""
        self.start.told(f"Job {job} has no pod: {why}")
        self._unmade_since = self._unmade_since or time.monotonic()
        return why if time.monotonic() - self._unmade_since > UNMADE_S else ""

    def _show_ready(self) -> None:
        """What a table of processes shows, once."""
        if self.start.ready and not self._shown:
            self._shown = True
            for process in self._deployment.processes:
                self._tell("process_ready", process=process.name)
