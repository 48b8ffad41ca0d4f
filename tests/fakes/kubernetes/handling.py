"""One connection to the API server: requests in, answers, watches and logs out."""

import json
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .answering import decoded, events, read, write
from .asked import Asked
from .discovery import discovered
from .logs import Log
from .refusals import NoSuchPath, Refusal

if TYPE_CHECKING:
    from .server import ApiServer


def handler(server: "ApiServer") -> type[BaseHTTPRequestHandler]:
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
                self.say(201, server.access.review(decoded(body, content)))
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
                self.say(200, read(server, asked))
            else:
                self.say(*write(server, asked, body, self.headers.get("Content-Type", "")))

        def watch(self, asked: Asked) -> None:
            self.begin_stream("application/json")
            for event in events(server, asked):
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
