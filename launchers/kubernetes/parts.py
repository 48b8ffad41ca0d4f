"""Files that come in chunks: what has come stays, is gone on with, and becomes a file once its checksum is right.

Takes chunks in any order; leaves files below one folder. Never does: writing outside of it; a file that is not whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from launchers.atomic import guarded

PART = ".part"


@dataclass(slots=True)
class Parts:
    """The files of one attempt."""

    folder: Path
    came: Callable[[int], None] = lambda _: None
    """Hears how many bytes have come."""
    wanted: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Path -> size and checksum; empty until they are told."""
    told: bool = False
    wrong: set[str] = field(default_factory=set)
    """Files that came whole and do not fit their checksum."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.wanted.values())

    @property
    def missing(self) -> list[str]:
        """Files that are not whole yet."""
        return [name for name in self.wanted if not self._is_done(name)]

    def have(self) -> dict[str, int]:
        """Bytes that are here of each file."""
        found = {}
        if not self.folder.is_dir():
            return {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = str(path.relative_to(self.folder))
                found[name.removesuffix(PART)] = path.stat().st_size
        return found

    def tell(self, files: list[tuple[str, int, str]]) -> None:
        """What there is. Raises ValueError for a path that leaves the folder, StoreError."""
        self.told = True
        for name, size, checksum in files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} leaves the folder of the attempt")
            self.wanted[name] = (size, checksum)
            self.came(self._held(name))
            self._finish(name)

    def take(self, name: str, at: int, data: bytes) -> None:
        """A chunk. One that does not follow what is here is asked for again later. Raises StoreError."""
        if name not in self.wanted or self._is_done(name) or at != self._held(name):
            return
        path = self._part(name)
        with guarded(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)
        self.came(len(data))
        self._finish(name)

    def _finish(self, name: str) -> None:
        size, checksum = self.wanted[name]
        path, target = self._part(name), self.folder / name
        if self._is_done(name) or self._held(name) < size:
            return
        with guarded(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            with path.open("rb") as file:
                is_right = hashlib.file_digest(file, "sha256").hexdigest() == checksum
            if is_right:
                path.replace(target)
                self.wrong.discard(name)
            else:
                path.unlink()
                self.came(-size)
                self.wrong.add(name)

    def _is_done(self, name: str) -> bool:
        path = self.folder / name
        return path.is_file() and path.stat().st_size == self.wanted[name][0]

    def _held(self, name: str) -> int:
        for path in (self.folder / name, self._part(name)):
            if path.is_file():
                return path.stat().st_size
        return 0

    def _part(self, name: str) -> Path:
        return self.folder / f"{name}{PART}"
