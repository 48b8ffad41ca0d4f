"""The API server over HTTP: paths, verbs, tokens, watches, logs; and how it can fail.

Threads, not an event loop: a watch is a loop that waits, and all sockets can be cut at once.
"""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import kinds
from .access import Access
from .discovery import discovered
from .kinds import Kind
from .logs import Log
from .objects import How, Objects
from .refusals import NoSuchPath, Refusal
from .selectors import selection
from .store import Change, Object

MERGE = ("application/merge-patch+json", "application/strategic-merge-patch+json")
APPLY = ("application/apply-patch+yaml", "application/apply-patch+cbor")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    verb: str  # create, get, list, watch, patch, update, delete, deletecollection
    path: str
    query: dict[str, str]
    kind: Kind | None
    version: str
    namespace: str | None
    name: str | None
    subresource: str | None
    agent: str = ""

    @property
    def how(self) -> How:
        manager = self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"
        dry_run = self.query.get("dryRun")
        if dry_run not in (None, "", "All"):
            raise Refusal(400, f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
        validation = self.query.get("fieldValidation", "Warn")
        return How(
            manager,
            dry_run == "All",
            self.query.get("force") == "true",
            validation,
            self.version,
            self.subresource,
        )


@dataclass
class Faults:
    """What the server does not do at the moment."""

    # Verb and plural of a request, each may be `*`; then what becomes of the next such request. Of a hook: how many
    # such requests pass before.
    answers: list[tuple[str, str, int, str]] = field(default_factory=list)
    hooks: list[tuple[str, str, Callable[[], object], int]] = field(default_factory=list)
    delay_s: float = 0.0
    warnings: list[str] = field(default_factory=list)


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
        self._http = _Http(("127.0.0.1", self.port), _handler(self))
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


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            time.sleep(server.faults.delay_s)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                self.handle_one(body)
            except Refusal as refusal:
                self.say(refusal.code, refusal.status())
            except NoSuchPath:
                self.text(404, b"404 page not found\n")
            except OSError:
                raise
            except Exception as error:
                server.trouble.append(error)
                self.say(500, Refusal(500, f"{type(error).__name__}: {error}").status())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def handle_one(self, body: bytes) -> None:
            user = server.access.user(self.headers.get("Authorization", ""))
            try:
                asked = server.parse(self.command, self.path, self.headers.get("User-Agent", ""))
            except NoSuchPath:
                path = urlsplit(self.path).path
                server.asked.append(Asked(self.command, "get", path, {}, None, "", None, None, None))
                raise
            server.asked.append(asked)
            if asked.name == "selfsubjectaccessreviews" and asked.kind is None:
                server.planned_fault(asked)
                content = self.headers.get("Content-Type", "")
                self.say(201, server.access.review(_decoded(body, content)))
                return
            if asked.kind is None:
                found = discovered(asked.path, server.served)
                if isinstance(found, bytes):
                    self.text(200, found)
                else:
                    self.say(200, found)
                return
            server.access.check(user, asked.verb, asked.kind, asked.namespace, asked.name, asked.subresource)
            server.planned_fault(asked)
            if asked.subresource == "log":
                self.log(asked)
            elif asked.verb == "watch":
                self.watch(asked)
            elif asked.verb in ("get", "list"):
                self.say(200, _read(server, asked))
            else:
                self.say(*_write(server, asked, body, self.headers.get("Content-Type", "")))

        def watch(self, asked: Asked) -> None:
            self.begin_stream("application/json")
            for event in _events(server, asked):
                self.part(json.dumps(event).encode() + b"\n" if event else b"")
            self.part(None)

        def log(self, asked: Asked) -> None:
            query = asked.query
            log: Log = server.logs(asked.namespace, asked.name, query.get("container"))
            since = time.time() - int(query["sinceSeconds"]) if "sinceSeconds" in query else 0.0
            if "sinceTime" in query:
                since = _epoch(query["sinceTime"])
            follow, left = query.get("follow", "").lower() == "true", int(query.get("limitBytes", 1 << 60))
            tail = int(query["tailLines"]) if query.get("tailLines") else None
            cuts = server.cuts
            self.begin_stream("text/plain")
            for line in log.lines(since, tail, query.get("timestamps", "").lower() == "true", follow):
                line, left = line[:left], left - len(line)
                if line:
                    self.part(line)
                if left <= 0:
                    break
                if server.cuts != cuts:
                    raise ConnectionAbortedError
            self.part(None)

        def begin_stream(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()

        def part(self, data: bytes | None) -> None:
            """A chunk; None is the last. Nothing to say is a look whether anybody listens."""
            if data is None:
                self.wfile.write(b"0\r\n\r\n")
            elif data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def say(self, code: int, body: Any) -> None:
            self.text(code, json.dumps(body).encode(), "application/json")

        def text(self, code: int, data: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            if vars(threading.current_thread()).pop("cut", False):
                raise ConnectionAbortedError
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if code == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _epoch(text: str) -> float:
    """Whole seconds, as the API server hands them on."""
    return float(int(datetime.fromisoformat(text).timestamp()))


def _as(obj: Object, asked: Asked) -> Object:
    assert asked.kind is not None
    return {**obj, "apiVersion": asked.kind.api_version(asked.version), "kind": asked.kind.name}


def _read(server: ApiServer, asked: Asked) -> Any:
    kind, store = asked.kind, server.objects.store
    assert kind is not None
    if asked.name:
        return _as(server.objects.get(kind, asked.namespace, asked.name), asked)
    with store.lock:
        chosen = [_as(one, asked) for one in store.all(kind, asked.namespace) if selection(asked.query)(one)]
        meta = {"resourceVersion": str(store.version)}
    limit, start = int(asked.query.get("limit") or 0), int(asked.query.get("continue") or 0)
    if limit and start + limit < len(chosen):
        meta |= {"continue": str(start + limit)}
    chosen = chosen[start : start + limit] if limit else chosen
    return {
        "apiVersion": kind.api_version(asked.version),
        "kind": f"{kind.name}List",
        "metadata": meta,
        "items": chosen,
    }


def _write(server: ApiServer, asked: Asked, body: bytes, content: str) -> tuple[int, Any]:
    kind, objects, how = asked.kind, server.objects, asked.how
    assert kind is not None
    given = _decoded(body, content)
    if asked.verb == "create":
        return 201, _as(objects.create(kind, asked.namespace, given, how), asked)
    if asked.verb == "deletecollection":
        chosen = [one for one in objects.store.all(kind, asked.namespace) if selection(asked.query)(one)]
        for one in chosen:
            _delete(server, asked, one["metadata"]["name"], given)
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    assert asked.name is not None
    if asked.verb == "delete":
        return 200, _delete(server, asked, asked.name, given)
    if asked.verb == "update":
        return 200, _as(objects.replace(kind, asked.namespace, asked.name, given, how), asked)
    if content.split(";")[0] in APPLY:
        if not asked.query.get("fieldManager"):
            raise Refusal(
                400,
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
            )
        obj, new = objects.apply(kind, asked.namespace, asked.name, given, how)
        return (201 if new else 200), _as(obj, asked)
    if content.split(";")[0] in MERGE:
        return 200, _as(objects.patch(kind, asked.namespace, asked.name, given, how), asked)
    raise Refusal(
        415,
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(MERGE)}",
    )


def _decoded(body: bytes, content: str) -> Any:
    if not body:
        return {}
    if "protobuf" in content or "cbor" in content:
        raise Refusal(
            415, "the body of the request was in an unknown format - accepted media types include: json, yaml"
        )
    try:
        return json.loads(body)
    except ValueError as error:
        if "yaml" not in content:
            raise Refusal(400, f"couldn't get version/kind; json parse error: {error}") from None
    import yaml

    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise Refusal(400, f"error decoding YAML: {error}") from None


def _delete(server: ApiServer, asked: Asked, name: str, options: dict[str, Any]) -> Any:
    assert asked.kind is not None
    policy = asked.query.get("propagationPolicy") or options.get("propagationPolicy")
    if policy not in (None, "Orphan", "Background", "Foreground"):
        raise Refusal(
            422, f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{policy}"'
        )
    grace = asked.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
    uid = (options.get("preconditions") or {}).get("uid")
    dry_run = asked.query.get("dryRun") == "All"
    seconds = None if grace is None else int(grace)
    live = server.objects.delete(asked.kind, asked.namespace, name, policy, seconds, dry_run, uid)
    if server.objects.store.get(asked.kind, asked.namespace, name):
        return _as(live, asked)
    details = {"name": name, "kind": asked.kind.plural, "uid": live["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _events(server: ApiServer, asked: Asked) -> Iterator[Any]:
    """What a watch says; None now and then, when there is nothing to say. Ends after `timeoutSeconds`."""
    store, wanted, kind = server.objects.store, selection(asked.query), asked.kind

    def name_too(obj):
        return not asked.name or obj["metadata"]["name"] == asked.name

    cuts, expiries, begun = server.cuts, server.expiries, time.monotonic()
    limit_s = float(asked.query.get("timeoutSeconds") or 3600)
    given = asked.query.get("resourceVersion") or "0"
    server.watches += 1
    with store.lock:
        version = int(given) or store.version
        first = (
            []
            if int(given)
            else [one for one in store.all(kind, asked.namespace) if wanted(one) and name_too(one)]
        )
    for one in first:
        yield {"type": "ADDED", "object": _as(one, asked)}
    while time.monotonic() - begun < limit_s:
        if server.cuts != cuts:
            raise ConnectionAbortedError
        if version < store.oldest or server.expiries != expiries:
            said = f"too old resource version: {version} ({store.oldest})"
            yield {"type": "ERROR", "object": Refusal(410, said).status()}
            return
        for change in store.since(version):
            version = change.version
            event = _event(change, kind, asked.namespace, lambda one: wanted(one) and name_too(one))
            if event:
                yield {"type": event[0], "object": _as(event[1], asked)}
        store.wait(version, 0.1)
        yield None
    if asked.query.get("allowWatchBookmarks") == "true":
        assert kind is not None
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        yield {
            "type": "BOOKMARK",
            "object": {"kind": kind.name, "apiVersion": kind.api_version(asked.version), "metadata": meta},
        }


def _event(
    change: Change, kind: Kind | None, namespace: str | None, wanted: Any
) -> tuple[str, Object] | None:
    any_of = change.after or change.before
    assert any_of is not None
    if change.kind is not kind or (namespace and any_of["metadata"].get("namespace") != namespace):
        return None
    before = change.before is not None and wanted(change.before)
    after = change.after is not None and wanted(change.after)
    if not before and not after:
        return None
    kind_of = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    last = change.after if after else {**(change.before or {}), "metadata": {**any_of["metadata"]}}
    assert last is not None
    return kind_of, last
