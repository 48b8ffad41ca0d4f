"""Requests that are given up at the moment of their answer, with a client whose answers come when they are wanted."""

import asyncio
from typing import Any

import pytest

from launchers.kubernetes.api import Cluster


class Client:
    """Lists nothing, as soon as `answer` is set."""

    namespace = "bench"

    def __init__(self) -> None:
        self.answer, self.asked = asyncio.Event(), asyncio.Event()

    async def list(self, *_: Any, **__: Any) -> Any:
        self.asked.set()
        await self.answer.wait()
        for found in ():
            yield found

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("turns", range(4))
def test_who_is_cancelled_as_the_answer_comes_stops_asking(turns: int) -> None:
    """`turns` of the event loop after the answer: it may have been given on by then, or be on its way."""

    async def cancelled() -> tuple[bool, bool]:
        client = Client()
        async with Cluster(lambda: client, print) as cluster:  # type: ignore[arg-type,return-value]
            task = asyncio.create_task(cluster.find("servix.dev/v1", "Answer"))
            async with asyncio.timeout(10):
                await client.asked.wait()
            client.answer.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            told = task.cancel()
            await asyncio.wait([task], timeout=10)
            return told, task.cancelled()

    told, cancelled_ = asyncio.run(cancelled())
    assert cancelled_ == told
