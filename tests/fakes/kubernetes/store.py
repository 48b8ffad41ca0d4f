"""The objects of the fake cluster: versions, history, and waiting for what comes next.

What is stored is never changed in place: a write puts a new object. So readers need no copies.
"""

import bisect
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .kinds import Kind

Object = dict[str, Any]
Key = tuple[Kind, str, str]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    kind: Kind
    before: Object | None
    after: Object | None  # None: deleted; `before` then carries the version of the deletion


class Store:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1
        self.oldest = 0  # a watch from before this version is told that it is expired
        self.history: list[Change] = []
        self._objects: dict[Key, Object] = {}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        with self.lock:
            return self._objects.get((kind, namespace or "", name))

    def all(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        with self.lock:
            found = [(key, obj) for key, obj in self._objects.items() if key[0] is kind]
        return [
            obj
            for key, obj in sorted(found, key=lambda one: one[0][1:])
            if not namespace or key[1] == namespace
        ]

    def everything(self) -> list[tuple[Kind, Object]]:
        with self.lock:
            return [(key[0], obj) for key, obj in self._objects.items()]

    def put(self, kind: Kind, obj: Object) -> Object:
        """Stores an object under the next version, which it carries then."""
        with self.lock:
            key = self._key(kind, obj)
            self.version += 1
            meta = {**obj["metadata"], "resourceVersion": str(self.version)}
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", now())
            obj = {**obj, "metadata": meta}
            self._note(kind, self._objects.get(key), obj)
            self._objects[key] = obj
            return obj

    def remove(self, kind: Kind, obj: Object) -> None:
        with self.lock:
            before = self._objects.pop(self._key(kind, obj), None)
            if before is not None:
                self.version += 1
                last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
                self._note(kind, last, None)

    def _key(self, kind: Kind, obj: Object) -> Key:
        return kind, obj["metadata"].get("namespace", "") if kind.namespaced else "", obj["metadata"]["name"]

    def _note(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        self.history.append(Change(self.version, kind, before, after))
        self.changed.notify_all()

    def forget_history(self) -> None:
        """What etcd does when it compacts: no watch can begin before now."""
        with self.lock:
            self.oldest = self.version
            self.history.clear()
            self.changed.notify_all()

    def since(self, version: int) -> list[Change]:
        with self.lock:
            return self.history[
                bisect.bisect_right(self.history, version, key=lambda change: change.version) :
            ]

    def wait(self, version: int, timeout_s: float) -> None:
        """Returns when something changed after that version, or after so long."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version or self.oldest > version, timeout_s)

    def wait_until(self, holds: Callable[[], object], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        for version in self._versions(deadline):
            if holds():
                return True
            self.wait(version, max(0.0, min(0.2, deadline - time.monotonic())))
        return bool(holds())

    def _versions(self, deadline: float) -> Iterator[int]:
        while time.monotonic() < deadline:
            yield self.version
