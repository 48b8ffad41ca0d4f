"""A small server that can be told to misbehave: slow, dying, deaf to TERM, with children that run away.

Answers like Dynamo's frontend: /health with instances, /v1/models, /v1/chat/completions. Without --port
nothing listens.
"""

import argparse
import ctypes
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="listen here")
    parser.add_argument("--slow", type=float, default=0, help="seconds before it listens")
    parser.add_argument("--die-after", type=float, help="exit after so many seconds")
    parser.add_argument("--die-if", type=Path, help="exit as soon as this file is there; it is taken away")
    parser.add_argument("--silent-if", type=Path, help="completions are 503 as soon as this file is there")
    parser.add_argument("--code", type=int, default=0, help="exit code of that")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--run-away", action="store_true", help="leave a child in a session of its own")
    parser.add_argument("--title", action="store_true", help="overwrite what /proc shows of the environment")
    parser.add_argument("--flap", action="store_true", help="every second answer is 503")
    parser.add_argument("--instances", default="", help="component=count,...")
    parser.add_argument("--model", default="m")
    parser.add_argument("--name", default="server")
    return parser.parse_args()


def overwrite_environment() -> None:
    """What setproctitle does to its process, and every service of AIPerf with it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    ctypes.memset(start, 0, end - start)


def answer(options: argparse.Namespace) -> type[http.server.BaseHTTPRequestHandler]:
    counts = dict(part.split("=") for part in options.instances.split(",") if part)
    instances = [
        {"component": component, "endpoint": endpoint}
        for component, count in counts.items()
        for endpoint in ["generate"] * int(count) + ["other"]
    ]
    bodies = {
        "/health": {"instances": instances},
        "/v1/models": {"data": [{"id": options.model}] if options.model else []},
        "/v1/chat/completions": {"choices": [{"index": 0}] if options.model else []},
    }

    class Answer(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            type(self).asked += 1
            body = json.dumps(bodies.get(self.path)).encode()
            flapping = options.flap and self.asked % 2
            self.send_response(503 if flapping else 200 if self.path in bodies else 404)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if options.silent_if and options.silent_if.exists():
                self.send_error(503)
                return
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    return Answer


def serve(options: argparse.Namespace) -> None:
    time.sleep(options.slow)
    http.server.ThreadingHTTPServer((options.host, options.port), answer(options)).serve_forever()


def main() -> None:
    options = arguments()
    if options.silent_if:
        options.silent_if.unlink(missing_ok=True)  # a new one is well again
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.run_away:
        words = [sys.executable, __file__, "--ignore-term", "--name", f"child of {options.name}"]
        subprocess.Popen(words, start_new_session=True)
    if options.title:
        overwrite_environment()
    print(f"{options.name}: hello", flush=True)
    if options.port:
        threading.Thread(target=serve, args=(options,), daemon=True).start()
    started = time.monotonic()
    while options.die_after is None or time.monotonic() - started < options.die_after:
        if options.die_if and options.die_if.exists():
            options.die_if.unlink()
            break
        time.sleep(0.01)
    print(f"{options.name}: last words", flush=True)
    os._exit(options.code)


if __name__ == "__main__":
    main()
