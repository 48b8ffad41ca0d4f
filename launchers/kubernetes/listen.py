"""The log of a Job's pod, followed through every break, until its last word.

Takes lines; gives them to the collector. Never does: deciding that a Job is over.
"""

from __future__ import annotations

import asyncio
import contextlib

from compiler.manifests.benchmark import CONTAINER
from launchers.kubernetes.api import Refused, Silent
from launchers.kubernetes.collect import Collector
from launchers.kubernetes.served import Served

AGAIN_S = 0.5
"""Between two tries to read a log that is not there yet, or broke."""
TRIES = 4
"""Of reading the log of a Job that is over: its last lines may come late."""


class Listener:
    """What one Job says."""

    def __init__(self, served: Served, job: str, collector: Collector, wake: asyncio.Event) -> None:
        """`wake` is set whenever something was heard that changes what is done next."""
        self.problem: BaseException | None = None
        """What nobody can go on with: the store cannot be written, or a fault of ours."""
        self._served, self._job, self._collector, self._wake = served, job, collector, wake

    async def follow(self) -> None:
        """Listens until the last word, or until this is cancelled."""
        try:
            while not self._is_told():
                with contextlib.suppress(Refused, Silent):
                    await self._follow_once()
                if not self._is_told():
                    await asyncio.sleep(AGAIN_S)
        except Exception as problem:
            self.problem = problem
        finally:
            self._wake.set()

    async def rest(self) -> None:
        """Reads all that can still be read of a Job that is over."""
        for _ in range(TRIES):
            await self.whole()
            if self._is_told() or await self._pod() is None:
                break
            await asyncio.sleep(AGAIN_S)
        if self.problem is not None:
            raise self.problem

    async def whole(self) -> None:
        """Reads what there is of the log now, from its beginning."""
        for pod in await self._served.pods_of(self._job):
            with contextlib.suppress(Refused, Silent):
                async for line in self._served.cluster.log(
                    str(pod["metadata"]["name"]), CONTAINER, follow=False
                ):
                    await self._collector.take(self._job, line)

    async def _follow_once(self) -> None:
        pod = await self._pod()
        if pod is None:
            return
        async with contextlib.aclosing(self._served.cluster.log(pod, CONTAINER)) as lines:
            async for line in lines:
                await self._collector.take(self._job, line)
                if self._is_told():
                    self._wake.set()
                    return

    async def _pod(self) -> str | None:
        pods = await self._served.pods_of(self._job)
        return str(pods[-1]["metadata"]["name"]) if pods else None

    def _is_told(self) -> bool:
        heard = self._collector.of(self._job)
        return heard.over is not None or bool(heard.fault)
