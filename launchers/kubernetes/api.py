"""The API server, through lightkube: objects are plain data, every request has an end, every refusal has words.

Takes plain objects and names; gives plain objects, or null where there is none.
Never does: giving up at the first silence (a server that is restarted is back after a minute); choosing a context.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from launchers.refusal import Trouble

if TYPE_CHECKING:
    from lightkube import AsyncClient

T = TypeVar("T")
Object = dict[str, Any]

MANAGER = "servix"
"""Who owns the fields that are applied here."""
REQUEST_S = 30.0
"""No answer to a request takes longer."""
SILENCE_S = 90.0
"""An API server may be away for so long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
SETTLE_S = 10.0
"""A write that is under way when all is to end is waited for so long."""
WATCH_S = 30.0
"""Without news, objects are looked at again after so long."""
QUIET_S = 60.0
"""A log that is followed and says nothing for so long is asked for anew: its connection may be dead."""

GLOBAL = frozenset(
    {"Node", "Namespace", "StorageClass", "CustomResourceDefinition", "SelfSubjectAccessReview"}
)
_PLURALS = {"StorageClass": "storageclasses"}


class Refused(Trouble):
    """The API server does not take a request, and asking again changes nothing. The message is its own."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(f"{what}: {said}")
        self.status, self.said = status, said


class Denied(Refused):
    """The credentials are no longer good (401), or do not suffice (403)."""


class Exists(Refused):
    """There is an object of that name already."""


class Silent(Trouble):
    """The API server does not answer, and has not for long."""


class _Away(Exception):
    """One request had no answer, or one that says: later."""


def resource(version: str, kind: str) -> Any:
    """lightkube's class of a kind, as plain data."""
    group, _, number = version.rpartition("/")
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return _resource(group, number, kind, plural)


@cache
def _resource(group: str, version: str, kind: str, plural: str) -> Any:
    from lightkube.generic_resource import create_global_resource, create_namespaced_resource

    make = create_global_resource if kind in GLOBAL else create_namespaced_resource
    return make(group, version, kind, plural)


class Cluster:
    """A namespace of a cluster, as an asynchronous context manager."""

    def __init__(
        self,
        connect: Callable[[], AsyncClient],
        say: Callable[[str], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        """`connect` gives a client of lightkube; `say` tells a person one line."""
        self._connect, self._say, self._silence_s = connect, say, silence_s
        self._client: AsyncClient | None = None
        self._away_since: float | None = None

    async def __aenter__(self) -> Cluster:
        from lightkube.core.exceptions import ConfigError

        try:
            # Certificates that a kubeconfig names are read now.
            self._client = self._connect()
        except (ConfigError, OSError, ValueError) as problem:
            raise _unusable("connect", problem) from problem
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(REQUEST_S):
                    await self._client.close()

    @property
    def namespace(self) -> str:
        return str(self.client.namespace)

    @property
    def client(self) -> AsyncClient:
        if self._client is None:
            raise RuntimeError("the cluster is not entered")
        return self._client

    async def get(self, version: str, kind: str, name: str) -> Object | None:
        """The object; null where there is none. Raises Refused, Silent."""
        try:
            found = await self.ask(
                f"get {kind} {name}", lambda: self.client.get(resource(version, kind), name)
            )
        except Refused as problem:
            if problem.status == 404:
                return None
            raise
        return dict(found)

    async def find(
        self,
        version: str,
        kind: str,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Objects with these labels and fields. Raises Refused, Silent."""

        async def all_of_them() -> list[Object]:
            asked = self.client.list(
                resource(version, kind),
                labels=dict(labels) if labels else None,
                fields=dict(fields) if fields else None,
            )
            return [{"apiVersion": version, "kind": kind, **found} async for found in asked]

        return await self.ask(f"list {kind}", all_of_them)

    async def apply(self, wanted: Object, dry_run: bool = False) -> Object:
        """Makes an object as it is wanted (server-side apply). Raises Refused, Silent."""
        kind = resource(str(wanted["apiVersion"]), str(wanted["kind"]))
        what = f"{'check' if dry_run else 'apply'} {wanted['kind']} {wanted['metadata']['name']}"
        asked = lambda: self.client.apply(  # noqa: E731
            kind(wanted), field_manager=MANAGER, force=True, dry_run=dry_run
        )
        return dict(await self.ask(what, asked if dry_run else _whole(asked)))

    async def create(self, wanted: Object, dry_run: bool = False) -> Object:
        """Makes an object that must not be there yet. Raises Exists, Refused, Silent."""
        kind = resource(str(wanted["apiVersion"]), str(wanted["kind"]))
        what = f"create {wanted['kind']} {(wanted.get('metadata') or {}).get('name', '')}".rstrip()
        asked = lambda: self.client.create(kind(wanted), dry_run=dry_run, field_manager=MANAGER)  # noqa: E731
        return dict(await self.ask(what, asked if dry_run else _whole(asked)))

    async def delete(self, version: str, kind: str, name: str) -> None:
        """Has the object deleted after all that it owns. One that is not there is fine. Raises Refused, Silent."""
        from lightkube.types import CascadeType

        asked = lambda: self.client.delete(  # noqa: E731
            resource(version, kind), name, cascade=CascadeType.FOREGROUND
        )
        try:
            await self.ask(f"delete {kind} {name}", asked)
        except Refused as problem:
            if problem.status != 404:
                raise

    async def gone(
        self, version: str, kind: str, name: str, timeout_s: float, uid: str | None = None
    ) -> bool:
        """Whether an object that was deleted is gone in time: with `uid`, this very one. Raises Refused, Silent."""
        deadline, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
        # A watch that is opened after the end never tells of it.
        while (found := await self.get(version, kind, name)) is not None:
            if uid not in (None, found["metadata"].get("uid")):
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 2.0)
        return True

    async def changed(self, version: str, kind: str, labels: Mapping[str, str], wake: asyncio.Event) -> None:
        """Sets `wake` whenever such an object may have changed. Runs until it is cancelled.

        Who is woken looks at everything anew: a gap in a watch, or its expiry, loses nothing.
        """
        while True:
            with contextlib.suppress(Refused, _Away):
                await self._watched(version, kind, labels, wake)
            wake.set()
            await asyncio.sleep(1.0)

    async def _watched(self, version: str, kind: str, labels: Mapping[str, str], wake: asyncio.Event) -> None:
        with _translated(f"watch {kind}"):
            stream = self.client.watch(resource(version, kind), labels=dict(labels))
            try:
                async with asyncio.timeout(WATCH_S):
                    async for _ in stream:
                        wake.set()
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

    async def log(self, pod: str, container: str, follow: bool = True) -> AsyncGenerator[str, None]:
        """Lines of a pod's log from its beginning; with `follow`, until its end or a silence.

        Raises Refused for a pod that has no log yet, `Silent` when the stream broke: come again.
        """
        try:
            with _translated(f"log of pod {pod}"):
                if follow:
                    # lightkube does not close a stream that is refused, which costs a connection each time: after a
                    # hundred of them no request gets any. So what would be refused is asked for as a whole.
                    async for _ in self._lines(pod, container, tail_lines=1):
                        pass
                async with contextlib.aclosing(self._lines(pod, container, follow=follow)) as lines:
                    async for line in lines:
                        yield line
        except _Away as problem:
            raise Silent(str(problem)) from problem

    async def _lines(self, pod: str, container: str, **how: Any) -> AsyncGenerator[str, None]:
        stream: Any = self.client.log(pod, container=container, newlines=False, **how)
        async with contextlib.aclosing(stream):
            while True:
                async with asyncio.timeout(QUIET_S):
                    try:
                        line = await anext(stream)
                    except StopAsyncIteration:
                        return
                yield line

    async def ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        """The answer; asked again while the server is away. Raises Refused, Silent."""
        started, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                # Not wait_for: in Python 3.11 it forgets a cancellation that comes together with the answer.
                with _translated(what):
                    async with asyncio.timeout(REQUEST_S):
                        answer = await request()
            except _Away as problem:
                left = started + self._silence_s - time.monotonic()
                if left <= 0:
                    raise Silent(
                        f"the API server has not answered for {self._silence_s:g} s: {problem}"
                    ) from problem
                if self._away_since is None and time.monotonic() - started > 1:
                    self._away_since = started
                    self._say(f"the API server does not answer ({problem}); asking again")
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if self._away_since is not None:
                away_s, self._away_since = time.monotonic() - self._away_since, None
                self._say(f"the API server answers again after {away_s:.0f} s")
            return answer


def _whole(request: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """The same request, whose answer is waited for although it is cancelled: what is made by it must not appear
    after everything was deleted."""

    async def asked() -> T:
        task = asyncio.ensure_future(request())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                await asyncio.wait([task], timeout=SETTLE_S)
            finally:
                task.cancel()
                # Whatever came of it: asked for, so that asyncio does not complain about it.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    return asked


@contextlib.contextmanager
def _translated(what: str):  # type: ignore[no-untyped-def]
    """lightkube's exceptions, and those of its HTTP client, as ours."""
    import httpx2
    from lightkube.core.exceptions import ConfigError

    try:
        yield
    except httpx2.HTTPStatusError as problem:
        raise _refusal(what, problem) from problem
    except TimeoutError as problem:
        raise _Away(f"{what}: no answer in time") from problem
    except httpx2.HTTPError as problem:
        raise _Away(f"{what}: {str(problem) or type(problem).__name__}") from problem
    except (ConfigError, FileNotFoundError, PermissionError) as problem:
        # Plugins that give tokens are run when they are needed.
        raise _unusable(what, problem) from problem
    except (OSError, KeyError, ValueError, RuntimeError) as problem:
        # What a proxy answers may be no JSON; a stream's refusal cannot be read by lightkube.
        raise _Away(f"{what}: {str(problem) or type(problem).__name__}") from problem


def _unusable(what: str, problem: Exception) -> Denied:
    return Denied(what, 401, f"the kubeconfig's credentials cannot be used: {problem}")


def _refusal(what: str, problem: Any) -> Exception:
    """A status that is no success: words of the server, and whether to ask again."""
    status = getattr(problem, "status", None)
    code = getattr(status, "code", None)
    response = getattr(problem, "_response", None) or getattr(problem, "response", None)
    if code is None:
        code = response.status_code if response is not None else 0
    said = " ".join(str(getattr(status, "message", "") or problem).split())
    if code == 401:
        return Denied(what, code, "the credentials have expired or are not valid; log in again")
    if code == 403:
        quota = "exceeded quota" in said
        return Refused(what, code, said) if quota else Denied(what, code, said)
    if code == 409 and "already exists" in said:
        return Exists(what, code, said)
    if code == 500 and any(word in said for word in ("typed patch", "not declared in schema")):
        return Refused(what, code, said)
    if code in (0, 408, 410, 429) or code >= 500:
        return _Away(f"{what}: {said}")
    return Refused(what, code, said)


def names(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of objects."""
    return [str((one.get("metadata") or {}).get("name")) for one in found]
