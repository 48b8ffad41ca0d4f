"""Requests that are given up, streams that break off: with a client whose answers come when they are wanted."""

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest
from fakes.kubernetes import kinds, opened
from lightkube.core.resource_registry import resource_registry

from launchers.kubernetes import api
from launchers.kubernetes.api import Cluster, Refused, Silent
from launchers.kubernetes.context import context_of


@pytest.fixture(autouse=True)
def _own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests in this process know pods by a class of lightkube's own."""
    monkeypatch.setattr(resource_registry, "_registry", {})
    api._resource.cache_clear()


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
            task = asyncio.create_task(cluster.find("v1", "Pod"))
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


class Writer(Client):
    """Takes an object as soon as `answer` is set, or fails then."""

    def __init__(self, problem: Exception | None = None) -> None:
        super().__init__()
        self.taken, self.given_up, self._problem = False, False, problem

    async def apply(self, wanted: Any, **_: Any) -> Any:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        if self._problem is not None:
            raise self._problem
        self.taken = True
        return wanted


OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}


@pytest.mark.parametrize("answers", ["in time", "never", "with a failure", "with a failure, too late"])
def test_a_write_is_waited_for_and_never_done_later(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    late = answers in ("never", "with a failure, too late")
    monkeypatch.setattr(api, "SETTLE_S", 0.05 if late else 10.0)
    complaints: list[dict[str, Any]] = []
    client = Writer(OSError("gone") if "failure" in answers else None)

    async def cancelled() -> bool:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with Cluster(lambda: client, print) as cluster:  # type: ignore[arg-type,return-value]
            task = asyncio.create_task(cluster.apply(OBJECT))
            async with asyncio.timeout(10):
                await client.asked.wait()
            task.cancel()
            await asyncio.sleep(0.01)
            if not late:
                client.answer.set()
            await asyncio.wait([task], timeout=10)
            client.answer.set()
            await asyncio.sleep(0.01)
            return task.cancelled()

    assert asyncio.run(cancelled())
    gc.collect()
    assert complaints == []
    assert (client.taken, client.given_up) == (answers == "in time", late)


class Speaker(Client):
    """A log of two lines, whose stream is quiet then."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    async def log(self, *_: Any, follow: bool = False, **__: Any) -> Any:
        self.open += 1
        try:
            yield "first"
            yield "second"
            if follow:
                await asyncio.Event().wait()
        finally:
            self.open -= 1


def test_a_stream_that_is_left_or_quiet_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "QUIET_S", 0.05)
    client = Speaker()

    async def read(most: int) -> list[str]:
        found = []
        async with Cluster(lambda: client, print) as cluster:  # type: ignore[arg-type,return-value]
            async with contextlib.aclosing(cluster.log("pod", "main")) as lines:
                async for line in lines:
                    found.append(line)
                    if len(found) == most:
                        break
            assert client.open == 0
        return found

    assert asyncio.run(read(1)) == ["first"]
    with pytest.raises(Silent, match="no answer in time"):
        asyncio.run(read(3))
    assert client.open == 0


def test_a_log_that_is_refused_for_long_leaves_connections_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image may take minutes to be pulled; the client has a hundred connections."""
    spec = {"containers": [{"name": "main", "image": "large"}]}

    async def ask() -> None:
        async with Cluster(context_of({}).connect, print) as cluster:
            for _ in range(120):
                with pytest.raises(Refused, match="waiting to start"):
                    async for _ in cluster.log("p", "main"):
                        pass
            async with asyncio.timeout(10):
                assert await cluster.get("v1", "Pod", "p") is not None

    with opened(tmp_path) as made:
        if not made.shares_files:
            pytest.skip("an image of a real cluster cannot be made to be missing")
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        made.fail_pull("large", "connection refused")
        made.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
        assert made.wait_until(lambda: bool(made.all(kinds.POD)[0]["status"].get("containerStatuses")))
        asyncio.run(ask())
