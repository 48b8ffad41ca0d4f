"""The API server over HTTP: paths, verbs, tokens, watches, logs; and how it can fail.

Threads, not an event loop: a watch is a loop that waits, and all sockets can be cut at once.
"""

import contextlib
import socket
import ssl
import threading
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import kinds
from .access import Access
from .asked import Asked, Faults
from .handling import handler
from .kinds import Kind
from .objects import Objects
from .refusals import NoSuchPath, Refusal


class ApiServer:
    def __init__(
        self, objects: Objects, access: Access, logs: "LogOf", tls: ssl.SSLContext | None = None
    ) -> None:
        self.objects, self.access, self.logs, self.faults = objects, access, logs, Faults()
        self.tls = tls
        self.trouble: list[Exception] = []  # faults of this server itself
        self.asked: list[Asked] = []
        self.cuts = 0  # how often watches were cut; each looks whether it grew
        self.expiries = 0
        self.watches = 0  # that began
        self._http: _Http | None = None
        self.port = 0
        self.open()

    def cut_answer(self) -> None:
        """For a hook: the request is done, and whoever asked does not hear so."""
        threading.current_thread().cut = True  # type: ignore[attr-defined]

    def open(self) -> None:
        self._http = _Http(("127.0.0.1", self.port), handler(self))
        self._http.tls = self.tls
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """No more connections, and those that are there are cut."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.cut()
            self._http = None

    def parse(self, method: str, target: str, agent: str = "") -> Asked:
        """What a request means; NoSuchPath when nothing is there."""
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        words = [word for word in parts.path.split("/") if word]
        if words[:1] == ["api"] and len(words) > 2:
            group, version, rest = "", words[1], words[2:]
        elif words[:1] == ["apis"] and len(words) > 3:
            group, version, rest = words[1], words[2], words[3:]
        else:
            return Asked(method, "get", parts.path, query, None, "", None, None, None, agent)
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = kinds.BY_PLURAL.get((group, rest[0]))
        if rest[0] == "selfsubjectaccessreviews":
            return Asked(method, "create", parts.path, query, None, version, None, rest[0], None, agent)
        if kind is None or version not in self.served(kind):
            raise NoSuchPath
        name, sub = rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else None
        verb = _verb(method, name, query)
        return Asked(method, verb, parts.path, query, kind, version, namespace, name, sub, agent)

    def served(self, kind: Kind) -> tuple[str, ...]:
        """The versions of a kind; those of a custom resource are what its CRD says."""
        if kind is not kinds.DGD:
            return kind.versions
        crd = self.objects.store.get(kinds.CRDS, None, "dynamographdeployments.nvidia.com")
        return tuple(one["name"] for one in crd["spec"]["versions"] if one["served"]) if crd else ()

    def planned_fault(self, asked: Asked) -> None:
        here = (asked.kind.plural if asked.kind else asked.name) or ""
        here += f"/{asked.subresource}" if asked.subresource else ""
        for index, (verb, plural, do, passing) in enumerate(self.faults.hooks):
            if verb in ("*", asked.verb) and plural in ("*", here):
                if passing:
                    self.faults.hooks[index] = (verb, plural, do, passing - 1)
                    continue
                del self.faults.hooks[index]
                do()
                break
        for index, (verb, plural, code, message) in enumerate(self.faults.answers):
            if verb in ("*", asked.verb) and plural in ("*", here):
                del self.faults.answers[index]
                raise Refusal(code, message)


LogOf = Any
"""(namespace, pod, container) -> the Log of a container; a Refusal when there is none."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def __init__(self, *args: Any) -> None:
        self.sockets: set[socket.socket] = set()
        super().__init__(*args)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        self.sockets.add(request)
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.sockets.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for one in list(self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who asked is gone


def _verb(method: str, name: str | None, query: dict[str, str]) -> str:
    if method == "GET":
        watching = query.get("watch") in ("true", "1", "True")
        return "watch" if watching else "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}[method]
