"""The frontend of a simulated deployment: it answers like Dynamo's, on the address of its pod."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """Serves from when it is made until it is closed; OSError when the address is taken."""

    def __init__(
        self,
        address: str,
        port: int,
        model: Callable[[], str],
        instances: Callable[[], dict[str, int]],
        delay_s: float,
    ) -> None:
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer((address, port), _handler(self, model, instances, delay_s))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(
    endpoint: Endpoint, model: Callable[[], str], instances: Callable[[], dict[str, int]], delay_s: float
) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            endpoint.asked.append(self.path)
            if self.path in ("/health", "/live", "/ready"):
                found = [
                    {"component": name, "endpoint": "generate"}
                    for name, n in instances().items()
                    for _ in range(n)
                ]
                self.say({"status": "healthy", "instances": found})
            elif self.path == "/v1/models":
                self.say(
                    {
                        "object": "list",
                        "data": [{"id": model(), "object": "model"}] if sum(instances().values()) else [],
                    }
                )
            else:
                self.say({"error": "not found"}, 404)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            endpoint.asked.append(self.path)
            if not self.path.startswith("/v1/"):
                self.say({"status": "success", "message": "KV cache cleared"})
            elif not sum(instances().values()):
                self.say({"error": "no instances"}, 503)
            else:
                self.complete(body)

        def complete(self, body: dict[str, Any]) -> None:
            tokens = int(body.get("max_tokens") or body.get("max_completion_tokens") or 8)
            usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": tokens + 8}
            head = {"id": "c-1", "created": int(time.time()), "model": model()}
            if not body.get("stream"):
                message = {"role": "assistant", "content": " word" * tokens}
                choice = {"index": 0, "message": message, "finish_reason": "length"}
                self.say({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for index in range(tokens):
                choice = {
                    "index": 0,
                    "delta": {"content": " word"},
                    "finish_reason": "length" if index + 1 == tokens else None,
                }
                self.chunk({**head, "object": "chat.completion.chunk", "choices": [choice]})
                time.sleep(delay_s)
            self.chunk({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            self.part(b"data: [DONE]\n\n")
            self.part(b"")

        def chunk(self, body: dict[str, Any]) -> None:
            self.part(b"data: " + json.dumps(body).encode() + b"\n\n")

        def part(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def say(self, body: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # who asked is gone
                self.close_connection = True

    return Answer
