"""Files that are there in full or not at all, and the one error of everything that writes below `output_dir`.

Taken from: `store`, `lock`, `results`. Never does: letting an OSError out without a path and a way out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launchers.refusal import Trouble

DRAFT = re.compile(r"\..+\.(?P<pid>\d{1,10})-[0-9a-f]{8}\.tmp", re.DOTALL)
"""Names of what `write_atomically` has begun and not finished; to be matched in full."""

_HINTS: Mapping[int, str] = {
    errno.ENOSPC: "free some space, or choose another folder with output_dir=...",
    errno.EDQUOT: "free some of your quota, or choose another folder with output_dir=...",
    errno.EFBIG: "files may not grow that large here (ulimit -f); choose another folder with output_dir=...",
    errno.ENOTDIR: "a file is where a folder should be; move it away, or choose another output_dir=...",
    errno.EISDIR: "a folder is where a file should be; move it away, or choose another output_dir=...",
    errno.EEXIST: "a file is where a folder should be; move it away, or choose another output_dir=...",
    errno.ENOLCK: "this file system has no locks; choose a folder on another one with output_dir=...",
    errno.ENAMETOOLONG: "choose a shorter folder with output_dir=...",
}
_HINT = "choose a folder that you may write to with output_dir=..."


class StoreError(Trouble):
    """The store cannot be read or written: "path: reason; what to do"."""

    def __init__(self, path: Path, reason: str, hint: str = _HINT) -> None:
        super().__init__(f"{path}: {reason}; {hint}")
        self.path, self.reason, self.hint = path, reason, hint


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError that names the path and what to do."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = _HINTS.get(error.errno or 0, _HINT)
        raise StoreError(Path(os.fsdecode(error.filename or path)), reason, hint) from error


def write_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes a file that is there in full or not at all, also after a power cut. Raises StoreError."""
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            # A name may hold half a surrogate pair: better written as an escape than not at all.
            with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        # The new name survives a power cut only when its folder is on disk, too.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def as_json(data: Any) -> str:
    """Text of one of our JSON files: indented, ends with a line break. Raises ValueError for NaN."""
    return json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
