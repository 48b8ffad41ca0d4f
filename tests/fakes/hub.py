"""A hub of models: the endpoints of huggingface.co that its own client asks when it downloads a repository.

`python -m tests.fakes.hub FOLDER [TOKEN]` serves FOLDER/<owner>/<name> on every address, to those who have the token.
The first line of standard output is the port, every further one a request.
"""

from __future__ import annotations

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""Every repository has this one, called main and v1."""
REVISIONS = ("main", "v1", COMMIT)


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    token: str | None = None

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        print(self.command, path, self.headers.get("Authorization", "-").partition(" ")[2][:3], flush=True)
        parts = path.strip("/").split("/")
        if self.token is not None and self.headers.get("Authorization") != f"Bearer {self.token}":
            self._error(401, "GatedRepo", "Access to this repository is restricted")
        elif parts[:2] == ["api", "models"] and len(parts) == 6 and parts[4] == "tree":
            self._tree("/".join(parts[2:4]))
        elif parts[:2] == ["api", "models"] and len(parts) in (4, 6):
            self._info("/".join(parts[2:4]), parts[5] if len(parts) == 6 else "main")
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._error(404, "EntryNotFound", f"there is nothing at {path}")

    def _files(self, name: str) -> list[Path]:
        return sorted(path for path in (self.folder / name).rglob("*") if path.is_file())

    def _tree(self, name: str) -> None:
        entries = [
            {
                "type": "file",
                "path": str(path.relative_to(self.folder / name)),
                "size": path.stat().st_size,
                "oid": _sum(path.read_bytes()),
            }
            for path in self._files(name)
        ]
        self._send(200, json.dumps(entries).encode())

    def _info(self, name: str, revision: str) -> None:
        files = self._files(name)
        if not files:
            return self._error(404, "RepoNotFound", "Repository not found")
        if revision not in REVISIONS:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        siblings = [{"rfilename": str(path.relative_to(self.folder / name))} for path in files]
        self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        return None

    def _file(self, name: str, revision: str, file: str) -> None:
        path = self.folder / name / file
        if revision not in REVISIONS or not path.is_file():
            return self._error(404, "EntryNotFound", f"no such file: {file}")
        data = path.read_bytes()
        self._send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{_sum(data)}"'})
        return None

    def _error(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _sum(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    Hub.token = sys.argv[2] if len(sys.argv) > 2 else None
    server = ThreadingHTTPServer(("", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()
