"""What a reader pod runs: says files of the results volume in its log, from where the asker has them.

    python -m launchers.kubernetes.reader

Takes from the environment (SERVIX_WANTED, JSON) a list of `{"root", "deployment", "point", "attempt", "have"}`: short
digests, and the bytes that are there already by path; says `files` (path, size, checksum) and `chunk`s of each, and
`alive` before.
Never does: writing; following links; leaving the folder of an attempt.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launchers.kubernetes.frames import lines

WANTED = "SERVIX_WANTED"
CHUNK = 256 * 1024
"""Bytes of a file in one message."""
PIECE = 16 * 2**20
"""Bytes after which it is said that a checksum is still worked on: a log that is quiet for long is given up."""
OWN = frozenset({"result.json"})
"""What the asker has already."""


def main() -> int:
    """Exit code 0: all there is was said."""
    for index, wanted in enumerate(json.loads(os.environ[WANTED])):
        tell(index, wanted, _say)
    _say("over", {"code": 0})
    return 0


def tell(index: int, wanted: Mapping[str, Any], say: Callable[[str, Any], None]) -> None:
    """Says the files of the attempt that is `index`th in what was asked for."""
    folder = folder_of(wanted)
    found = dict(_files(folder)) if folder is not None else {}
    alive = lambda: say("alive", {"attempt": index})  # noqa: E731
    listed = [[name, path.stat().st_size, _checksum(path, alive)] for name, path in found.items()]
    say("files", {"attempt": index, "there": folder is not None, "files": listed})
    have = wanted.get("have") or {}
    for name, path in found.items():
        for offset, data in _chunks(path, int(have.get(name, 0))):
            # Text stays text, which packs far better than base64 of it.
            say("chunk", {"attempt": index, "path": name, "at": offset, "data": data.decode("latin-1")})


def folder_of(wanted: Mapping[str, Any]) -> Path | None:
    """The attempt's folder, whatever names the deployment and the point had then; null where there is none."""
    pattern = f"store/*-{wanted['deployment']}/*-{wanted['point']}/attempts/{int(wanted['attempt'])}"
    return next((path for path in Path(str(wanted["root"])).glob(pattern) if path.is_dir()), None)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink() and name not in OWN:
                yield str(path.relative_to(folder)), path


def _chunks(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(CHUNK):
            yield start, data
            start += len(data)


def _checksum(path: Path, alive: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(PIECE):
            found.update(data)
            alive()
    return found.hexdigest()


def _say(kind: str, data: Any) -> None:
    for line in lines(kind, data):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
